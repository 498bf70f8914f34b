"""How many downloads there may be at once, in all and to one host."""

from collections.abc import Callable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_bulk.downloads.fetch_queue import ALL
from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs.cluster import Cluster, Wish

log = Logger()

EVERY = 1.0  # seconds between questions
LEASE = 10.0  # seconds that a share is kept for a process that does not ask any more
AT_ONCE = 256  # limits in one question
SOON = 0.005  # seconds: hosts of one batch are asked for together


class Limits:
    """Those of one process.

    :param concurrency: downloads at once
    :param per_host: of these to a host, for one batch
    """

    def __init__(self, concurrency: int, per_host: Callable[[str, int], int]) -> None:
        self.concurrency = concurrency
        self.per_host = per_host

    def allowed(self, name: str, batch: int) -> int:
        """How many there may be to host ``name``, or in :data:`ALL`, as ``batch`` sees it; 0 as
        any batch does."""
        return self.concurrency if name == ALL else self.per_host(name, batch)

    def connect(
        self, demand: Callable[[], Mapping[str, tuple[int, int]]], changed: Callable[[], object]
    ) -> None:
        """Learn who asks: what is used and wanted by name; and whom to tell of changes."""


class SharedLimits(Service, Limits):
    """Those of a node, shared by its processes: each has the others' leave for what it uses.

    :param scope: what the processes that share have in common
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
        Limits.__init__(self, concurrency, per_host)
        self._cluster = cluster
        self._scope = scope
        self._worker = worker
        self._clock = clock
        self._granted: dict[str, int] = {}
        self._new: set[str] = set()
        self._asking = LoopingCall(self._ask_soundly)
        self._asking.clock = clock

    def connect(
        self, demand: Callable[[], Mapping[str, tuple[int, int]]], changed: Callable[[], object]
    ) -> None:
        self._demand = demand
        self._changed = changed

    def startService(self) -> None:
        super().startService()
        self._asking.start(EVERY, now=False)

    def stopService(self) -> None:
        super().stopService()
        self._asking.stop()

    def allowed(self, name: str, batch: int) -> int:
        """What was granted; nothing for a host that was not asked for yet."""
        if name not in self._granted and name not in self._new:
            if not self._new:
                self._clock.callLater(SOON, self._ask_for_new)
            if len(self._new) < AT_ONCE:
                self._new.add(name)
        return min(self._granted.get(name, 0), super().allowed(name, batch))

    def _ask_for_new(self) -> None:
        names, self._new = self._new, set()
        if self.running:
            asking = Deferred.fromCoroutine(self._ask(names))
            asking.addErrback(self._failed)

    def _ask_soundly(self) -> Deferred[None]:
        # An error would end the LoopingCall.
        return Deferred.fromCoroutine(self._ask(set(self._granted))).addErrback(self._failed)

    def _failed(self, failure: Any) -> None:
        # While the queue is away what was granted holds: nobody else is granted more.
        if not failure.check(Unavailable):
            log.failure("asking for limits failed", failure)

    async def _ask(self, names: set[str]) -> None:
        demand = self._demand()
        # Whose host is done with gives its share back.
        wishes = [self._wish(name, *demand.get(name, (0, 0))) for name in names]
        for begin in range(0, len(wishes), AT_ONCE):
            some = wishes[begin : begin + AT_ONCE]
            replies = await self._cluster.share(self._scope, self._worker, LEASE, some)
            for wish, granted in zip(some, replies, strict=True):
                if wish.wanted:
                    self._granted[wish.name] = granted
                else:
                    self._granted.pop(wish.name, None)
        self._changed()

    def _wish(self, name: str, using: int, wanted: int) -> Wish:
        most = Limits.allowed(self, name, 0)
        return Wish(name, most, using, min(using + wanted, most) if using + wanted else 0)
