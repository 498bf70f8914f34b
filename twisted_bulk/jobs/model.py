"""A job, its record, and the records of workers and queues. Values only.

A *job* is opaque bytes with an id. At most one worker has it at a time: the worker has a lease,
which its heartbeats renew. The attempt's number and the worker's id are the *fence*: an
acknowledgement counts only if both are the present ones, so a worker whose lease was lost cannot
end the job.

States of a job: todo (waits), later (is not yet due), doing (a worker has it), done, dead (failed).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

LEASE_SECONDS = 30.0  # without a heartbeat; then another worker may take the job
BEAT_SECONDS = 1.0  # between heartbeats, which carry the progress that users see

JOB_STATES = ("todo", "later", "doing", "done", "dead")


@dataclass(frozen=True, kw_only=True)
class Work:
    """A job to be queued.

    :param priority: a job with a higher one is taken first
    :param first: it goes before the others of its priority
    :param delay: seconds before it is due
    :param expires: seconds after which it is too late to start; 0: never
    :param tries: attempts that may fail; a lost worker uses up none
    :param losses: workers that may be lost in a row while they had only this job and got no further
        with it; 0: any number
    :param size: units of work in it, which the queue's cap and the job's group count
    :param digest: of its parameters: while a job with this digest has not ended, another one is not
        queued
    :param window: seconds for which that also holds after the job was done
    """

    id: str
    payload: bytes
    priority: int = 0
    first: bool = False
    delay: float = 0
    expires: float = 0
    tries: int = 3
    losses: int = 3
    size: int = 1
    digest: str = ""
    window: float = 0


@dataclass(frozen=True)
class Queued:
    """The outcome of queueing a job.

    :param id: its own id, or the id of the job that has its digest already
    :param new: False: a job with this id, or with this digest, had been queued before
    """

    id: str
    new: bool


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job that this worker holds.

    :param attempt: the number of this attempt, from 1
    :param attachment: the key of data that belongs to it, or empty
    :param size: units of work in it
    :param small: its group has few units, see ``SMALL_GROUP`` of lua/shared/keys.lua
    """

    id: str
    attempt: int
    attachment: str
    payload: bytes
    size: int = 1
    small: bool = False


class Supply(StrEnum):
    """What a worker that asked for jobs was told."""

    OK = "ok"  # there were jobs
    EMPTY = "empty"
    STOP = "stop"  # the queue is stopped: running jobs are given back
    PAUSED = "paused"
    FULL = "full"  # ``max_doing`` jobs run in the cluster
    RATE = "rate"  # the next job may begin later, by ``qps``
    BUSY = "busy"  # the worker did not ask: it has no room
    CLOSED = "closed"  # it did not ask: nothing may be begun on this node now


@dataclass(frozen=True)
class Reserved:
    """The answer to a worker that asked for jobs.

    :param wait: seconds until the answer may be another one; None: until something is queued
    :param suspects: jobs that wait to be run alone, see :class:`Alone`
    :param waiting: other jobs that wait
    """

    supply: Supply
    wait: float | None
    jobs: Sequence[Job]
    suspects: int = 0
    waiting: int = 0


class Alone(IntEnum):
    """Which jobs a worker takes.

    A *suspect* is a job that lost two workers in a row without getting further. It is run alone:
    its worker's process has no other job.
    """

    NO = 0  # several jobs at once, and no suspects
    YES = 1  # one suspect; if this worker is lost, that counts against the suspect
    WATCHED = 2  # one suspect; a loss counts only if a parent saw this worker die by itself


@dataclass(frozen=True, kw_only=True)
class Maintained:
    """The outcome of a round of housekeeping.

    :param step: seconds by which the server's clock was put forward; below 0: back
    :param forgotten: ended jobs whose records were removed
    :param groups: ids of ended groups whose records are to be removed
    """

    step: float
    forgotten: int
    groups: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class BeatReply:
    """The answer to a heartbeat.

    :param stop: the queue is stopped
    :param paused: the queue is paused
    :param lost: ids of jobs that this worker does not hold any more
    :param cancelled: those of ``lost`` that were cancelled
    """

    stop: bool
    paused: bool
    lost: frozenset[str]
    cancelled: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A job, and its present state. Times are in seconds since 1970, by the queue's clock.

    :param place: jobs ahead of it; None: it does not wait
    :param tries: attempts so far
    :param lost: workers lost in a row without getting further
    :param why: why it died: retries, fatal, poison, expired, cancelled, hopeless; or empty
    :param error: the last error in words, or empty
    """

    id: str
    state: str
    place: int | None
    tries: int
    lost: int
    worker: str
    enqueued: float
    started: float | None
    ended: float | None
    progress: bytes
    result: bytes
    why: str
    error: str


@dataclass(frozen=True, kw_only=True)
class WorkerRecord:
    """A worker process.

    :param silent: seconds since it was heard last
    :param holds: how many jobs it has
    :param jobs: their ids; none, if there are too many to show
    :param waits_for: the reason why it takes no more, or empty
    """

    id: str
    silent: float
    holds: int
    jobs: Sequence[str]
    waits_for: str = ""


@dataclass(frozen=True, kw_only=True)
class Stats:
    """A queue, and its present state.

    :param now: the queue's time, in seconds since 1970
    :param counts: jobs by state
    :param suspects: waiting jobs that are to be run alone
    :param backlog: units of work that have not ended
    :param empty: seconds for which no job has waited or run; None: some do
    :param settings: live settings by name, see ``control``
    :param minutes: events by name in each of the last minutes, the present one first
    """

    now: float
    counts: Mapping[str, int]
    suspects: int
    backlog: int
    empty: float | None
    settings: Mapping[str, str]
    minutes: Sequence[Mapping[str, int]]
    workers: Sequence[WorkerRecord]


class Acked(IntEnum):
    """The outcome of an acknowledgement."""

    RECORDED = 1
    REPEATED = 2  # it had been recorded before
    STALE = 0  # the job is not this worker's any more
    UNKNOWN = -1  # there is no such job

    @property
    def counts(self) -> bool:
        """Whether the work counts."""
        return self > 0


#: Minutes by which rates are measured: the present one and five full ones.
RATE_MINUTES = 6


@dataclass(frozen=True)
class Ack:
    """A job that was done.

    :param ok: how many of its units succeeded
    :param result: bytes that are kept with the job
    :param tags: words by which its group is found, with commas between them
    """

    job: Job
    ok: int = 1
    result: bytes = b""
    tags: str = ""
