"""Hosts in trouble, seen by several nodes."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.test_model import now
from tests.test_rate import Timed
from twisted_bulk.pace import Pace


class Watch:
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

    def node(self, most: int = 8) -> Pace:
        pace = Pace(self.store, Watch(self.store), most)  # type: ignore[arg-type]
        pace.connect(lambda: True, lambda: None)
        return pace

    def tell(self, *nodes: Pace) -> None:
        for node in nodes:
            now(node._tell())

    def test_halved_for_all(self) -> None:
        """Once a second at most, down to one; other hosts are not touched."""
        a, b = self.node(), self.node()
        seen = []
        for _ in range(5):
            for _ in range(20):
                a.bad("h", 0)
                b.bad("h", 0)
            self.tell(a, b)
            seen.append((a.allowed("h"), b.allowed("h")))
            self.store.now += 1
        self.assertEqual(seen, [(4, 4), (2, 2), (1, 1), (1, 1), (1, 1)])
        self.assertEqual(a.allowed("other"), 8)

    def test_at_once(self) -> None:
        """Who sees the trouble does not wait for the others."""
        a = self.node()
        a.bad("h", 0)
        self.assertEqual(a.allowed("h"), 4)
        a.bad("h", 7)
        self.assertEqual(a.allowed("h"), 0)

    def test_paused(self) -> None:
        """Retry-After holds for every node, up to ten minutes; then half is allowed."""
        a, b = self.node(), self.node()
        a.bad("h", 30)
        self.tell(a, b)
        self.assertEqual((a.allowed("h"), b.allowed("h")), (0, 0))
        self.store.now += 30
        self.assertEqual((a.allowed("h"), b.allowed("h")), (4, 4))
        a.bad("h", 1e9)
        self.tell(a, b)
        self.store.now += 601
        self.tell(b)
        self.assertEqual(b.allowed("h"), 2)

    def test_raised(self) -> None:
        """One more each second while it goes well, until nothing is left of it."""
        a, b = self.node(), self.node()
        for _ in range(4):
            a.bad("h", 0)
            self.tell(a)
            self.store.now += 1
        self.tell(b)
        seen = []
        for _ in range(8):
            for node in (a, b):
                for _ in range(50):
                    node.good("h")
            self.tell(a, b)
            seen.append(a.allowed("h"))
            self.store.now += 1
        self.assertEqual(seen, [2, 3, 4, 5, 6, 7, 8, 8])
        self.assertEqual(now(self.store.command("EXISTS", "bw:{bulkwav}:hosts")), 0)

    def test_forgotten(self) -> None:
        """A host that nobody asked any more is as any other after five minutes."""
        a, b = self.node(), self.node()
        a.bad("h", 0)
        self.tell(a)
        self.store.now += 301
        self.tell(b, a)
        self.assertEqual((a.allowed("h"), b.allowed("h")), (8, 8))
