"""Limits that the processes of a node share."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from tests.support.brokers import OnRedis, OnSqlite
from tests.support.direct_store import DirectSqlite, now
from tests.support.reactor import reactor
from twisted_bulk.downloads.fetch_queue import ALL
from twisted_bulk.downloads.limits import SharedLimits
from twisted_bulk.jobs.cluster import Cluster
from twisted_bulk.jobs.scripts import SCRIPTS


class SharedTests(OnRedis):
    """Two processes and one node's limits."""

    def share(self, worker: str) -> tuple[SharedLimits, dict[str, tuple[int, int]]]:
        limits = SharedLimits(Cluster(self.store), "s", worker, reactor, 32, lambda host, batch: 8)
        demand: dict[str, tuple[int, int]] = {}
        limits.connect(lambda: demand, lambda: None)
        limits.startService()
        self.addCleanup(limits.stopService)
        return limits, demand

    async def granted(self, limits: SharedLimits, name: str, count: int) -> None:
        while limits.allowed(name, 1) != count:
            await deferLater(reactor, 0.01)

    async def test_alone(self) -> None:
        """A process alone has all."""
        limits, demand = self.share("w1")
        demand["h"] = (0, 50)
        demand[ALL] = (0, 50)
        await self.granted(limits, "h", 8)
        await self.granted(limits, ALL, 32)

    async def test_shared(self) -> None:
        """Another one gets its part as the first one's downloads end; and it comes back."""
        first, wants = self.share("w1")
        wants["h"] = (0, 50)
        await self.granted(first, "h", 8)
        wants["h"] = (8, 42)  # it uses all of it
        second, others = self.share("w2")
        others["h"] = (0, 50)
        await self.granted(second, "h", 0)
        wants["h"] = (4, 42)
        await self.granted(first, "h", 4)
        await self.granted(second, "h", 4)
        del others["h"]
        await self.granted(first, "h", 8)


class SqliteSharedTests(OnSqlite, SharedTests):
    """The same on a file."""

    make, keys = OnSqlite.make, OnSqlite.keys

    async def setUp(self) -> None:  # type: ignore[override]
        await OnSqlite.setUp(self)


class FairTests(SynchronousTestCase):
    """The script, whatever is wished."""

    @given(
        st.integers(1, 9),
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.floats(0, 1))),
    )
    def test_never_more(self, most: int, steps: list[tuple[str, int, float]]) -> None:
        """In all never more than there may be; a wish alone is granted."""
        store: Any = DirectSqlite()
        self.addCleanup(store.close)
        granted = dict.fromkeys("abc", 0)
        for worker, wanted, share in steps:
            using = round(share * min(granted[worker], wanted))
            words = (worker, 60_000, "h", most, using, wanted)
            (granted[worker],) = now(store.run(SCRIPTS["share"], "p:", *words))
            self.assertLessEqual(sum(granted.values()), most)
        for worker in "bca":
            words = (worker, 60_000, "h", most, 0, 0)
            now(store.run(SCRIPTS["share"], "p:", *words))
        (alone,) = now(store.run(SCRIPTS["share"], "p:", "a", 60_000, "h", most, 0, most))
        self.assertEqual(alone, most)
