"""Who is told of which changes, over a queue in memory."""

from typing import Any

from twisted.internet.task import Clock

from tests.support.brokers import OnMemory
from tests.support.queues import QueueTestCase
from twisted_bulk.errors import QueueUnavailable
from twisted_bulk.events import feed
from twisted_bulk.events.event import Event
from twisted_bulk.events.feed import ALL, LOOK_SECONDS, Feed
from twisted_bulk.jobs.group_model import Group, GroupPart


class Ear:
    """Keeps the numbers that it is told."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.ended = False

    def offer(self, *events: Event) -> None:
        self.heard += [event.number for event in events]

    def end(self) -> None:
        self.ended = True


class FeedTests(OnMemory, QueueTestCase):
    """One feed, of a queue with the groups a and b."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.clock, self.made = Clock(), list[str]()
        self.broken: Exception | None = None
        self.feed = Feed(self.queue, self.clock, self.event, self.brief)
        for name in ("a", "b"):
            part = GroupPart(size=1, payload=b"p")
            await self.queue.submit(Group(id=name, parts=[part], digest="d", spec=b"s", need=1))
        self.feed.startService()
        self.addCleanup(self.feed.stopService)

    async def event(self, key: str, number: int) -> Event:
        if key == "a" and self.broken is not None:
            raise self.broken
        self.made.append(key)
        return Event(number, "batch", b"")

    async def brief(self, key: str, number: int) -> Event:
        return Event(number, "batch", b"", key=key)

    def look(self) -> None:
        """One more look. The store in memory answers at once."""
        self.clock.advance(LOOK_SECONDS)

    async def test_told(self) -> None:
        """One listener is told of its group only, and each group is read once for all."""
        one, two, other, every = Ear(), Ear(), Ear(), Ear()
        await self.feed.listen("a", one)
        await self.feed.listen("a", two)
        await self.feed.listen("b", other)
        await self.feed.listen(ALL, every)
        self.look()
        self.assertEqual(self.made, [])
        await self.queue.prioritise_group("a", 3)
        await self.queue.prioritise_group("a", 4)
        self.look()
        last = (await self.queue.changes()).last
        self.assertEqual((one.heard, two.heard, other.heard), ([last], [last], []))
        self.assertEqual((every.heard, self.made), ([last], ["a"]))

    async def test_nobody(self) -> None:
        """While nobody listens the queue is not asked; then nothing is missed."""
        asked = list[Any]()
        self.patch(self.queue, "changes", asked.append)
        self.look()
        self.assertEqual(asked, [])

    async def test_comes_again(self) -> None:
        """Who left is told nothing; who comes later is told what is new."""
        one = Ear()
        await self.feed.listen("a", one)
        await self.queue.prioritise_group("a", 3)
        self.look()
        self.feed.leave("a", one)
        await self.queue.prioritise_group("a", 4)
        self.look()
        await self.feed.listen("a", one)
        self.look()
        self.assertEqual(len(one.heard), 1)
        await self.queue.prioritise_group("a", 5)
        self.look()
        self.assertEqual(len(one.heard), 2)

    async def test_many(self) -> None:
        """More changes than one call tells are told in the looks that follow."""
        self.patch(feed, "LIMIT", 1)
        one, two = Ear(), Ear()
        await self.feed.listen("a", one)
        await self.feed.listen("b", two)
        await self.queue.prioritise_group("a", 3)
        await self.queue.prioritise_group("b", 3)
        for heard in ((1, 0), (1, 1), (1, 1)):
            self.look()
            self.assertEqual((len(one.heard), len(two.heard)), heard)

    async def test_lost_data(self) -> None:
        """Numbers that begin anew, as the server lost its data, end nothing."""
        one, every = Ear(), Ear()
        await self.feed.listen("a", one)
        await self.feed.listen(ALL, every)
        self.look()
        for key in await self.keys():
            await self.store.command("DEL", key)
        self.look()
        self.look()
        self.assertEqual((one.heard, every.heard), ([0], [0]))
        part = GroupPart(size=1, payload=b"p")
        await self.queue.submit(Group(id="a", parts=[part], digest="d", spec=b"s", need=1))
        self.look()
        self.assertEqual((one.heard, every.heard), ([0, 1], [0, 1]))

    async def test_end(self) -> None:
        """The end of the service ends what listens."""
        one, two = Ear(), Ear()
        await self.feed.listen("a", one)
        await self.feed.listen("b", two)
        self.feed.stopService()
        self.assertTrue(one.ended and two.ended)
        late = Ear()
        await self.feed.listen("a", late)
        self.assertTrue(late.ended)

    async def test_broken_batch(self) -> None:
        """One that cannot be read is logged; the others are told, and it is told later."""
        one, two = Ear(), Ear()
        await self.feed.listen("a", one)
        await self.feed.listen("b", two)
        self.broken = ValueError("not readable")
        await self.queue.prioritise_group("a", 3)
        await self.queue.prioritise_group("b", 3)
        self.look()
        self.assertEqual((len(one.heard), len(two.heard)), (0, 1))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.broken = None
        await self.queue.prioritise_group("a", 4)
        self.look()
        self.assertEqual((len(one.heard), len(two.heard)), (1, 1))

    async def test_queue_away(self) -> None:
        """While the queue is away nothing is lost, and nothing is logged."""
        one = Ear()
        await self.feed.listen("a", one)
        await self.queue.prioritise_group("a", 3)
        self.broken = QueueUnavailable("away")
        self.look()
        self.broken = None
        self.look()
        self.assertEqual(len(one.heard), 1)

    async def test_last_leaves_in_a_look(self) -> None:
        """When the last one leaves while a look is under way, there is no further look."""
        one = Ear()
        await self.feed.listen("a", one)
        await self.queue.prioritise_group("a", 3)
        self.patch(one, "offer", lambda event: self.feed.leave("a", one))
        self.look()
        asked = list[Any]()
        self.patch(self.queue, "changes", asked.append)
        self.look()
        self.assertEqual(asked, [])
