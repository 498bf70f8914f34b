"""Ended batches queued again: all members that failed, or some of them."""

from collections.abc import Callable
from typing import Any

import msgspec

from twisted_bulk.batch.model import PartResult, task_of
from twisted_bulk.batch.selection import Selection
from twisted_bulk.errors import InvalidRequest, NotRetryable, RunChanged
from twisted_bulk.jobs.group_model import ENDED, GroupRecord, PartRecord
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.management.listing import Listing
from twisted_bulk.management.members import Members
from twisted_bulk.orders.grouping import Grouping
from twisted_bulk.orders.submission import Retry


class Retries:
    """Queues batches again.

    :param members: of the batches whose files are on this node
    :param check: raises an error if no batch can be taken in now
    """

    def __init__(
        self,
        queue: GroupQueue,
        listing: Listing,
        grouping: Grouping,
        members: Members,
        check: Callable[[], object],
    ) -> None:
        self._queue = queue
        self._listing = listing
        self._grouping = grouping
        self._members = members
        self._check = check

    async def retry(self, key: str, retry: Retry) -> dict[str, Any]:
        """Fetch failed members once more; the others are taken over into a new zip.

        :returns: the batch
        :raises NotRetryable: the batch has not ended, or no failed member is meant
        :raises RunChanged: it is in another run than the caller knows
        """
        self._check()
        if retry.only is not None and retry.replace:
            raise InvalidRequest("only, replace: expected one of them")
        record = await self._listing.record(key)
        _check_run(record, retry)
        only, jobs = b"", list[int]()
        if retry.only is not None:
            wanted = retry.only.selection
            counted = await self._counted(record, wanted)
            if not counted:
                raise NotRetryable(f"no failed member of batch {task_of(key)} is meant")
            _check_need(record, sum(counted.values()))
            jobs = list(counted)
            only = msgspec.json.encode(wanted)
        replaced = await self._grouping.replace(record, retry.replace)
        # What was attached is not detached here, as the outcome may not be known: it expires.
        queued = await self._queue.again(key, replaced, only, jobs)
        if not queued:
            raise NotRetryable(f"batch {task_of(key)} has not ended, or nothing of it is missing")
        return await self._listing.show(key)

    async def plan(self, key: str, retry: Retry) -> dict[str, Any]:
        """What :meth:`retry` would do, as ``{"run", "retried", "left"}``; nothing is changed.

        ``left``: members that would not be fetched, as ``{"reason", "members"}``.

        :raises NotRetryable: the batch has not ended
        """
        record = await self._listing.record(key)
        _check_run(record, retry)
        if record.state not in ENDED:
            raise NotRetryable(f"batch {task_of(key)} has not ended")
        failed = sum(part.size - part.ok for part in record.parts)
        retried = failed
        if retry.only is not None:
            retried = sum((await self._counted(record, retry.only.selection)).values())
            _check_need(record, retried)
        reasons = {"done": record.total - failed, "not_meant": failed - retried}
        left = [{"reason": why, "members": count} for why, count in reasons.items() if count]
        return {"run": record.runs + 1, "retried": retried, "left": left}

    async def _counted(self, record: GroupRecord, wanted: Selection) -> dict[int, int]:
        """How many failed members are meant, by the numbers of the parts that have some."""
        here, first = await self._members.selected(record, wanted), 0
        counted: dict[int, int] = {}
        for number, part in enumerate(record.parts, 1):
            if part.ok < part.size:
                count = here[number] if number in here else _told(part, first, wanted)
                if count:
                    counted[number] = count
            first += part.size
        return counted


def _told(part: PartRecord, first: int, wanted: Selection) -> int:
    """At most how many failed members of a part are meant, by its record alone.

    :param first: how many members are before it
    """
    if wanted.members and not any(first < one <= first + part.size for one in wanted.members):
        return 0
    if not part.result:  # it failed as a whole: what is known of its members is that
        is_meant = wanted.code in ("", part.why)
        return 0 if wanted.host or wanted.text or wanted.members else part.size * is_meant
    failures = msgspec.json.decode(part.result, type=PartResult).failures
    if not failures:  # an older version of the program wrote no groups
        return part.size - part.ok
    return sum(count for code, host, count in failures if wanted.may_match(code, host))


def _check_need(record: GroupRecord, retried: int) -> None:
    """:raises NotRetryable: the batch would fail by its policy, whatever becomes of these"""
    done = sum(part.ok for part in record.parts)
    if done + retried < record.need:
        raise NotRetryable(
            f"by its policy batch {task_of(record.id)} needs {record.need} members, so more of"
            " those that failed have to be tried"
        )


def _check_run(record: GroupRecord, retry: Retry) -> None:
    if retry.run not in (None, record.runs + 1):
        raise RunChanged(
            f"batch {task_of(record.id)} was tried again: this is run {record.runs + 1}"
        )
