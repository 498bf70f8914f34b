"""The rate of the whole cluster, in a time that the test makes."""

import heapq
import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.direct_store import now
from tests.support.timed_store import Timed
from twisted_bulk.jobs.model import Ack, Work
from twisted_bulk.jobs.scripted import ScriptedQueue

SPAN = 60.0


class ClusterRateTests(SynchronousTestCase):
    """Starts a second, however many nodes take part and however late each of them is."""

    def starts(self, qps: float, nodes: int, late: float) -> list[float]:
        """When jobs were started; each node comes back when it was told to, or a little later."""
        store = Timed()
        self.addCleanup(store.close)
        queue = ScriptedQueue(store, "q", 1_000_000)
        now(queue.control({"qps": qps}))
        jobs = [Work(id=f"{n}", payload=b"") for n in range(round(qps * SPAN * 1.2) + 50)]
        now(queue.enqueue(jobs))
        dice, began = random.Random(1), store.now
        turns: list[tuple[float, int]] = [(began, node) for node in range(nodes)]
        found: list[float] = []
        while turns:
            store.now, node = heapq.heappop(turns)
            if store.now > began + SPAN:
                break
            reserved = now(queue.reserve(f"n{node}", 10))
            found += [store.now - began] * len(reserved.jobs)
            if reserved.jobs:
                now(queue.ack(f"n{node}", [Ack(job) for job in reserved.jobs]))
            wait = reserved.wait if reserved.wait is not None else 0.05
            heapq.heappush(turns, (store.now + wait + dice.uniform(0.0005, late), node))
        return found

    def test_exact(self) -> None:
        """Within 1 % over a minute."""
        for qps, nodes, late in (
            (2, 1, 0.1),
            (100, 3, 0.01),
            (20, 30, 0.15),
        ):
            count = len(self.starts(qps, nodes, late))
            self.assertApproximates(count / (qps * SPAN), 1.0, 0.01, f"{qps}, {nodes}, {late}")

    def test_bound(self) -> None:
        """Never more than the rate and what may be made up for, over any time."""
        found = self.starts(50, 5, 0.3)
        for first in range(0, len(found), 7):
            for last in range(first, len(found), 11):
                most = 50 * (found[last] - found[first] + 0.2) + 1
                self.assertLessEqual(last - first + 1, most + 1e-6)

    def test_idle(self) -> None:
        """A pause earns nothing but a fifth of a second's starts."""
        store: Any = Timed()
        self.addCleanup(store.close)
        queue = ScriptedQueue(store, "q")
        now(queue.control({"qps": 50}))
        now(queue.enqueue([Work(id=f"{n}", payload=b"") for n in range(100)]))
        now(queue.reserve("w", 1))
        store.now += 3600
        self.assertEqual(len(now(queue.reserve("w", 100)).jobs), 11)
