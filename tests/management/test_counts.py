"""How many match: at once, or later."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from twisted_bulk.errors import QueueUnavailable
from twisted_bulk.management import counts
from twisted_bulk.management.counts import Counts


class CountsTests(TestCase):
    """A count that takes steps."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.counts = Counts(self.clock)
        self.steps = 0
        self.each, self.total = 10, 95
        self.wait: Deferred[None] | None = None

    async def some(self, cursor: str) -> tuple[int, str]:
        self.steps += 1
        begin = int(cursor or 0)
        if self.wait is not None and begin == counts.MAX_STEPS * self.each:
            await self.wait  # in the background
        end = min(self.total, begin + self.each)
        return end - begin, str(end) if end < self.total else ""

    async def test_small(self) -> None:
        """What is counted in a few steps is exact."""
        self.total = 25
        found = await self.counts.of("key", self.some)
        self.assertEqual(found, {"at_least": 25, "exact": 25, "age": 0.0})

    async def test_large(self) -> None:
        """Else it is counted in the background, once; later calls get that figure and its age."""
        self.wait = Deferred()
        for _ in range(2):
            found = await self.counts.of("key", self.some)
            self.assertEqual(found, {"at_least": 30, "exact": None, "age": None})
        self.wait.callback(None)
        self.wait, before = None, self.steps
        self.clock.advance(7)
        found = await self.counts.of("key", self.some)
        self.assertEqual(found, {"at_least": 30, "exact": 95, "age": 7.0})
        self.assertEqual(self.steps, before + counts.MAX_STEPS)
        self.clock.advance(counts.FRESH_SECONDS)
        self.total = 96
        found = await self.counts.of("key", self.some)
        self.assertEqual((found["exact"], found["age"]), (96, 0.0))

    async def test_many(self) -> None:
        """No more than the limit say, neither counts in the background nor figures."""
        self.patch(counts, "MAX_FIGURES", 3)
        self.wait = Deferred()
        for key in range(5):
            await self.counts.of(key, self.some)
        self.assertEqual(len(self.counts._counting), counts.MAX_COUNTING)
        self.wait.callback(None)
        self.wait = None
        for key in range(9):
            await self.counts.of(key, self.some)
        self.assertEqual(len(self.counts._figures), 3)

    async def test_broken(self) -> None:
        """A queue that goes away meanwhile is no error for anybody."""
        self.wait = Deferred()
        await self.counts.of("key", self.some)
        self.wait.errback(QueueUnavailable("away"))
        self.wait = None
        await self.counts.of("key", self.some)
        self.assertEqual((await self.counts.of("key", self.some))["exact"], 95)
