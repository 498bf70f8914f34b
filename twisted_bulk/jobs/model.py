"""What a queue holds: jobs, and groups of jobs. Values only.

A *job* is opaque bytes with an id, worked on by at most one worker at a time: a
lease renewed by heartbeats says who, and the attempt number together with the
worker's id is the fence that a late worker cannot pass. A *group* is a set of jobs
that end together, after which one more job is queued; a batch is a group, its parts
are the jobs and its last callback is what comes after.

States of a job: todo (waiting), later (not yet due), doing, done, dead.
States of a group: :data:`GROUP_STATES`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

LEASE = 30.0  # seconds without a heartbeat after which others take a job
BEAT = 1.0  # seconds between heartbeats: as old as the progress that users see may be

JOB_STATES = ("todo", "later", "doing", "done", "dead")
GROUP_STATES = ("queued", "running", "done", "partial", "failed", "cancelled", "expired")
ENDED = GROUP_STATES[2:]


@dataclass(frozen=True, kw_only=True)
class Work:
    """A job to be queued.

    :param size: units of work in it, as counted by the cap and by its group
    :param delay: seconds before it is due
    :param expires: seconds after which it is too late to start, or 0
    :param tries: attempts that may fail; a lost worker uses up none
    :param losses: workers that may die in a row with nothing but this job in hand, and without
        getting further with it; 0: any number
    :param digest: of its parameters: of several jobs with one digest only the first is queued,
        until it ends; and, if it was done, for ``window`` seconds more
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
    """What became of a job that was to be queued.

    :param id: its own, or that of the job that has its digest already
    :param new: False for a repetition, of the id or of the digest
    """

    id: str
    new: bool


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job that this worker holds.

    :param size: units of work in it
    :param small: it belongs to a group of few units
    """

    id: str
    attempt: int
    attachment: str
    payload: bytes
    size: int = 1
    small: bool = False


@dataclass(frozen=True)
class Reserved:
    """What a worker got to do.

    :param what: ``ok``, or why there are none: ``empty``, ``stop``, ``paused``, ``full`` (as
        many run as may), ``rate`` (as many were started as may be)
    :param wait: seconds until that may have changed, or None: when something is queued
    :param suspects: jobs that waited to be run alone; ``waiting``: others that waited
    """

    what: str
    wait: float | None
    jobs: Sequence[Job]
    suspects: int = 0
    waiting: int = 0


class Alone(IntEnum):
    """How a worker takes jobs.

    A *suspect* is a job that lost two workers in a row, and of which nothing got further with
    either. It is run with nothing else in its worker's process.
    """

    NO = 0  # several at once, and no suspects
    YES = 1  # a suspect; it counts against it if this worker is lost
    WATCHED = 2  # a suspect; it counts only if somebody saw this worker die by itself


@dataclass(frozen=True, kw_only=True)
class Maintained:
    """What a round of housekeeping did.

    :param step: seconds by which the server's clock was put forward; below 0: back
    :param forgotten: ended jobs whose record went
    :param groups: ids of ended groups whose record went
    """

    step: float
    forgotten: int
    groups: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Beaten:
    """The answer to a heartbeat: flags of the queue, and ids of jobs.

    :param lost: not this worker's any more; of these ``cancelled`` by somebody
    """

    stop: bool
    paused: bool
    lost: frozenset[str]
    cancelled: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A job as it stands; times in seconds since 1970 by the queue's clock.

    :param place: jobs ahead of it, where it waits
    :param lost: workers lost in a row without getting further
    :param why: how it died: retries, fatal, poison, expired, cancelled, hopeless
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
    """A worker process: how long ago it was heard, and what it holds.

    :param jobs: their ids, if there are not too many
    :param waits_for: what keeps it from taking more, or empty
    """

    id: str
    silent: float
    holds: int
    jobs: Sequence[str]
    waits_for: str = ""


@dataclass(frozen=True, kw_only=True)
class Stats:
    """A queue as it stands.

    :param counts: jobs by state; ``suspects``: those of the waiting ones that are to be run alone
    :param backlog: units of work not finished
    :param empty: seconds for which nothing has been waiting or running, or None
    :param minutes: what happened in each of the last minutes, the present one first
    """

    now: float
    counts: Mapping[str, int]
    suspects: int
    backlog: int
    empty: float | None
    settings: Mapping[str, str]
    minutes: Sequence[Mapping[str, int]]
    workers: Sequence[WorkerRecord]


@dataclass(frozen=True, kw_only=True)
class GroupPart:
    """One job of a group to be submitted.

    :param attachment: the key of data that was stored before; ``data``: what is stored now instead
    """

    size: int
    payload: bytes
    attachment: str = ""
    data: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Jobs to be queued whole or not at all.

    :param digest: of what was asked for; tells a repetition from a conflict
    :param spec: opaque, kept with the group
    :param need: units that have to succeed for the group not to have failed
    :param after: payload of the job that follows, or empty; ``after_tries``: its attempts
    :param owner: whose it is in lists, or empty
    """

    id: str
    digest: str
    spec: bytes
    need: int
    parts: Sequence[GroupPart]
    priority: int = 0
    expires: float = 0
    tries: int = 5
    losses: int = 3
    after: bytes = b""
    after_tries: int = 1
    owner: str = ""


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """One job of a group as it stands; ``why`` and ``error`` say how it died.

    :param previous: its result in the run before this one, where that was not whole
    """

    state: str
    size: int
    ok: int
    progress: bytes
    result: bytes
    why: str
    error: str
    previous: bytes = b""


