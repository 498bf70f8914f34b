"""A worker: it reserves jobs, runs a function on each, and keeps their leases."""

from collections.abc import Callable
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.defer import TimeoutError as DeadlinePassed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_bulk.consumer.acks import AckBuffer
from twisted_bulk.consumer.execution import AWAY_PAUSES, Execution
from twisted_bulk.consumer.opening import Opening
from twisted_bulk.consumer.reserve_policy import ReservePolicy, sleep_after
from twisted_bulk.consumer.reserver import Reserver
from twisted_bulk.consumer.sleeper import Sleeper
from twisted_bulk.consumer.slots import Slots
from twisted_bulk.consumer.task import Function, Policy, Task
from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs.model import BEAT_SECONDS, Alone, Job, Supply
from twisted_bulk.jobs.protocol import JobQueue
from twisted_bulk.jobs.quiet_hours import ALWAYS, Hours
from twisted_bulk.system.periodic import Periodic, pause_after

log = Logger()

LEAVE_SECONDS = 2.0  # that a stop waits for the queue; then jobs stay leased until that runs out
DEFAULT_POLICY = Policy()
_REASONS = {Supply.PAUSED: "paused", Supply.STOP: "stopped"}  # as users see them


class Runner(Service):
    """Runs ``function`` on jobs of ``queue``, as many at once as ``slots`` has room for.

    A job that raises :class:`Retry`, breaks or takes longer than its policy allows is tried again
    later. One that raises :class:`Fatal` is not. One that was cancelled, or whose lease was lost,
    is cancelled within a heartbeat. While the queue is stopped (:meth:`JobQueue.control`) all jobs
    are given back, and none is taken.

    ``ended`` fires when the service has stopped and takes no more jobs.

    :param worker: id of this process, new at each start
    :param drain: seconds that a stop waits for running jobs before it gives them back
    :param alone: what it does about suspects: takes none; takes one when it has no other job
        (``YES``); takes nothing else at all (``WATCHED``)
    :param policy: of the attempts at a job
    :param hours: when nothing is begun
    :param spool: folder for results that come while the queue is away; None: memory
    :param able: the reason why nothing can be begun here now, or empty
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
        policy: Callable[[Job], Policy] = lambda job: DEFAULT_POLICY,
        hours: Hours = ALWAYS,
        spool: Path | None = None,
        able: Callable[[], str] = lambda: "",
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._worker = worker
        self._drain = drain
        self._acks = AckBuffer(queue, worker, spool)
        self._opening = Opening(hours, able)
        self._reserver = Reserver(
            queue, worker, clock, self._acks, ReservePolicy(slots, alone), self._opening,
            lambda: self.occupied(),
        )  # fmt: skip
        self._execution = Execution(
            queue, function, clock, worker=worker, policy=policy,
            acks=self._acks, doubt=self._reserver.doubt,
        )  # fmt: skip
        self._tasks: dict[str, Task] = {}
        self._looping: Deferred[None] | None = None
        self._sleeper = Sleeper(clock)
        self._beats = Periodic(
            log, clock, BEAT_SECONDS, self._beat, name="a heartbeat", at_once=False
        )
        self._waits_for = ""  # the reason why nothing is begun, as the log says it
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
        self._beats.startService()

    def stopService(self) -> Deferred[None]:
        """Take nothing more; let jobs end for ``drain`` seconds, then give them back."""
        if self.running:
            super().stopService()
            self._stopping = Deferred.fromCoroutine(self._stop())
            self._stopping.addErrback(lambda f: log.failure("a consumer did not stop well", f))
        stopped: Deferred[None] = Deferred()
        self._stopping.addBoth(lambda _: stopped.callback(None))
        return stopped

    @property
    def held(self) -> int:
        """How many jobs run."""
        return len(self._tasks)

    def occupied(self) -> int:
        """Slots that are taken by calls that could not be ended; subclasses may have such."""
        return 0

    async def prepare(self) -> None:
        """Work before the first job is taken; tried again while the queue is away."""

    def wake(self) -> None:
        """Look for jobs soon: one was just queued, or a slot is free."""
        self._sleeper.wake()

    async def _loop(self) -> None:
        idle = away = 0
        while True:
            try:
                if not self._prepared:
                    await self.prepare()
                    self._prepared = True
                reserved, alone = await self._reserver.take(self._tasks)
                for job in reserved.jobs:
                    self._start(job, alone)
                if reserved.supply is Supply.STOP:
                    await self._halt()
            except Unavailable as error:
                if not away:
                    log.warn("waiting for the queue: {error}", error=error)
                await self._sleeper.sleep(pause_after(AWAY_PAUSES, away))
                away += 1
                continue
            except Exception:
                if not self.running:
                    raise  # the service stops
                # Any error: a worker that lives and takes no jobs would be worse.
                log.failure("reserving failed")
                await self._sleeper.sleep(AWAY_PAUSES[-1])
                continue
            if away:
                log.info("the queue is back")
            idle, away = 0 if reserved.jobs else idle + 1, 0
            closed = self._opening.reason if reserved.supply is Supply.CLOSED else ""
            self._note_reason(_REASONS.get(reserved.supply, closed))
            if not reserved.jobs:
                await self._sleeper.sleep(sleep_after(reserved, idle))

    def _note_reason(self, reason: str) -> None:
        """Log once why nothing is begun, and once that jobs are begun again."""
        if reason == self._waits_for:
            return
        if reason:
            log.info("{queue}: nothing is begun: {why}", queue=self._queue.name, why=reason)
        else:
            log.info("{queue}: goes on", queue=self._queue.name)
        self._waits_for = reason

    async def _halt(self) -> None:
        """Give back all jobs that run: the queue is stopped."""
        tasks = list(self._tasks.values())
        if not tasks:
            return
        log.info("{queue}: gives back {n} jobs", queue=self._queue.name, n=len(tasks))
        self._reserver.doubt()  # where giving them back fails, it is repeated before a reserve
        for task in tasks:
            task.cancel()
        ended: Deferred[None] = Deferred()  # a DeferredList would not be cancelled with us
        DeferredList([task.running for task in tasks]).addBoth(lambda _: ended.callback(None))
        await ended
        await self._reserver.reconcile(self._tasks)

    def _start(self, job: Job, alone: bool) -> None:
        task = Task(job, alone)
        earlier = self._tasks.get(job.id)
        self._tasks[job.id] = task
        if earlier is not None:  # its lease ran out, and this process got the job again
            earlier.cancel()
        task.running = Deferred.fromCoroutine(self._execution.run(task))

        def ended(result: object) -> None:
            if self._tasks.get(job.id) is task:
                del self._tasks[job.id]
            self.wake()

        task.running.addErrback(lambda f: f.trap(CancelledError))
        task.running.addErrback(lambda f: log.failure("job {job} broke", f, job=job.id))
        task.running.addBoth(ended)

    async def _beat(self) -> None:
        held = [(task.job, *task.progress()) for task in self._tasks.values()]
        try:
            beaten = await self._queue.beat(self._worker, held, self._waits_for)
        except Unavailable:
            return  # the lease outlasts many heartbeats, and the fence decides in the end
        self._reserver.halted = beaten.stop
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
        await self._finish()
        leaving = Deferred.fromCoroutine(self._leave()).addTimeout(LEAVE_SECONDS, self._clock)
        try:
            await leaving
        except (Unavailable, DeadlinePassed) as error:
            log.warn("jobs stay leased, the queue is away: {error}", error=error)
        self._beats.stopService()

    async def _leave(self) -> None:
        await self._acks.deliver()
        released = await self._reserver.reconcile({})
        if released:
            log.info("gave back {n} jobs", n=released)

    async def _finish(self) -> None:
        """Wait until all jobs have ended; cancel them after ``drain`` seconds."""

        def cancel_all() -> None:
            for task in list(self._tasks.values()):
                task.cancel()

        running = DeferredList([task.running for task in self._tasks.values()])
        timer = self._clock.callLater(self._drain, cancel_all)
        await running
        if timer.active():
            timer.cancel()
