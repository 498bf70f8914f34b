"""Suspects run in processes of their own, so that one which kills its process kills nothing else.

A *suspect* is a job that has lost two workers in a row without getting further. This node starts
a process that takes suspects only, one at a time, while there are any. Where such a process dies
and we live, nobody else has ended it (a power cut or a ``kill`` of the daemon ends us, too): that
counts against the job. One that says nothing for a while hangs, and is ended.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs.model import LEASE_SECONDS
from twisted_bulk.jobs.scripted import ScriptedQueue
from twisted_bulk.node.worker_processes import BACKOFF, KILL_AFTER, Child

log = Logger()

EVERY = 1.0  # seconds between looks
MOST = 2  # processes at once
IDLE = 5.0  # seconds without a suspect after which a process ends
SILENT = LEASE_SECONDS * 2 / 3  # seconds without a heartbeat after which a process hangs
STARTS = 60.0  # seconds that it may take to its first one
AWAY = 5.0  # seconds without a look, as the queue is away, after which silence begins anew


class _Cell:
    """One process, and what is known of it."""

    def __init__(self, now: float) -> None:
        self.child = Child("quarantine")
        self.leaving = self.busy = False
        self.pid = 0
        self.idle_since = self.heard_at = now
        self.heard: bytes | None = None


class Quarantine(Service):
    """Keeps as many processes as there are suspects, :data:`MOST` at most.

    :param settings: of a process, as ``BULKWAV_...``; asked at each start
    :param drain: seconds that a process takes to stop, at most
    :param worker: the worker's id of a process
    :param bury: called when the process with this id has died by itself: takes its jobs back
    """

    def __init__(
        self,
        reactor: Any,
        queue: ScriptedQueue,
        settings: Callable[[], Mapping[str, str]],
        drain: float,
        worker: Callable[[int], str],
        bury: Callable[[int], Awaitable[object]],
    ) -> None:
        self._reactor = reactor
        self._queue = queue
        self._settings = settings
        self._drain = drain
        self._worker = worker
        self._bury = bury
        self._cells: list[_Cell] = []
        self._looked = reactor.seconds()
        self._ends = 0  # processes that died by themselves, since one had nothing more to do
        self._not_before = 0.0  # when the next one may be started
        self._looking = LoopingCall(self._look_soundly)
        self._looking.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._looking.start(EVERY, now=False)

    def warn(self) -> None:
        """Tell all to stop; :meth:`stopService` waits for them."""
        if self._looking.running:
            self._looking.stop()
        for cell in self._cells:
            self._dismiss(cell)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self.warn()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        def kill() -> None:
            for cell in self._cells:
                cell.child.kill()

        timer = self._reactor.callLater(self._drain + KILL_AFTER, kill)
        await DeferredList([cell.child.ended for cell in self._cells])
        if timer.active():
            timer.cancel()

    def _look_soundly(self) -> Deferred[None]:
        # An error would end the LoopingCall.
        return Deferred.fromCoroutine(self._look()).addErrback(
            lambda f: None if f.check(Unavailable) else log.failure("quarantine failed", f)
        )

    async def _look(self) -> None:
        now, waiting = self._reactor.seconds(), await self._queue.suspects()
        if now - self._looked > AWAY:  # the queue was away: nobody could be heard
            for cell in self._cells:
                cell.heard_at = now
        self._looked = now
        for cell in list(self._cells):
            await self._watch(cell, waiting, now)
        staying = [cell for cell in self._cells if not cell.leaving]
        free = sum(not cell.busy for cell in staying)
        if self.running and waiting > free and len(staying) < MOST and now >= self._not_before:
            self._open(now)

    async def _watch(self, cell: _Cell, waiting: int, now: float) -> None:
        """End a process that hangs, or that has had nothing to do."""
        worker = self._worker(cell.child.pid)
        heard = await self._queue.heard(worker) if worker else None
        if heard != cell.heard:
            cell.heard, cell.heard_at = heard, now
        if now - cell.heard_at > (STARTS if heard is None else SILENT):
            log.error("quarantine: process {pid} hangs, and is ended", pid=cell.child.pid)
            cell.child.kill()
        cell.busy = bool(worker) and await self._queue.holds(worker) > 0
        if waiting or cell.busy:
            cell.idle_since = now
        elif now - cell.idle_since > IDLE:
            self._dismiss(cell)

    def _dismiss(self, cell: _Cell) -> None:
        cell.leaving, self._ends = True, 0
        cell.child.stop()

    def _open(self, now: float) -> None:
        cell = _Cell(now)
        self._cells.append(cell)

        def ended(how: str) -> None:
            self._cells.remove(cell)
            if cell.leaving or not self.running:
                return
            delay = BACKOFF[min(self._ends, len(BACKOFF) - 1)]
            self._ends, self._not_before = self._ends + 1, self._reactor.seconds() + delay
            log.error("quarantine: a process ended ({how}), next in {s} s", how=how, s=delay)
            burying = Deferred.fromCoroutine(self._buried(cell.pid))
            burying.addErrback(lambda f: log.failure("quarantine failed", f))

        cell.child.ended.addCallback(ended)
        cell.child.spawn(self._reactor, self._settings())
        cell.pid = cell.child.pid

    async def _buried(self, pid: int) -> None:
        if not pid:
            return  # it could not be started
        try:
            await self._bury(pid)
        except Unavailable:
            log.warn("quarantine: the queue is away; the loss does not count")
