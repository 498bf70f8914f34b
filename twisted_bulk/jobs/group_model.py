"""A group of jobs, and its record. Values only.

A *group* is a set of jobs that end together. Then one more job is queued, which *follows* it.
A batch is a group: its parts are the jobs, and its last callback is the job that follows.

An ended group can be queued again. Each time is a *run* of it, with a name of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

#: The states of a group. The first two are before its end.
GROUP_STATES = ("queued", "running", "done", "partial", "failed", "cancelled", "expired")
ENDED = GROUP_STATES[2:]


@dataclass(frozen=True, kw_only=True)
class GroupPart:
    """One job of a group to be submitted.

    :param size: units of work in it
    :param attachment: the key of data that was stored before, or empty
    :param data: data that is stored with the job instead, or empty
    """

    size: int
    payload: bytes
    attachment: str = ""
    data: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Jobs to be queued whole or not at all.

    :param digest: of the order; tells a repetition from a conflict
    :param spec: opaque bytes, kept with the group
    :param need: units that must succeed, or the group has failed
    :param expires: seconds after which its jobs are too late to start; 0: never
    :param tries: attempts of each job that may fail
    :param losses: see :class:`~twisted_bulk.jobs.model.Work`
    :param after: payload of the job that follows; empty: none follows
    :param after_tries: attempts of that job
    :param owner: name of the token that submitted it, or empty
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
    """One job of a group, and its present state.

    :param size: units of work in it
    :param ok: units that succeeded, once it has ended
    :param progress: bytes that its worker told with the last heartbeat
    :param result: bytes that its function returned, once it has ended
    :param why: why it died, see :class:`~twisted_bulk.jobs.model.JobRecord`, or empty
    :param error: the last error in words, or empty
    :param previous: its result in the run before this one, if some units had failed in that
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
    """The job that follows a group, and its present state.

    :param state: one of :data:`~twisted_bulk.jobs.model.JOB_STATES`; empty: the group has not ended
    :param failures: when each of its last tries failed (seconds since 1970), and how
    :param due: when it is tried again (seconds since 1970); None: it does not wait for that
    """

    state: str = ""
    failures: Sequence[tuple[float, str]] = ()
    result: bytes = b""
    ended: float | None = None
    due: float | None = None


@dataclass(frozen=True, kw_only=True)
class GroupRecord:
    """A group, and its present state. Times are in seconds since 1970, by the queue's clock.

    :param run: the name of its present run; no other group and no other run has it
    :param total: units of work in its jobs
    :param units: thousandths of ``total`` that have ended; within a run it never falls
    :param seq: the number of its last report
    :param now: the queue's time
    :param place: jobs ahead of its first one; None: that one does not wait
    :param runs: runs before this one
    :param before: the state in which the run before this one ended, or empty
    :param serial: of two groups the later one has the higher number
    :param after: the job that follows; None: none does
    :param change: the number of its last change; 0: it has none, as an older version wrote it
    :param need: units that must succeed, or it has failed
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
    change: int = 0
    need: int = 0

    @property
    def nonce(self) -> str:
        """The name of its first run, which stands in the ids of its jobs."""
        return self.run.partition("+")[0]

    def job_id(self, number: int) -> str:
        """The id of its job ``number``, from 1; as ``job_id`` of lua/shared/keys.lua."""
        return f"{self.id}@{self.nonce}/{number}"

    @property
    def after_id(self) -> str:
        """The id of the job that follows this run; as ``after_id`` of lua/shared/keys.lua."""
        return f"{self.id}@{self.run}"


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Changes of groups that their users see, each with a number; a later one has a higher number.

    :param groups: ids, with the number of the last change of each, in the order of these numbers
    :param last: the number of the last change of any group
    :param forgotten: up to this number, changes may be missing in ``groups``
    """

    groups: Sequence[tuple[str, int]]
    last: int
    forgotten: int


def split_after_id(job_id: str) -> tuple[str, str]:
    """The group's id and the run's name, out of the id of the job that follows them.

    Of the id of one of the group's own jobs, the group's id.
    """
    group, _, run = job_id.rpartition("@")
    return group, run


class Submitted(IntEnum):
    """The outcome of submitting a group."""

    QUEUED = 1
    REPEATED = 0  # a group with this id and this digest was queued before
    CONFLICT = -1  # a group with this id and another digest was
