"""What a queue holds: jobs, and groups of jobs. Values only.

A *job* is opaque bytes with an id, worked on by at most one worker at a time: a
lease renewed by heartbeats says who, and the attempt number together with the
worker's id is the fence that a late worker cannot pass. A *group* is a set of jobs
that end together, after which one more job is queued; a batch is a group, its parts
are the jobs and its last callback is what comes after.

States of a job: todo (waiting), later (not yet due), doing, done, dead.
States of a group: :data:`GROUP_STATES`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

GROUP_STATES = ("queued", "running", "done", "partial", "failed", "cancelled", "expired")
ENDED = GROUP_STATES[2:]


@dataclass(frozen=True, kw_only=True)
class Work:
    """A job to be queued.

    :param size: units of work in it, as counted by the cap and by its group
    :param delay: seconds before it is due
    :param expires: seconds after which it is too late to start, or 0
    :param tries: attempts that may fail; ``losses``: workers that may die with it
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


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job that this worker holds."""

    id: str
    attempt: int
    attachment: str
    payload: bytes


@dataclass(frozen=True, kw_only=True)
class GroupPart:
    """One job of a group to be submitted; the attachment is one of :meth:`attach`'s."""

    size: int
    attachment: str
    payload: bytes


@dataclass(frozen=True, kw_only=True)
class Group:
    """Jobs to be queued whole or not at all.

    :param digest: of what was asked for; tells a repetition from a conflict
    :param spec: opaque, kept with the group
    :param need: units that have to succeed for the group not to have failed
    :param after: payload of the job that follows, or empty; ``after_tries``: its attempts
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


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """One job of a group as it stands; ``why`` and ``error`` say how it died."""

    state: str
    size: int
    ok: int
    progress: bytes
    result: bytes
    why: str
    error: str


@dataclass(frozen=True, kw_only=True)
class GroupRecord:
    """A group as it stands. Times are the queue's own, in seconds since 1970.

    :param units: thousandths of its ``total`` that are over; never falls
    :param place: jobs ahead of its first one, or None when that does not wait
    """

    id: str
    state: str
    digest: str
    nonce: str
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
