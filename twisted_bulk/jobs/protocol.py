"""What every queue of jobs offers, wherever it is kept."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from twisted_bulk.brokers.store import Capabilities
from twisted_bulk.jobs.model import (
    Ack,
    Acked,
    Alone,
    Beaten,
    Job,
    JobRecord,
    Maintained,
    Queued,
    Reserved,
    Stats,
    Work,
)
from twisted_bulk.jobs.publisher import Publisher


class JobQueue(Protocol):
    """What workers, publishers and operators ask of a broker.

    Every call may be repeated after a lost answer. All raise
    :class:`~twisted_bulk.errors.QueueUnavailable` while the broker is away.
    """

    @property
    def name(self) -> str:
        """The queue's own; one broker has many."""

    @property
    def capabilities(self) -> Capabilities:
        """What the broker can do."""

    @property
    def publisher(self) -> Publisher:
        """Puts function calls into this queue."""

    async def enqueue(self, work: Sequence[Work]) -> list[Queued]:
        """Queue jobs, up to 500 in one step.

        :raises QueueFull: over the cap; jobs before the first refused one were queued
        """

    async def reserve(
        self,
        worker: str,
        count: int,
        max_bytes: int = ...,
        *,
        alone: Alone = ...,
        late: int = ...,
        express: int = ...,
    ) -> Reserved:
        """Take up to ``count`` jobs, at most 500, of up to ``max_bytes`` (but at least one).

        :param alone: take one suspect instead
        :param late: so many more may come that nobody else has taken for a moment
        :param express: and so many of these, if they are small ones of groups
        """

    async def beat(
        self, worker: str, held: Sequence[tuple[Job, int, bytes]], waits_for: str = ...
    ) -> Beaten:
        """Renew the leases of all jobs held, with their units done and progress.

        :param waits_for: what keeps the worker from taking more, or empty
        """

    async def ack(self, worker: str, acks: Sequence[Ack]) -> list[Acked]:
        """End jobs that are done."""

    async def nack(
        self, worker: str, job: Job, delay: float, error: str, fatal: bool = False
    ) -> bool:
        """A failed attempt: again after ``delay``, or dead. False if it was not held."""

    async def release(self, worker: str, jobs: Sequence[Job], delay: float = 0) -> int:
        """Give jobs back without using up an attempt, to be taken again after ``delay`` seconds."""

    async def reconcile(self, worker: str, held: Sequence[Job]) -> int:
        """Give back what the broker thinks ``worker`` holds and it does not."""

    async def reclaim(
        self, worker: str, kept: Mapping[str, int] | None = ..., blamed: bool = ...
    ) -> int:
        """Take the jobs of a worker that is known to be dead.

        :param kept: units of its jobs that are known to be done, by the job's id
        :param blamed: it died by itself: if it ran a job alone, that counts against the job
        """

    async def cancel(self, job_id: str) -> bool:
        """End a job that has not ended yet."""

    async def prioritise(self, job_id: str, priority: int) -> bool:
        """Move a job to the same place in another priority; False if it has ended."""

    async def revive(self, job_id: str) -> bool:
        """Queue a dead job again, with all its tries; False if it is not dead, or has a twin."""

    async def dead(self, cursor: str = "", limit: int = ...) -> tuple[list[str], str]:
        """Ids of jobs that failed, the latest first, and the cursor of the next page or ``""``.

        Those that ended in one millisecond come together, though they be more than ``limit``.
        """

    async def job(self, job_id: str) -> JobRecord | None:
        """One job as it stands, or None."""

    async def stats(self) -> Stats:
        """The queue as it stands."""

    async def control(self, settings: Mapping[str, float | bool | None]) -> None:
        """Change live settings for all workers; None takes one back.

        ``stop`` ends consumers, ``paused`` lets them take nothing, ``max_doing`` jobs run and
        ``qps`` are started a second in the whole cluster, ``cap`` units may wait.
        """

    async def maintain(self, keep: float, count: int = ...) -> Maintained:
        """What time brings: due jobs, lost leases, expiry; records that ended ``keep`` seconds
        ago, or before the last ``count``, go; steps of the clock are found. To be called every
        second by somebody."""

    def listen(self, heard: Callable[[], object]) -> None:
        """Call ``heard`` when something can be taken: a hint, which may not come."""

    def attend(self, leave: Callable[[], Deferred[None]]) -> None:
        """Call ``leave``, and wait for it, before the broker ends by itself."""
