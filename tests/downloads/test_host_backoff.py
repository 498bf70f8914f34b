"""Hosts in trouble, seen by several nodes."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.direct_store import now
from tests.support.timed_store import Timed
from twisted_bulk.downloads.host_backoff import HostBackoff
from twisted_bulk.errors import QueueUnavailable
from twisted_bulk.jobs.cluster import Cluster


class AttemptWatch:
    """A clock that follows the store's."""

    def __init__(self, store: Timed) -> None:
        self._store = store

    def seconds(self) -> float:
        return self._store.now

    def callLater(self, *arguments: Any) -> None:
        """Nobody waits."""


class PaceTests(SynchronousTestCase):
    """Halved, paused, raised again, forgotten."""

    def setUp(self) -> None:
        self.store = Timed()
        self.addCleanup(self.store.close)

    def node(self, most: int = 8) -> HostBackoff:
        backoff = HostBackoff(Cluster(self.store), AttemptWatch(self.store), most)  # type: ignore[arg-type]
        backoff.connect(lambda: True, lambda: None)
        return backoff

    def tell(self, *nodes: HostBackoff) -> None:
        for node in nodes:
            now(node._tell())

    def test_two_batches(self) -> None:
        """What one batch says of a host counts for it alone, on each node; two speak for all."""
        a, b = self.node(), self.node()
        for _ in range(3):
            a.bad("h", 7, 100.0, away=True)
        self.tell(a, b)
        for node in (a, b):
            self.assertEqual((node.allowed("h", 7), node.allowed("h", 8)), (0, 8))
            self.assertEqual((node.is_away("h", 7), node.is_away("h", 8)), (True, False))
            self.assertEqual(node.until("h", 8), 0.0)
            self.assertEqual(node.allowed("h", 0), 8)
        b.bad("h", 9, 0.0)
        self.tell(b, a)
        for node in (a, b):
            self.assertEqual((node.allowed("h", 8), node.is_away("h", 8)), (0, True))

    def test_halved_for_all(self) -> None:
        """Once a second at most, down to one; other hosts are not touched."""
        a, b = self.node(), self.node()
        seen = []
        for _ in range(5):
            for _ in range(20):
                a.bad("h", 1, 0)
                b.bad("h", 1, 0)
            self.tell(a, b)
            seen.append((a.allowed("h", 1), b.allowed("h", 1)))
            self.store.now += 1
        self.assertEqual(seen, [(4, 4), (2, 2), (1, 1), (1, 1), (1, 1)])
        self.assertEqual(a.allowed("other", 1), 8)

    def test_at_once(self) -> None:
        """Who sees the trouble does not wait for the others."""
        a = self.node()
        a.bad("h", 1, 0)
        self.assertEqual(a.allowed("h", 1), 4)
        a.bad("h", 1, 7)
        self.assertEqual(a.allowed("h", 1), 0)

    def test_paused(self) -> None:
        """Retry-After holds for every node, up to ten minutes; then half is allowed."""
        a, b = self.node(), self.node()
        a.bad("h", 1, 30)
        self.tell(a, b)
        self.assertEqual((a.allowed("h", 1), b.allowed("h", 1)), (0, 0))
        self.store.now += 30
        self.assertEqual((a.allowed("h", 1), b.allowed("h", 1)), (4, 4))
        a.bad("h", 1, 1e9)
        self.tell(a, b)
        self.store.now += 601
        self.tell(b)
        self.assertEqual(b.allowed("h", 1), 2)

    def test_raised(self) -> None:
        """One more each second while it goes well, until nothing is left of it."""
        a, b = self.node(), self.node()
        for _ in range(4):
            a.bad("h", 1, 0)
            self.tell(a)
            self.store.now += 1
        self.tell(b)
        seen = []
        for _ in range(8):
            for node in (a, b):
                for _ in range(50):
                    node.good("h")
            self.tell(a, b)
            seen.append(a.allowed("h", 1))
            self.store.now += 1
        self.assertEqual(seen, [2, 3, 4, 5, 6, 7, 8, 8])
        self.assertEqual(now(self.store.command("EXISTS", "bw:{bulkwav}:sources")), 0)

    def test_forgotten(self) -> None:
        """A host that nobody asked any more is as any other after five minutes."""
        a, b = self.node(), self.node()
        a.bad("h", 1, 0)
        self.tell(a)
        self.store.now += 301
        self.tell(b, a)
        self.assertEqual((a.allowed("h", 1), b.allowed("h", 1)), (8, 8))

    def away(self, node: HostBackoff, times: int = 3) -> None:
        """So many failures in a row that tell of the host."""
        for _ in range(times):
            node.bad("h", 1, 0, trouble=False, away=True)

    def test_away(self) -> None:
        """Three failures in a row, at whatever node: one request each at times further apart."""
        a, b = self.node(), self.node()
        self.away(a, 2)
        self.tell(a, b)
        self.assertEqual((a.allowed("h", 1), b.allowed("h", 1), b.is_away("h", 1)), (8, 8, False))
        self.away(b, 1)
        self.tell(b, a)
        self.assertTrue(a.is_away("h", 1) and b.is_away("h", 1))
        apart = []
        for _ in range(8):
            began = self.store.now
            while not a.allowed("h", 1):
                self.store.now += 0.5
            apart.append(self.store.now - began)
            self.assertEqual(a.allowed("h", 1), 1)
            self.away(a, 1)
            self.tell(a, b)
        self.assertEqual(apart, [1, 2, 4, 8, 15, 15, 15, 15])
        self.assertAlmostEqual(self.store.now - b.since("h"), sum(apart), delta=0.1)

    def test_back(self) -> None:
        """Its first answer, also one that is of no use, lets all ask again."""
        a, b = self.node(), self.node()
        self.away(a)
        self.tell(a, b)
        a.there("h")
        self.assertEqual((a.allowed("h", 1), b.allowed("h", 1)), (8, 0))
        self.tell(a, b)
        self.assertEqual((a.allowed("h", 1), b.allowed("h", 1)), (8, 8))

    def test_not_in_a_row(self) -> None:
        """Failures with answers between them add up to nothing, however late they are told."""
        a, b = self.node(), self.node()
        for _ in range(50):
            self.away(a, 2)
            a.good("h")
        self.away(a, 1)
        self.tell(a, b)
        self.assertEqual((a.is_away("h", 1), b.is_away("h", 1)), (False, False))
        self.assertEqual(b.allowed("h", 1), 8)

    def test_pause_outlasts_answers(self) -> None:
        """What was on its way when the host asked for a pause ends it for nobody."""
        a, b = self.node(), self.node()
        a.bad("h", 1, 300)
        a.good("h")
        self.tell(a, b)
        self.store.now += 2
        self.assertEqual((a.allowed("h", 1), b.allowed("h", 1)), (0, 0))
        self.assertGreater(b.until("h", 1), self.store.now + 290)

    def test_outage(self) -> None:
        """What was reported in vain, as the queue was away, is reported when it is back."""
        a, b = self.node(), self.node()
        changed: list[int] = []
        a.connect(lambda: True, lambda: changed.append(1))

        async def unavailable(*words: Any, deadline: float = 0) -> Any:
            raise QueueUnavailable("away")

        self.away(a)
        a.bad("other", 1, 100)
        run, vars(self.store)["run"] = self.store.run, unavailable
        a._exchange_now()
        self.assertEqual(changed, [1])  # time passes for who waits, though nobody can be asked
        self.store.now += 40
        vars(self.store)["run"] = run
        self.tell(a, b)
        self.assertTrue(a.is_away("h", 1) and b.is_away("h", 1))
        self.assertAlmostEqual(b.until("other", 1) - self.store.now, 60, delta=1)