@dataclass(frozen=True, kw_only=True)
class AfterRecord:
    """The job that follows a group, as it stands.

    :param state: see :data:`JOB_STATES`; empty: the group has not ended
    :param failures: of its last tries, when each failed and how
    :param due: when it is tried again
    """

    state: str = ""
    failures: Sequence[tuple[float, str]] = ()
    result: bytes = b""
    ended: float | None = None
    due: float | None = None


@dataclass(frozen=True, kw_only=True)
class GroupRecord:
    """A group as it stands. Times are the queue's own, in seconds since 1970.

    :param run: no other group, and no other run of this one, has the same
    :param runs: runs before this one; ``before``: the state in which the last of these ended
    :param serial: of two groups the later one has the higher
    :param after: the job that follows, if there is to be one
    :param units: thousandths of its ``total`` that are over; never falls
    :param place: jobs ahead of its first one, or None when that does not wait
    """

    id: str
    state: str
    digest: str
    run: str
    spec: bytes
    total: int
    units: int
    seq: int
    created: float
    started: float | None
    ended: float | None
    now: float
    place: int | None
    parts: Sequence[PartRecord]
    runs: int = 0
    before: str = ""
    serial: int = 0
    after: AfterRecord | None = None

    @property
    def nonce(self) -> str:
        """What the ids of its jobs have of it: the name of its first run."""
        return self.run.partition("+")[0]

    def job_id(self, number: int) -> str:
        """The id of one of its jobs, from 1; as in lua/common.lua."""
        return f"{self.id}@{self.nonce}/{number}"

    @property
    def after_id(self) -> str:
        """The id of the job that follows this run."""
        return f"{self.id}@{self.run}"


def split_after_id(job_id: str) -> tuple[str, str]:
    """The group and the run that a job follows."""
    group, _, run = job_id.rpartition("@")
    return group, run


class Submitted(IntEnum):
    """What became of a group that was submitted."""

    QUEUED = 1
    REPEATED = 0
    CONFLICT = -1


class Acked(IntEnum):
    """What became of an ack: only with the first two does the work count."""

    RECORDED = 1
    REPEATED = 2
    STALE = 0
    UNKNOWN = -1

    @property
    def counts(self) -> bool:
        """Whether the work counts."""
        return self > 0


@dataclass(frozen=True)
class Ack:
    """A job that was done: of its units ``ok`` succeeded."""

    job: Job
    ok: int = 1
    result: bytes = b""
