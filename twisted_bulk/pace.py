"""Hosts that are in trouble get fewer requests, from all nodes alike.

A host that answers 429 or 503, or not in time, has its limit halved; while it goes well the
limit grows by one a second. Of hosts that were never in trouble nothing is kept.
"""

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_bulk.brokers import Argument, Store
from twisted_bulk.errors import Unavailable
from twisted_bulk.scripted import ms
from twisted_bulk.scripts import SCRIPTS

log = Logger()

EVERY = 1.0  # seconds between looks at what the others know
LONGEST = 600.0  # seconds that a host may make us wait


class Pace(Service):
    """What hosts in trouble get.

    :param most: requests at once to any other host
    """

    def __init__(self, store: Store, clock: IReactorTime, most: int) -> None:
        self._store = store
        self._clock = clock
        self._most = most
        self._slow: dict[str, tuple[int, float]] = {}
        self._reports: dict[str, tuple[bool, float]] = {}
        self._changed: Callable[[], object] = lambda: None
        self._needed: Callable[[], bool] = lambda: False
        self._telling = False
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def connect(self, needed: Callable[[], bool], changed: Callable[[], object]) -> None:
        """Learn whether hosts are being asked at all, and whom to tell of changes."""
        self._needed = needed
        self._changed = changed

    def startService(self) -> None:
        super().startService()
        self._looking.start(EVERY, now=False)

    def stopService(self) -> None:
        super().stopService()
        self._looking.stop()

    def allowed(self, host: str) -> int:
        """How many requests there may be to ``host`` at once."""
        limit, until = self._slow.get(host, (self._most, 0.0))
        return min(limit, self._most) if until <= self._clock.seconds() else 0

    def good(self, host: str) -> None:
        """``host`` served a request."""
        if host in self._slow:
            self._reports.setdefault(host, (False, 0.0))

    def bad(self, host: str, wait: float) -> None:
        """``host`` is in trouble, and asked for a pause of ``wait`` seconds, or 0."""
        wait = min(wait, LONGEST)
        limit, until = self._slow.get(host, (self._most, 0.0))
        until = max(until, self._clock.seconds() + wait)
        # Until the others' opinion is known.
        self._slow[host] = (limit if host in self._slow else max(1, limit // 2), until)
        _, before = self._reports.get(host, (True, 0.0))
        self._reports[host] = (True, max(before, wait))
        if not self._telling and self.running:
            self._telling = True
            self._clock.callLater(0, self._look)

    def _look(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._tell()).addErrback(self._failed)

    def _failed(self, failure: Any) -> None:
        # While the queue is away what is known holds.
        if not failure.check(Unavailable):
            log.failure("telling of hosts failed", failure)

    async def _tell(self) -> None:
        self._telling = False
        if not (self._reports or self._slow or self._needed()):
            return
        reports, self._reports = self._reports, {}
        words: list[Argument] = [self._most]
        for host, (trouble, wait) in reports.items():
            words += (host, int(trouble), ms(wait))
        reply = await self._store.run(SCRIPTS["pace"], "bw:{bulkwav}:", *words, deadline=5.0)
        now = self._clock.seconds()
        told = iter(reply)
        self._slow = {
            name.decode(): (limit, now + wait / 1000)
            for name, limit, wait in zip(told, told, told, strict=True)
        }
        self._changed()
