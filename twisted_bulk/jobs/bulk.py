"""Actions on many groups at once: planned, then done in steps that no crash repeats."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from twisted_bulk.brokers.store import Argument
from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs.call_scripts import FULL_RETRY_AFTER
from twisted_bulk.jobs.group_index import MAX_LOOKED, GroupFilter
from twisted_bulk.jobs.groups import LONG_DEADLINE, GroupQueue
from twisted_bulk.jobs.replies import fields, ms, when

PLAN_SECONDS = 900.0  # for which a plan is kept that nobody begins
KEEP_SECONDS = 7 * 86400.0  # for which the record is kept after the end
MAX_GROUPS = 100_000  # in one bulk action
MAX_SHOWN = 50  # bulk actions in a list of them
RETRY_AFTER = 5  # seconds for a client whose plan was dropped


class Action(StrEnum):
    """What is done with each group."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"
    PRIORITY = "priority"
    NOTIFY = "notify"


@dataclass(frozen=True, kw_only=True)
class BulkRecord:
    """A bulk action, and its present state. Times are in seconds since 1970.

    :param value: the priority, for that action; else empty
    :param by: the token that planned it, or empty
    :param state: finding (its groups), planned, running, stopped, done
    :param total: groups that were found
    :param eligible: of these: how many would be changed, by the plan
    :param done: groups that were changed
    :param left: groups that were not changed, or before it runs would not be, by the reason
    """

    id: str
    action: str
    value: str
    by: str
    state: str
    planned: float
    ended: float | None
    total: int
    eligible: int
    done: int
    left: Mapping[str, int]


class Step(IntEnum):
    """The outcome of one step."""

    MORE = 1
    ENDED = 0
    FULL = -1  # the queue has no room for now


class BulkActions:
    """The bulk actions of one queue."""

    def __init__(self, queue: GroupQueue) -> None:
        self._queue = queue

    async def plan(
        self,
        action: Action,
        value: str,
        by: str,
        wanted: GroupFilter,
        selected: Sequence[str] = (),
    ) -> str | None:
        """Find the groups; nothing is changed.

        :param selected: ids of groups, instead of a search; those count that match the filter
        :returns: the id; None: they are more than :data:`MAX_GROUPS`
        :raises Unavailable: the token plans too much at once
        """
        bulk, cursor = secrets.token_hex(8), ""
        while True:
            words: list[Argument] = [
                bulk,
                action,
                value,
                by,
                ms(PLAN_SECONDS),
                *wanted.words,
                cursor,
                MAX_LOOKED,
            ]
            words += selected
            reply = await self._queue.script("bulk_fill", *words, deadline=LONG_DEADLINE)
            if not reply:
                raise Unavailable("the plan was dropped, as others were made", RETRY_AFTER)
            cursor = reply[0].decode()
            if int(reply[1]) > MAX_GROUPS:
                await self._queue.script("bulk_drop", bulk)
                return None
            if not cursor:
                return bulk

    async def begin(self, bulk: str) -> bool | None:
        """Let a planned one run. False: it was stopped, or has ended. None: it is unknown.

        :raises Unavailable: as many of its token run as may
        """
        return await self._set_state(bulk, "running")

    async def stop(self, bulk: str) -> bool | None:
        """Stop one that runs. False: it does not run. None: it is unknown."""
        return await self._set_state(bulk, "stopped")

    async def _set_state(self, bulk: str, state: str) -> bool | None:
        reply = await self._queue.script("bulk_state", bulk, state, ms(KEEP_SECONDS))
        if reply == -2:
            raise Unavailable("as many bulk actions of this token run as may", FULL_RETRY_AFTER)
        return None if reply < 0 else bool(reply)

    async def step(self, bulk: str, tombstone: float) -> tuple[Step, list[str]]:
        """Change some more groups.

        :param tombstone: see :meth:`GroupQueue.forget`
        :returns: the outcome, and the ids of the groups that were changed
        """
        queue = self._queue
        words = (bulk, queue.cap, queue.after.cap, ms(tombstone), ms(KEEP_SECONDS))
        outcome, *changed = await queue.script("bulk_step", *words, deadline=LONG_DEADLINE)
        return Step(outcome), [group_id.decode() for group_id in changed]

    async def latest(self, by: str | None = None) -> list[BulkRecord]:
        """The latest ones, :data:`MAX_SHOWN` at most.

        :param by: the token that planned them; None: everybody's
        """
        return await self._records("", by)

    async def running(self) -> list[BulkRecord]:
        """Those that run."""
        return await self._records("running", None)

    async def record(self, bulk: str) -> BulkRecord | None:
        """One of them; None: there is none (any more)."""
        found = await self._records("", None, bulk)
        return found[0] if found else None

    async def _records(self, state: str, by: str | None, *ids: str) -> list[BulkRecord]:
        whose = ("", "") if by is None else ("1", by)
        reply = await self._queue.script("bulks", MAX_SHOWN, state, *whose, *ids)
        return [
            _record(bulk.decode(), flat) for bulk, flat in zip(reply[::2], reply[1::2], strict=True)
        ]


def _record(bulk: str, flat: Sequence[bytes]) -> BulkRecord:
    known = fields(flat)
    left = {
        name.removeprefix("left:"): int(count)
        for name, count in known.items()
        if name.startswith("left:")
    }
    planned = when(known["frozen"])
    assert planned is not None
    texts = (known[name].decode() for name in ("action", "value", "by", "state"))
    action, value, by, state = texts
    total, eligible, done = (int(known[name]) for name in ("total", "eligible", "done"))
    return BulkRecord(
        id=bulk, action=action, value=value, by=by, state=state, planned=planned,
        ended=when(known.get("ended")), total=total, eligible=eligible, done=done, left=left,
    )  # fmt: skip
