"""Work on threads, a bounded number of them at once."""

import threading

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.support.reactor import reactor
from twisted_bulk.errors import Unavailable
from twisted_bulk.system.threads import BoundedThreads


class BoundedThreadsTests(TestCase):
    """Two at once."""

    def setUp(self) -> None:
        self.threads = BoundedThreads(2, 3, "tests")
        self.gate = threading.Event()
        self.addCleanup(self.gate.set)
        self.running = self.most = 0

    def work(self, number: int) -> int:
        self.running += 1
        self.most = max(self.most, self.running)
        self.gate.wait(10)
        self.running -= 1
        return number

    def begin(self, number: int) -> Deferred[int]:
        return Deferred.fromCoroutine(self.threads.run(self.work, number))

    async def test_bounded(self) -> None:
        """No more run, and no more wait, than may; also when callers are gone."""
        calls = [self.begin(number) for number in range(5)]
        with self.assertRaises(Unavailable):
            await self.begin(5)
        for gone in (0, 1, 2):  # two that run, one that waits
            calls[gone].cancel()
            with self.assertRaises(CancelledError):
                await calls[gone]
        await deferLater(reactor, 0.05)
        self.assertEqual(self.most, 2)
        self.gate.set()
        self.assertEqual([await calls[3], await calls[4]], [3, 4])
        self.assertEqual(self.most, 2)

    async def test_errors(self) -> None:
        """An error is the caller's, and frees the thread."""
        for _ in range(5):
            with self.assertRaises(ZeroDivisionError):
                await self.threads.run(lambda: 1 // 0)
