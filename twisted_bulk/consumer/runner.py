"""Reserve jobs, run a function on each, keep the leases, say how it ended."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.defer import TimeoutError as DeadlinePassed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_bulk.consumer.acks import AckBuffer
from twisted_bulk.consumer.slots import NO_ROOM, STALLED, Room, Slots
from twisted_bulk.consumer.task import Backoff, Fatal, Function, GiveBack, Result, Retry, Task
from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs.model import BEAT, Ack, Alone, Job, Reserved
from twisted_bulk.jobs.protocol import JobQueue
from twisted_bulk.jobs.quiet_hours import ALWAYS, Hours

log = Logger()

IDLE = (0.05, 0.1, 0.2, 0.5)  # seconds between looks at an empty queue
AWAY = (0.1, 0.5, 1.0, 2.0)  # seconds between tries while the broker is away
PAUSED = 1.0
BUSY = 0.05  # seconds between looks whether a slot is free, as its job only waits
DRAIN_FOR = 60.0  # seconds that a suspect waits before we take nothing more, to be alone
GOODBYE = 2.0  # the longest that a stop waits for the queue
CLOSED = 30.0  # the longest sleep in a window when nothing runs: the wall clock may be set
BACKOFF = Backoff()
# By what a reserve came to: the longest sleep after it, and what is said of it.
_SLEEP = {"paused": PAUSED, "stop": PAUSED, "busy": BUSY, "rate": CLOSED, "closed": CLOSED}
_WAITS_FOR = dict.fromkeys(("ok", "empty", "busy", "full", "rate"), "") | {
    "paused": "paused",
    "stop": "stopped",
}


class Runner(Service):
    """Run ``function`` on jobs of ``queue``, as many at once as ``slots`` has room for.

    A job that raises :class:`Retry`, breaks or takes longer than ``timeout`` is tried again
    later, and one that raises :class:`Fatal` is not; one whose lease was lost, or that was
    cancelled, is cancelled within a heartbeat.
    While the queue is stopped (:meth:`JobQueue.control`) all is given back, and nothing taken.

    :param alone: what it does about suspects: takes none; takes one where it has nothing else,
        and then nothing beside it (``YES``); takes nothing else at all (``WATCHED``)
    :param worker: id of this process, new at each start
    :param drain: seconds that a stop waits for running jobs before it gives them back
    :param timeout: seconds that the function may take, or 0
    :param hours: when nothing is begun
    :param spool: folder for results that come while the queue is away
    :param able: why nothing can be begun here now, or empty
    """

    def __init__(
        self,
        queue: JobQueue,
        function: Function,
        clock: IReactorTime,
        *,
        worker: str,
        slots: Slots,
        drain: float,
        alone: Alone = Alone.NO,
        timeout: float = 0,
        hours: Hours = ALWAYS,
        backoff: Backoff = BACKOFF,
        spool: Path | None = None,
        able: Callable[[], str] = lambda: "",
    ) -> None:
        self._queue = queue
        self._able = able
        self._function = function
        self._clock = clock
        self._worker = worker
        self._slots = slots
        self._alone = alone
        self._drain = drain
        self._timeout = timeout
        self._hours = hours
        self._backoff = backoff
        self._acks = AckBuffer(queue, worker, spool)
        self._tasks: dict[str, Task] = {}
        self._looping: Deferred[None] | None = None
        self._pause: Deferred[None] | None = None
        self._awake = False
        self._beating = LoopingCall(self._beat_soundly)
        self._beating.clock = clock
        self._suspects: float | None = None  # since when there are some
        self._waiting = 0  # other jobs that nobody had taken when we last asked
        self._waits_for = self._closed = ""
        self._halted = False  # the last heartbeat was told so
        self._doubts = 0  # calls whose outcome is unknown; above 0: reconcile before a reserve
        self._prepared = False
        self.ended: Deferred[None] = Deferred()
        self._stopping: Deferred[None] = succeed(None)

    def startService(self) -> None:
        super().startService()
        self._queue.listen(self.wake)
        self._queue.attend(self.stopService)
        self._looping = Deferred.fromCoroutine(self._loop())
        self._looping.addErrback(lambda f: f.trap(CancelledError))
        self._looping.addErrback(lambda f: log.failure("a consumer ended", f))
        self._looping.addBoth(lambda _: self.ended.callback(None))
        self._beating.start(BEAT, now=False)

    def stopService(self) -> Deferred[None]:
        """Take nothing more; let jobs end for ``drain`` seconds, then give them back."""
        if self.running:
            super().stopService()
            self._stopping = Deferred.fromCoroutine(self._stop())
            self._stopping.addErrback(lambda f: log.failure("a consumer did not stop well", f))
        stopped: Deferred[None] = Deferred()
        self._stopping.addBoth(lambda _: stopped.callback(None))
        return stopped

    def wake(self) -> None:
        """Look for jobs soon: one was just queued, or a slot is free."""
        if not self._awake:
            self._awake = True
            # Not at once: many slots may become free in this turn of the reactor.
            self._clock.callLater(0, self._rouse)

    def _rouse(self) -> None:
        self._awake = False
        if self._pause is not None and not self._pause.called:
            self._pause.callback(None)

    async def _sleep(self, seconds: float) -> None:
        self._pause = Deferred()
        timer = self._clock.callLater(seconds, self._rouse)
        try:
            await self._pause
        finally:
            if timer.active():
                timer.cancel()

    async def _loop(self) -> None:
        idle = away = 0
        while True:
            try:
                reserved = await self._take()
                if reserved.what == "stop":
                    await self._halt()
            except Unavailable as error:
                if not away:
                    log.warn("waiting for the queue: {error}", error=error)
                await self._sleep(AWAY[min(away, len(AWAY) - 1)])
                away += 1
                continue
            except Exception:
                if not self.running:
                    raise  # we are stopped
                # Whatever it is: a consumer that lives and is deaf would be worse.
                log.failure("reserving failed")
                await self._sleep(AWAY[-1])
                continue
            if away:
                log.info("the queue is back")
            idle, away = 0 if reserved.jobs else idle + 1, 0
            self._tell(_WAITS_FOR.get(reserved.what, self._closed))
            if not reserved.jobs:
                longest = _SLEEP.get(reserved.what) or IDLE[min(idle, len(IDLE)) - 1]
                await self._sleep(longest if reserved.wait is None else min(longest, reserved.wait))

    def _tell(self, waits_for: str) -> None:
        """Say once what keeps us from taking jobs, and once that nothing does any more."""
        if waits_for == self._waits_for:
            return
        if waits_for:
            log.info("{queue}: nothing is begun: {why}", queue=self._queue.name, why=waits_for)
        else:
            log.info("{queue}: goes on", queue=self._queue.name)
        self._waits_for = waits_for

    async def _halt(self) -> None:
        """Give back all that runs."""
        tasks = list(self._tasks.values())
        if not tasks:
            return
        log.info("{queue}: gives back {n} jobs", queue=self._queue.name, n=len(tasks))
        self._doubts += 1  # what is given back in vain now is given back before the next reserve
        for task in tasks:
            task.cancel()
        ended: Deferred[None] = Deferred()  # a DeferredList would not be cancelled with us
        DeferredList([task.running for task in tasks]).addBoth(lambda _: ended.callback(None))
        await ended
        await self._queue.reconcile(self._worker, [task.job for task in self._tasks.values()])

    async def _take(self) -> Reserved:
        """Take what there is room for, once what is kept from before was delivered."""
        if not self._prepared:
            await self.prepare()
            self._prepared = True
        await self._acks.deliver()
        if self._halted and self._tasks:
            return Reserved("stop", None, [])
        alone, room = self._room()
        if room == NO_ROOM and not self._draining:
            return Reserved("busy", None, [])
        wait = self._look_closed()
        if self._closed:
            return Reserved("closed", wait, [])
        if self._doubts:
            # The reply of a reserve may have been lost; nothing must stay with us unknown.
            held = [task.job for task in self._tasks.values()]
            await self._queue.reconcile(self._worker, held)
        self._doubts = own = self._doubts + 1
        reserved = await self._queue.reserve(
            self._worker, room.count, alone=alone, late=room.late, express=room.express
        )
        if self._doubts == own:  # no further one came up meanwhile
            self._doubts = 0
        self._halted, self._waiting = reserved.what == "stop", reserved.waiting
        if not reserved.suspects:
            self._suspects = None
        elif self._suspects is None:
            self._suspects = self._clock.seconds()
        for job in reserved.jobs:
            self._start(job, alone is not Alone.NO)
        return reserved

    def _look_closed(self) -> float:
        """Find out whether anything may be begun here now: ``_closed`` says why not.

        :returns: seconds until that may change
        """
        self._closed = self._able()
        if self._closed:
            return PAUSED
        now = time.time()
        closed = self._hours.closed_for(now)
        if closed:
            self._closed = f"hours until {self._hours.text(now + closed)}"
        return closed

    def _room(self) -> tuple[Alone, Room]:
        """How to reserve, and how many."""
        tasks, now = self._tasks.values(), self._clock.seconds()
        if self._alone is Alone.WATCHED:
            for task in tasks:
                since = task.waits()
                if since is not None and now - since >= STALLED:
                    task.yield_room()  # it has harmed nobody, and waits: others are suspects, too
            return self._alone, NO_ROOM if tasks else Room(1)
        if any(task.alone for task in tasks):
            return Alone.NO, NO_ROOM
        if self._alone is Alone.YES and self._suspects is not None:
            if not tasks and not self.occupied():
                return self._alone, Room(1)
            if now - self._suspects >= 2 * DRAIN_FOR:
                self._suspects = now  # what is in hand takes too long: others first
            elif self._draining:
                return Alone.NO, NO_ROOM
        room = self._slots.room(tasks, now)
        if room.evict is not None and self._waiting and not self._closed:
            room.evict.yield_room()
        count = max(0, room.count - self.occupied())
        return Alone.NO, Room(count, max(0, room.late), max(0, room.express))

    @property
    def _draining(self) -> bool:
        """Whether nothing more is taken, so that a suspect can run alone."""
        since = self._suspects
        return (
            self._alone is Alone.YES
            and since is not None
            and self._clock.seconds() - since >= DRAIN_FOR
        )

    @property
    def held(self) -> int:
        """How many jobs run."""
        return len(self._tasks)

    def occupied(self) -> int:
        """Slots that are still taken by what could not be ended."""
        return 0

    async def prepare(self) -> None:
        """What has to be done before anything is taken; repeated while the queue is away."""

    def _start(self, job: Job, alone: bool = False) -> None:
        task = Task(job, alone)
        earlier = self._tasks.get(job.id)
        self._tasks[job.id] = task
        if earlier is not None:  # its lease ran out, and the job came back to us
            earlier.cancel()
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
            result = await self._timed(task)
        except CancelledError as error:
            if task.cancelled:
                raise
            await self._nack(job, brief(error), self._backoff(job.attempt))
        except GiveBack as back:
            if not back.delay:
                log.warn("job {job} is given back: {why}", job=job.id, why=back)
            self._doubts += 1  # and with it goes what a lost reply would have left
            await self._release(job, back.delay)
        except Retry as again:
            await self._nack(job, str(again), again.delay)
        except Fatal as fatal:
            await self._nack(job, str(fatal), 0.0, fatal=True)
        except DeadlinePassed:
            log.warn("job {job} took longer than {s} s", job=job.id, s=self._timeout)
            await self._nack(
                job, f"took longer than {self._timeout:g} s", self._backoff(job.attempt)
            )
        except Exception as error:
            log.failure("job {job} failed, attempt {attempt}", job=job.id, attempt=job.attempt)
            await self._nack(job, brief(error), self._backoff(job.attempt))
        else:
            task.over = True
            await self._acks.add(Ack(job, result.ok, result.data), result.undo)

    async def _timed(self, task: Task) -> Result:
        if not self._timeout:
            return await self._function(task)

        async def call() -> Result:
            return await self._function(task)

        return await Deferred.fromCoroutine(call()).addTimeout(self._timeout, self._clock)

    async def _release(self, job: Job, delay: float) -> None:
        try:
            await self._queue.release(self._worker, [job], delay)
        except Unavailable:
            self._doubts += 1  # the next reserve does it

    async def _nack(self, job: Job, error: str, delay: float, fatal: bool = False) -> None:
        """Say that a job failed, for as long as the broker is away."""
        tries = 0
        while True:
            try:
                await self._queue.nack(self._worker, job, delay, error, fatal)
                return
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
        try:
            beaten = await self._queue.beat(self._worker, held, self._waits_for)
        except Unavailable:
            return  # the lease outlasts many beats, and the fence decides in the end
        self._halted = beaten.stop
        if beaten.stop and held:
            self.wake()
        for job, _, _ in held:
            task = self._tasks.get(job.id)
            if job.id in beaten.lost and task is not None and task.job is job and not task.over:
                why = "was cancelled" if job.id in beaten.cancelled else "is not ours any more"
                log.warn("job {job} {why}", job=job.id, why=why)
                task.cancel()

    async def _stop(self) -> None:
        assert self._looping is not None
        self._looping.cancel()
        await self._finish(self._tasks.values())
        leaving = Deferred.fromCoroutine(self._leave()).addTimeout(GOODBYE, self._clock)
        try:
            await leaving
        except (Unavailable, DeadlinePassed) as error:
            log.warn("jobs stay leased, the queue is away: {error}", error=error)
        if self._beating.running:
            self._beating.stop()

    async def _leave(self) -> None:
        await self._acks.deliver()
        released = await self._queue.reconcile(self._worker, [])
        if released:
            log.info("gave back {n} jobs", n=released)

    async def _finish(self, tasks: Iterable[Task]) -> None:
        running = DeferredList([task.running for task in tasks])
        timer = self._clock.callLater(self._drain, self._cancel_all)
        await running
        if timer.active():
            timer.cancel()

    def _cancel_all(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()


def brief(error: BaseException) -> str:
    """An exception in one line; those of the system without the paths that they name."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{type(error).__name__}: {text}"[:500]
