"""The consumer: reserve jobs, run a function on each, keep the leases, say how it ended."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs import Acked, Job
from twisted_bulk.queue import BEAT, JobQueue

log = Logger()

T = TypeVar("T")

IDLE = (0.05, 0.1, 0.2, 0.5)  # seconds between looks at an empty queue
AWAY = (0.1, 0.5, 1.0, 2.0, 5.0)  # seconds between tries while the broker is away
BACKOFF = (1.0, 5.0, 30.0, 120.0, 600.0)  # seconds before a job that broke is tried again


class Retry(Exception):
    """Raised by a job's function: not this time, again after ``delay`` seconds."""

    def __init__(self, error: str, delay: float) -> None:
        super().__init__(error)
        self.delay = delay


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a job's function returns.

    :param ok: units of the job that succeeded
    :param undo: called if the result came too late to count
    """

    ok: int = 1
    data: bytes = b""
    undo: Callable[[], object] = lambda: None


@dataclass(eq=False)
class Task:
    """One job being worked on.

    :param progress: set by the function; thousandths of units over, and opaque bytes
    """

    job: Job
    progress: Callable[[], tuple[int, bytes]] = lambda: (0, b"")
    running: Deferred[None] = field(default_factory=Deferred)


Function = Callable[[Task], Awaitable[Result]]


class Consumer(Service):
    """Run ``function`` on jobs of ``queue``, up to ``slots`` at once.

    A job that raises :class:`Retry` or breaks is tried again later; one whose
    lease was lost, or that was cancelled, is cancelled within a heartbeat.

    :param worker: id of this process, new at each start
    :param drain: seconds that a stop waits for running jobs before it gives them back
    """

    def __init__(
        self,
        queue: JobQueue,
        function: Function,
        clock: IReactorTime,
        *,
        worker: str,
        slots: int,
        drain: float,
    ) -> None:
        self._queue = queue
        self._function = function
        self._clock = clock
        self._worker = worker
        self._slots = slots
        self._drain = drain
        self._tasks: dict[str, Task] = {}
        self._looping: Deferred[None] | None = None
        self._pause: Deferred[None] | None = None
        self._beating = LoopingCall(self._beat_soundly)
        self._beating.clock = clock
        self._unsure = False

    def startService(self) -> None:
        super().startService()
        self._looping = Deferred.fromCoroutine(self._loop())
        self._looping.addErrback(lambda f: f.trap(CancelledError))
        self._looping.addErrback(lambda f: log.failure("a consumer ended", f))
        self._beating.start(BEAT, now=False)

    def stopService(self) -> Deferred[None]:
        """Take nothing more; let jobs end for ``drain`` seconds, then give them back."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def wake(self) -> None:
        """Look for jobs now: one was just queued, or a slot is free."""
        if self._pause is not None and not self._pause.called:
            self._pause.callback(None)

    async def _sleep(self, seconds: float) -> None:
        self._pause = Deferred()
        timer = self._clock.callLater(seconds, self.wake)
        try:
            await self._pause
        finally:
            if timer.active():
                timer.cancel()

    async def _loop(self) -> None:
        idle = away = 0
        while True:
            free = self._slots - len(self._tasks)
            if not free:
                await self._sleep(60)
                continue
            try:
                due, jobs = await self._reserve(free)
            except Unavailable as error:
                if not away:
                    log.warn("waiting for the queue: {error}", error=error)
                await self._sleep(AWAY[min(away, len(AWAY) - 1)])
                away += 1
                continue
            except CancelledError:
                raise
            except Exception:
                # Whatever it is: a consumer that lives and is deaf would be worse.
                log.failure("reserving failed")
                await self._sleep(AWAY[-1])
                continue
            if away:
                log.info("the queue is back")
            idle, away = 0 if jobs else idle + 1, 0
            for job in jobs:
                self._start(job)
            if not jobs:
                wait = IDLE[min(idle, len(IDLE)) - 1]
                await self._sleep(wait if due is None else min(wait, due))

    async def _reserve(self, free: int) -> tuple[float | None, list[Job]]:
        if self._unsure:
            # The reply of a reserve may have been lost; nothing must stay with us unknown.
            held = [task.job for task in self._tasks.values()]
            await self._queue.reconcile(self._worker, held)
        self._unsure = True
        reserved = await self._queue.reserve(self._worker, free)
        self._unsure = False
        return reserved

    def _start(self, job: Job) -> None:
        task = Task(job)
        earlier = self._tasks.get(job.id)
        self._tasks[job.id] = task
        if earlier is not None:  # its lease ran out, and the job came back to us
            earlier.running.cancel()
        task.running = Deferred.fromCoroutine(self._run(task))

        def ended(result: object) -> None:
            if self._tasks.get(job.id) is task:
                del self._tasks[job.id]
            self.wake()

        task.running.addErrback(lambda f: f.trap(CancelledError))
        task.running.addErrback(lambda f: log.failure("job {job} broke", f, job=job.id))
        task.running.addBoth(ended)

    async def _run(self, task: Task) -> None:
        job = task.job
        try:
            result = await self._function(task)
        except CancelledError:
            raise
        except Retry as again:
            await self._nack(job, str(again), again.delay)
        except Exception as error:
            log.failure("job {job} failed, attempt {attempt}", job=job.id, attempt=job.attempt)
            pause = BACKOFF[min(job.attempt, len(BACKOFF)) - 1] * random.uniform(0.8, 1.2)
            await self._nack(job, f"{type(error).__name__}: {error}"[:500], pause)
        else:
            acked = await self._surely(
                lambda: self._queue.ack(self._worker, job, result.ok, result.data)
            )
            if acked in (Acked.STALE, Acked.UNKNOWN):
                log.warn("job {job} was done too late to count", job=job.id)
                result.undo()

    async def _nack(self, job: Job, error: str, delay: float) -> None:
        await self._surely(lambda: self._queue.nack(self._worker, job, delay, error, fatal=False))

    async def _surely(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call for as long as the broker is away."""
        tries = 0
        while True:
            try:
                return await call()
            except Unavailable:
                pause: Deferred[None] = Deferred()
                timer = self._clock.callLater(AWAY[min(tries, len(AWAY) - 1)], pause.callback, None)
                tries += 1
                try:
                    await pause
                finally:
                    if timer.active():
                        timer.cancel()

    def _beat_soundly(self) -> Deferred[None]:
        # An error would end the LoopingCall.
        beating = Deferred.fromCoroutine(self._beat())
        return beating.addErrback(lambda f: log.failure("a heartbeat failed", f))

    async def _beat(self) -> None:
        held = [(task.job, *task.progress()) for task in self._tasks.values()]
        if not held:
            return
        try:
            lost = await self._queue.beat(self._worker, held)
        except Unavailable:
            return  # the lease outlasts many beats, and the fence decides in the end
        for job, _, _ in held:
            task = self._tasks.get(job.id)
            if job.id in lost and task is not None and task.job is job:
                log.warn("job {job} is not ours any more", job=job.id)
                task.running.cancel()

    async def _stop(self) -> None:
        assert self._looping is not None
        self._looping.cancel()
        running = DeferredList([task.running for task in self._tasks.values()])
        timer = self._clock.callLater(self._drain, self._cancel_all)
        await running
        if timer.active():
            timer.cancel()
        try:
            released = await self._queue.reconcile(self._worker, [])
        except Unavailable as error:
            log.warn("jobs stay leased, the queue is away: {error}", error=error)
        else:
            if released:
                log.info("gave back {n} jobs", n=released)
        if self._beating.running:
            self._beating.stop()

    def _cancel_all(self) -> None:
        for task in list(self._tasks.values()):
            task.running.cancel()
