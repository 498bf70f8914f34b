"""The interface of a job queue, which every broker implements."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from twisted_bulk.brokers.store import Capabilities
from twisted_bulk.jobs.model import (
    RATE_MINUTES,
    Ack,
    Acked,
    Alone,
    BeatReply,
    Job,
    JobRecord,
    Maintained,
    Queued,
    Reserved,
    Stats,
    Work,
)


class JobQueue(Protocol):
    """A queue of jobs, for workers, publishers and operators.

    A caller that lost an answer may repeat the call. Every call raises
    :class:`~twisted_bulk.errors.QueueUnavailable` when the broker cannot be reached.
    """

    @property
    def name(self) -> str:
        """The name of the queue; one broker may have several queues."""

    @property
    def capabilities(self) -> Capabilities:
        """The features that the broker has."""

    async def enqueue(self, work: Sequence[Work]) -> list[Queued]:
        """Queue jobs, up to 500 in one step.

        :raises QueueFull: the queue has reached its cap; its ``queued`` has those that were queued
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
        """Take up to ``count`` jobs, at most 500.

        :param max_bytes: of all their payloads together; one job is given even if it is larger
        :param alone: take one suspect job instead
        :param late: how many more to take of jobs that no other worker has taken for a moment
        :param express: how many more to take of these, when they are small jobs of groups
        """

    async def beat(
        self, worker: str, held: Sequence[tuple[Job, int, bytes]], waits_for: str = ...
    ) -> BeatReply:
        """Renew the leases of all jobs that a worker holds.

        :param held: for each job its units done and its progress
        :param waits_for: why the worker takes no more jobs for now, or empty
        """

    async def ack(self, worker: str, acks: Sequence[Ack]) -> list[Acked]:
        """End jobs that are done; returns what became of each, in order."""

    async def nack(
        self, worker: str, job: Job, delay: float, error: str, fatal: bool = False
    ) -> bool:
        """End an attempt that failed. The job waits ``delay`` seconds, or is dead.

        :param fatal: there is no other attempt
        :returns: False: the worker did not hold the job
        """

    async def release(self, worker: str, jobs: Sequence[Job], delay: float = 0) -> int:
        """Give jobs back without using up an attempt; they wait ``delay`` seconds.

        :returns: how many of them the worker held
        """

    async def reconcile(self, worker: str, held: Sequence[Job]) -> int:
        """Give back all jobs of ``worker`` in the broker that are not in ``held``.

        :returns: how many they were
        """

    async def reclaim(
        self, worker: str, kept: Mapping[str, int] | None = ..., blamed: bool = ...
    ) -> int:
        """Take all jobs from a worker that has died; returns how many they were.

        :param kept: how many units of its jobs are done, by the job's id
        :param blamed: the worker was not stopped: when it ran one job alone, that job gets the
            blame
        """

    async def cancel(self, job_id: str) -> bool:
        """End a job that has not ended; False: it has ended, or there is none."""

    async def prioritise(self, job_id: str, priority: int) -> bool:
        """Change a job's priority; False: it has ended, or there is none."""

    async def revive(self, job_id: str) -> bool:
        """Queue a dead job again, with all its tries.

        :returns: False: it is not dead, or an equal unique job waits or runs
        """

    async def dead(self, cursor: str = "", limit: int = ...) -> tuple[list[str], str]:
        """Ids of dead jobs, the latest first, and the cursor of the next page or ``""``.

        Jobs that ended in one millisecond come in one page, also when they are more than ``limit``.
        """

    async def job(self, job_id: str) -> JobRecord | None:
        """The present state of one job; None: there is no job with that id."""

    async def stats(self, minutes: int = RATE_MINUTES) -> Stats:
        """The present state of the queue, and its events in the last minutes.

        :param minutes: how many; the present one counts
        """

    async def control(self, settings: Mapping[str, float | bool | None]) -> None:
        """Change settings of the queue while workers run; None removes a setting.

        ``stop``: workers give their jobs back and take none. ``paused``: they take none.
        ``max_doing``: how many jobs run at once in the cluster. ``qps``: how many begin in a
        second in the cluster. ``cap``: how many units may be unfinished.
        """

    async def maintain(self, keep: float, count: int = ...) -> Maintained:
        """Do what is due: delayed jobs, lost leases, expired jobs, old records, clock steps.

        One node has to call it every second.

        :param keep: seconds after which the record of an ended job is deleted
        :param count: how many records of ended jobs are kept; older ones are deleted
        """

    async def payload(self, job_id: str) -> bytes | None:
        """The payload of a job that is not done; None: there is none."""

    async def declare(self, functions: Mapping[str, bytes]) -> None:
        """Tell what consumers declare of their functions, by name."""

    async def declared(self) -> dict[str, bytes]:
        """All that :meth:`declare` was told."""

    async def last_times(self, periodic: Mapping[str, str]) -> tuple[float, list[float]]:
        """When calls at fixed times were queued last.

        One that is new counts from now; one whose line has changed, from a moment ago.

        :param periodic: their lines, by name
        :returns: the time of the queue's server, and of each the last time; seconds since 1970
        """

    async def enqueue_due(
        self, name: str, line: str, before: float, due: float, work: Work
    ) -> bool:
        """Queue a call at a fixed time; exactly one of all processes that try it succeeds.

        :param before: the last time, as :meth:`last_times` told it
        :param due: its time, which becomes the last one
        :returns: False: another process was first
        :raises QueueFull: the queue has reached its cap; the call stays due
        """

    async def pause(self, seconds: float) -> None:
        """Wait; a queue that blocks its caller's thread blocks it."""

    def listen(self, heard: Callable[[], object]) -> None:
        """Call ``heard`` when a job can be taken. The broker may leave out a call."""

    def attend(self, leave: Callable[[], Deferred[None]]) -> None:
        """Call ``leave``, and wait for it, before a broker within this process ends."""
