"""Processes for suspect jobs, so that a job that kills its process stops no other job.

A *suspect* is a job that has lost two workers in a row without progress. This node starts a process
that takes suspects only, one at a time, while there are any. When this process dies and the node
lives, nothing else can have killed it: a power cut or a ``kill`` of the node would end both. So the
death counts against the job. A process that sends no heartbeats hangs, and is killed.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs.model import LEASE_SECONDS
from twisted_bulk.jobs.scripted import ScriptedQueue
from twisted_bulk.node.worker_processes import RESTART_PAUSES, Child, wait_for_end
from twisted_bulk.system.periodic import Periodic, pause_after

log = Logger()

LOOK_SECONDS = 1.0  # between two looks at the suspects and the processes
MAX_PROCESSES = 2  # at once; other suspects wait
IDLE_SECONDS = 5.0  # without a suspect; then a process is stopped
SILENT_SECONDS = LEASE_SECONDS * 2 / 3  # without a heartbeat; then a process is killed
START_SECONDS = 60.0  # that a process may take to its first heartbeat; then it is killed
#: Seconds between two looks, from which the queue must have been away. Then heartbeats could not
#: come, and the time without them is counted from the second look.
AWAY_SECONDS = 5.0


class _Process:
    """One process, and the last look at it.

    ``leaving``: it was told to stop. ``busy``: it has a job. ``heard``: its last heartbeat.
    """

    def __init__(self, now: float) -> None:
        self.child = Child("quarantine")
        self.leaving = self.busy = False
        self.pid = 0
        self.idle_since = self.heard_at = now
        self.heard: bytes | None = None


class Quarantine(MultiService):
    """Keeps as many processes as there are suspects, :data:`MAX_PROCESSES` at most.

    :param settings: returns the variables ``BULKWAV_...`` of a process; called at each start
    :param drain: seconds for which a process that stops waits for its running work
    :param worker: returns the worker id of the process with this process id, or ``""``
    :param reclaim: called with the process id after a process has died: takes its jobs back
    """

    def __init__(
        self,
        reactor: Any,
        queue: ScriptedQueue,
        settings: Callable[[], Mapping[str, str]],
        drain: float,
        worker: Callable[[int], str],
        reclaim: Callable[[int], Awaitable[object]],
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._queue = queue
        self._settings = settings
        self._drain = drain
        self._worker = worker
        self._reclaim = reclaim
        self._processes: list[_Process] = []
        self._looked = reactor.seconds()
        self._failures = 0  # processes that died since one was stopped with nothing left to do
        self._not_before = 0.0  # when the next process may be started
        self._looking = Periodic(
            log, reactor, LOOK_SECONDS, self._look, name="quarantine", at_once=False
        )
        self._looking.setServiceParent(self)

    def warn(self) -> None:
        """Tell all processes to stop; :meth:`stopService` waits for their end."""
        self._looking.stopService()
        for process in self._processes:
            self._stop(process)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self.warn()
        children = [process.child for process in self._processes]
        return Deferred.fromCoroutine(wait_for_end(self._reactor, children, self._drain))

    async def _look(self) -> None:
        now, waiting = self._reactor.seconds(), await self._queue.suspects()
        if now - self._looked > AWAY_SECONDS:  # no heartbeat could be read in that time
            for process in self._processes:
                process.heard_at = now
        self._looked = now
        for process in list(self._processes):
            await self._watch(process, waiting, now)
        staying = [process for process in self._processes if not process.leaving]
        free = sum(not process.busy for process in staying)
        if (
            self._looking.running
            and waiting > free
            and len(staying) < MAX_PROCESSES
            and now >= self._not_before
        ):
            self._start(now)

    async def _watch(self, process: _Process, waiting: int, now: float) -> None:
        """Kill a process that hangs; stop one that has nothing to do."""
        worker = self._worker(process.child.pid)
        heard = await self._queue.heard(worker) if worker else None
        if heard != process.heard:
            process.heard, process.heard_at = heard, now
        if now - process.heard_at > (START_SECONDS if heard is None else SILENT_SECONDS):
            log.error("quarantine: process {pid} hangs, and is ended", pid=process.child.pid)
            process.child.kill()
        process.busy = bool(worker) and await self._queue.holds(worker) > 0
        if waiting or process.busy:
            process.idle_since = now
        elif now - process.idle_since > IDLE_SECONDS:
            self._stop(process)

    def _stop(self, process: _Process) -> None:
        process.leaving, self._failures = True, 0
        process.child.stop()

    def _start(self, now: float) -> None:
        process = _Process(now)
        self._processes.append(process)

        def ended(how: str) -> None:
            self._processes.remove(process)
            if process.leaving or not self._looking.running:
                return
            delay = pause_after(RESTART_PAUSES, self._failures)
            self._failures, self._not_before = self._failures + 1, self._reactor.seconds() + delay
            log.error("quarantine: a process ended ({how}), next in {s} s", how=how, s=delay)
            reclaiming = Deferred.fromCoroutine(self._reclaim_from(process.pid))
            reclaiming.addErrback(lambda failure: log.failure("quarantine failed", failure))

        process.child.ended.addCallback(ended)
        process.child.spawn(self._reactor, self._settings())
        process.pid = process.child.pid

    async def _reclaim_from(self, pid: int) -> None:
        if not pid:
            return  # it could not be started
        try:
            await self._reclaim(pid)
        except Unavailable:
            log.warn("quarantine: the queue is away; the loss does not count")
