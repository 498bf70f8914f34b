"""Batches as the API shows them: one, or a page of them."""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from twisted.internet.interfaces import IReactorTime

from twisted_bulk.batch.model import Spec, key_of, task_of
from twisted_bulk.batch.report import report
from twisted_bulk.errors import InvalidRequest, NoSuchBatch
from twisted_bulk.jobs.group_model import GroupRecord
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.jobs.model import Stats
from twisted_bulk.jobs.quiet_hours import Hours
from twisted_bulk.jobs.stats import job_eta, waits_for
from twisted_bulk.management.batch_filter import batch_filter
from twisted_bulk.management.counts import Counts
from twisted_bulk.orders.queries import BatchFilter

MAX_PAGE = 100  # batches in one answer
MAX_PAGE_BYTES = 1_000_000  # of an answer; the cursor leads to the batches that have no room in it
#: Searches of the queue's indexes for one page; after so many in vain the page is empty, and its
#: cursor leads on.
MAX_SEARCHES = 20


class Listing:
    """Finds and shows the batches of one queue.

    :param link_base: returns the beginning of links
    :param hours: when nothing is begun on this node
    """

    def __init__(
        self,
        queue: GroupQueue,
        link_base: Callable[[], str],
        hours: Hours,
        clock: IReactorTime,
    ) -> None:
        self._queue = queue
        self._counts = Counts(clock)
        self._link_base = link_base
        self._hours = hours

    async def find(self, asked: str, name: str, everybody: bool) -> str:
        """The key of the batch that a token means by the id ``asked``.

        That is a batch of its own, or one without a token. A token that sees everybody's batches
        may also ask for ``name:id``, and for ``:id``, which has no token.

        :param name: the token's, or empty
        :raises NoSuchBatch: there is no batch that it may see
        """
        if not name:
            return asked
        named, colon, task_id = asked.rpartition(":")
        wanted = named if colon else name
        for key in dict.fromkeys((key_of(wanted, task_id), task_id)):
            owner = await self._queue.owner_of(key)
            # A key without a name may be any token's: older versions wrote these.
            if owner is not None and (everybody or owner == name) and (
                not colon or owner == wanted
            ):  # fmt: skip
                return key
        raise NoSuchBatch(f"there is no batch {asked}")

    async def record(self, key: str) -> GroupRecord:
        """The record of a batch.

        :raises NoSuchBatch: there is none
        """
        record = await self._queue.group(key)
        if record is None:
            raise NoSuchBatch(f"there is no batch {task_of(key)}")
        return record

    async def show(self, key: str) -> dict[str, Any]:
        """A batch, as ``GET /v1/batches/ID`` answers.

        :raises NoSuchBatch: there is none
        """
        return await self.shown(await self.record(key))

    async def shown(self, record: GroupRecord) -> dict[str, Any]:
        """As :meth:`show`, by the record."""
        shown = self.report(record)
        await self._add_reasons([shown], [record])
        return shown

    def report(self, record: GroupRecord, brief: bool = False) -> dict[str, Any]:
        """A batch by its record alone.

        :param brief: as in a list of batches
        """
        return report(record, self._link_base(), brief=brief)

    async def _add_reasons(
        self, shown: Sequence[dict[str, Any]], records: Sequence[GroupRecord]
    ) -> None:
        """Add to batches that wait why they do, and when they will be done."""
        waiting = [
            (one, record.place)
            for one, record in zip(shown, records, strict=True)
            if record.state in ("queued", "running")
            and not any(part.state == "doing" for part in record.parts)
        ]
        if waiting:
            stats = await self._queue.stats()
            why = waits_for(stats)
            for one, place in waiting:
                one["waits_for"], one["eta"] = why, self._eta(stats, place, why)

    def _eta(self, stats: Stats, place: int | None, why: str) -> float | None:
        """Seconds until a batch that waits is done; None: that is unknown."""
        eta = None if place is None else job_eta(stats, place)
        if eta is None or why in ("stopped", "paused", "a worker"):
            return None
        return round(eta + self._hours.closed_for(time.time()), 1)

    async def page(
        self,
        asked: BatchFilter,
        limit: str,
        cursor: str,
        owner: str | None = None,
        count: bool = False,
    ) -> dict[str, Any]:
        """Batches, newest first, as ``{"batches", "cursor"}``.

        There may be fewer than ``limit`` though more follow.

        :param owner: the token whose batches are listed; None: everybody's
        :param count: add ``count``, see :meth:`Counts.of`
        :raises InvalidRequest: names the parameter
        """
        if not re.fullmatch(r"[0-9]{1,6}", limit) or not 1 <= int(limit) <= MAX_PAGE:
            raise InvalidRequest(f"limit: expected 1 to {MAX_PAGE}")
        if not re.fullmatch(r"[0-9]{0,15}", cursor):
            raise InvalidRequest("cursor: expected the cursor of an earlier answer")
        wanted = batch_filter(asked, owner)
        if wanted is None:
            return {"batches": [], "cursor": None}
        shown: list[dict[str, Any]] = []
        for _ in range(MAX_SEARCHES):
            ids, cursor = await self._queue.groups(wanted, cursor, int(limit))
            more, cut = await self._briefly(ids, owner)
            shown, cursor = shown + more, cut or cursor
            if shown or not cursor:
                break
        page: dict[str, Any] = {"batches": shown, "cursor": cursor or None}
        if count:
            page["count"] = await self._counts.of(
                wanted, lambda cursor: self._queue.count_groups(wanted, cursor)
            )
        return page

    async def _briefly(
        self, keys: Iterable[str], owner: str | None
    ) -> tuple[list[dict[str, Any]], str]:
        """Those batches that ``owner`` may see; and a cursor if they became too many bytes."""
        shown, records, size, cut = list[dict[str, Any]](), list[GroupRecord](), 0, ""
        for key in keys:
            record = await self._queue.group(key)
            if record is None or not _is_of(record, owner):
                continue
            records.append(record)
            shown.append(report(record, self._link_base(), brief=True))
            size += len(msgspec.json.encode(shown[-1]))
            if size > MAX_PAGE_BYTES:
                cut = str(record.serial)
                break
        await self._add_reasons(shown, records)
        return shown, cut


def _is_of(record: GroupRecord, owner: str | None) -> bool:
    """Whether the batch is the token's; None: every batch is."""
    return owner is None or msgspec.json.decode(record.spec, type=Spec).owner == owner
