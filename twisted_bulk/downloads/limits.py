"""How many downloads there may be at once, in all and to one host."""

from collections.abc import Callable, Mapping

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_bulk.downloads.fetch_queue import ALL
from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs.cluster import Cluster, Wish
from twisted_bulk.system.periodic import Periodic

log = Logger()

ASK_SECONDS = 1.0  # between two questions to the queue
LEASE_SECONDS = 10.0  # that a share is kept for a process that does not ask any more
BATCH_SIZE = 256  # limits in one question; further ones follow in the next
GATHER_SECONDS = 0.005  # that new hosts are gathered before they are asked for together


class Limits:
    """The limits of a node that is one process.

    :param concurrency: downloads at once
    :param per_host: how many of these may go to a host, as one batch sees it
    """

    def __init__(self, concurrency: int, per_host: Callable[[str, int], int]) -> None:
        self.concurrency = concurrency
        self.per_host = per_host

    def allowed(self, name: str, batch: int) -> int:
        """How many downloads there may be at once.

        :param name: a host, or :data:`ALL` for all together
        :param batch: the number of the batch that asks; 0: any
        """
        return self.concurrency if name == ALL else self.per_host(name, batch)

    def connect(
        self, demand: Callable[[], Mapping[str, tuple[int, int]]], changed: Callable[[], object]
    ) -> None:
        """:param demand: by name: how many downloads are under way, and how many wait
        :param changed: called when a limit may be another one
        """


class SharedLimits(MultiService, Limits):
    """The limits of a node that has several processes.

    A process uses only the share that the queue has granted it. While the queue is away the granted
    shares hold: no other process is granted more.

    :param scope: a name that the processes of the node have in common
    :param worker: id of this process
    """

    def __init__(
        self,
        cluster: Cluster,
        scope: str,
        worker: str,
        clock: IReactorTime,
        concurrency: int,
        per_host: Callable[[str, int], int],
    ) -> None:
        MultiService.__init__(self)
        Limits.__init__(self, concurrency, per_host)
        self._cluster = cluster
        self._scope = scope
        self._worker = worker
        self._clock = clock
        self._granted: dict[str, int] = {}
        self._new: set[str] = set()
        Periodic(
            log, clock, ASK_SECONDS, self._ask_for_all, name="asking for limits", at_once=False
        ).setServiceParent(self)

    def connect(
        self, demand: Callable[[], Mapping[str, tuple[int, int]]], changed: Callable[[], object]
    ) -> None:
        self._demand = demand
        self._changed = changed

    def allowed(self, name: str, batch: int) -> int:
        """The granted share; 0 for a host that was not asked for yet."""
        if name not in self._granted and name not in self._new:
            if not self._new:
                self._clock.callLater(GATHER_SECONDS, self._ask_for_new)
            if len(self._new) < BATCH_SIZE:
                self._new.add(name)
        return min(self._granted.get(name, 0), super().allowed(name, batch))

    def _ask_for_new(self) -> None:
        names, self._new = self._new, set()
        if self.running:
            asking = Deferred.fromCoroutine(self._ask(names))
            asking.addErrback(
                lambda f: (
                    None if f.check(Unavailable) else log.failure("asking for limits failed", f)
                )
            )

    async def _ask_for_all(self) -> None:
        await self._ask(set(self._granted))

    async def _ask(self, names: set[str]) -> None:
        demand = self._demand()
        # A host that is done with has no wish: its share is given back.
        wishes = [self._wish(name, *demand.get(name, (0, 0))) for name in names]
        for begin in range(0, len(wishes), BATCH_SIZE):
            some = wishes[begin : begin + BATCH_SIZE]
            replies = await self._cluster.share(self._scope, self._worker, LEASE_SECONDS, some)
            for wish, granted in zip(some, replies, strict=True):
                if wish.wanted:
                    self._granted[wish.name] = granted
                else:
                    self._granted.pop(wish.name, None)
        self._changed()

    def _wish(self, name: str, using: int, wanted: int) -> Wish:
        most = Limits.allowed(self, name, 0)
        return Wish(name, most, using, min(using + wanted, most) if using + wanted else 0)
