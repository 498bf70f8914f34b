"""One job: its function is run, and the queue is told how it ended."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from twisted_bulk.consumer.acks import AckBuffer
from twisted_bulk.consumer.task import (
    ERROR_LENGTH,
    Fatal,
    Function,
    GiveBack,
    Policy,
    Result,
    Retry,
    Task,
    TookTooLong,
    said,
)
from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs.model import Ack, Job
from twisted_bulk.jobs.protocol import JobQueue
from twisted_bulk.system.periodic import pause_after

log = Logger()

AWAY_PAUSES = (0.1, 0.5, 1.0, 2.0)  # seconds between tries while the queue is away


class Execution:
    """Runs ``function`` on the jobs of one worker.

    :param worker: id of this process
    :param policy: of the attempts at a job
    :param acks: takes the ends of jobs that are done
    :param doubt: called when the queue may hold a job for this worker that the worker gave back
    """

    def __init__(
        self,
        queue: JobQueue,
        function: Function,
        clock: IReactorTime,
        *,
        worker: str,
        policy: Callable[[Job], Policy],
        acks: AckBuffer,
        doubt: Callable[[], object],
    ) -> None:
        self._queue = queue
        self._function = function
        self._clock = clock
        self._worker = worker
        self._policy = policy
        self._acks = acks
        self._doubt = doubt

    async def run(self, task: Task) -> None:
        """Run a job; returns once the queue knows its end, or will learn it.

        :raises CancelledError: the task was cancelled
        """
        job, policy = task.job, self._policy(task.job)
        try:
            result = await self._call(task, 0 if policy.has_own_clock else policy.timeout)
        except CancelledError as error:
            if task.cancelled:
                raise
            await self._nack(job, brief(error), policy.backoff(job.attempt))
        except GiveBack as back:
            if not back.delay:
                log.warn("job {job} is given back: {why}", job=job.id, why=back)
            self._doubt()  # the next reserve also gives back what a lost reply left here
            await self._release(job, back.delay)
        except Retry as again:
            pause = policy.backoff(job.attempt) if again.delay is None else again.delay
            await self._nack(job, said(again), pause)
        except Fatal as fatal:
            await self._nack(job, said(fatal), 0.0, fatal=True)
        except TookTooLong:
            log.warn("job {job} took longer than {s} s", job=job.id, s=policy.timeout)
            late = f"took longer than {policy.timeout:g} s"
            await self._nack(job, late, policy.backoff(job.attempt))
        except Exception as error:
            log.failure(
                "job {job} failed, attempt {attempt}: {error}", level=LogLevel.error, job=job.id,
                attempt=job.attempt, error=brief(error),
            )  # fmt: skip
            await self._nack(job, brief(error), policy.backoff(job.attempt))
        else:
            task.over = True
            await self._acks.add(Ack(job, result.ok, result.data, result.tags), result.undo)

    async def _call(self, task: Task, timeout: float) -> Result:
        if not timeout:
            return await self._function(task)

        async def call() -> Result:
            return await self._function(task)

        return await Deferred.fromCoroutine(call()).addTimeout(timeout, self._clock, _late)

    async def _release(self, job: Job, delay: float) -> None:
        try:
            await self._queue.release(self._worker, [job], delay)
        except Unavailable:
            self._doubt()  # the next reserve gives it back

    async def _nack(self, job: Job, error: str, delay: float, fatal: bool = False) -> None:
        """Tell the queue that a job failed; tries until the queue is there."""
        tries = 0
        while True:
            try:
                await self._queue.nack(self._worker, job, delay, error, fatal)
                return
            except Unavailable:
                await deferLater(self._clock, pause_after(AWAY_PAUSES, tries))
                tries += 1


def _late(result: Any, seconds: float) -> Any:
    is_cancelled = isinstance(result, Failure) and result.check(CancelledError)
    return Failure(TookTooLong()) if is_cancelled else result


def brief(error: BaseException) -> str:
    """An exception in one line; one of the system without the paths that it names."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else said(error)
    return f"{type(error).__name__}: {text}"[:ERROR_LENGTH]
