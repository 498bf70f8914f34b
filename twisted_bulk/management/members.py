"""The members of a batch as the API shows them: a page, a count, those that wait."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec
from twisted.internet.interfaces import IReactorTime

from twisted_bulk.batch.masks import show
from twisted_bulk.batch.model import PartSpec, unpack_members
from twisted_bulk.batch.selection import STATUSES, Selection
from twisted_bulk.errors import InvalidRequest
from twisted_bulk.jobs.group_model import GroupRecord
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.management.counts import Counts
from twisted_bulk.management.manifest import part_number
from twisted_bulk.management.member_search import MemberSearch, parts_after
from twisted_bulk.orders.queries import MembersQuery
from twisted_bulk.system.threads import BoundedThreads

MAX_PAGE = 200  # members in one answer
MAX_TEXT = 200  # characters that are searched for
MAX_SHOWN = 300  # characters of a URL, a name and a detail; ``full`` shows all of one member
MAX_SEARCHES = 2  # threads that search at once: they compete with the reactor's thread
MAX_WAITING = 100  # searches that wait for a thread; more are 503
WAITING = "waiting"  # the status of members that have not ended


class Members:
    """Finds and shows the members of batches whose files are on this node."""

    def __init__(self, queue: GroupQueue, search: MemberSearch, clock: IReactorTime) -> None:
        self._queue = queue
        self._search = search
        self._counts = Counts(clock)
        self._threads = BoundedThreads(MAX_SEARCHES, MAX_WAITING, "members are searched")

    async def page(self, record: GroupRecord, asked: MembersQuery) -> dict[str, Any]:
        """Members in their order, as ``{"run", "members", "cursor", "missing", "whole"}``.

        There may be fewer than ``limit`` though more follow. ``run``: of the batch. ``missing``:
        parts whose results are on other nodes, as ``{"part", "node"}``. ``whole``: parts that
        failed as a whole, before they looked at their members.

        :raises InvalidRequest: names the parameter
        """
        limit, cursor, full = _limit(asked), _cursor(asked.cursor), asked.full == "true"
        only = part_number(record, asked.part)
        if asked.status == WAITING:
            shown, after = await self._waiting(record, cursor, limit, only, full)
            missing = list[dict[str, Any]]()
        else:
            wanted = _selection(asked)
            found = await self._threads.run(
                lambda: self._search.find(record, wanted, cursor, limit, only=only)
            )
            shown = [_cut(msgspec.to_builtins(one), full) for one in found.outcomes]
            after, missing = found.cursor, _missing(found.missing)
        page: dict[str, Any] = {
            "run": record.runs + 1, "members": shown, "cursor": str(after) if after else None,
            "missing": missing, "whole": list(_whole(record)),
        }  # fmt: skip
        if asked.count == "true" and asked.status != WAITING and not only:
            if not cursor and not after:  # these are all
                page["count"] = {"at_least": len(shown), "exact": len(shown), "age": 0.0}
            else:
                page["count"] = await self._count(record, wanted)
            if missing:  # how many these have is not known here
                page["count"] = {**page["count"], "exact": None, "age": None}
        return page

    async def selected(self, record: GroupRecord, wanted: Selection) -> dict[int, int]:
        """How many members are meant, by the numbers of the parts that are on this node."""
        counted: dict[int, int] = {}
        for number, part in enumerate(record.parts, 1):
            if part.result and part.ok < part.size:
                found = await self._count_all(record, wanted, number)
                if found is not None:
                    counted[number] = found
        return counted

    async def _count_all(self, record: GroupRecord, wanted: Selection, number: int) -> int | None:
        """How many members of one part are meant; None: its results are on another node."""
        count, after = 0, 0
        while True:
            some = partial(self._search.count, record, wanted, after, only=number)
            found = await self._threads.run(some)
            if found.missing:
                return None
            count, after = count + found.count, found.cursor
            if not after:
                return count

    async def _count(self, record: GroupRecord, wanted: Selection) -> dict[str, Any]:
        async def some(cursor: str) -> tuple[int, str]:
            found = await self._threads.run(
                lambda: self._search.count(record, wanted, int(cursor or 0))
            )
            return found.count, str(found.cursor or "")

        return await self._counts.of((record.id, record.run, record.change, wanted), some)

    async def _waiting(
        self, record: GroupRecord, after: int, limit: int, only: int, full: bool
    ) -> tuple[list[dict[str, Any]], int]:
        """Members that have not ended, and the cursor of the next page or 0."""
        shown: list[dict[str, Any]] = []
        for number, _, part in parts_after(record, after, only):
            if part.state not in ("todo", "later", "doing"):
                continue
            key = await self._queue.attachment_of(record, number)
            packed = await self._queue.attachment(key) if key else None
            payload = await self._queue.payload_of(record, number)
            if packed is None or not payload:
                continue
            spec = msgspec.json.decode(payload, type=PartSpec)
            list_some = partial(
                self._not_ended, record, spec, packed, after, limit - len(shown), full
            )
            shown += await self._threads.run(list_some)
            if len(shown) == limit:
                return shown, shown[-1]["member"]
        return shown, 0

    def _not_ended(
        self, record: GroupRecord, spec: PartSpec, packed: bytes, after: int, room: int, full: bool
    ) -> list[dict[str, Any]]:
        ended = self._search.ended(record, spec.part, spec.first)
        found: list[dict[str, Any]] = []
        for number, member in enumerate(unpack_members(packed), spec.first + 1):
            if len(found) < room and number > after and number not in ended:
                one = {"member": number, "status": WAITING, "part": spec.part, "name": member.name}
                one["url"] = show(member.url, spec.show_urls)
                found.append(_cut(one, full))
        return found


def _limit(asked: MembersQuery) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", asked.limit) or not 1 <= int(asked.limit) <= MAX_PAGE:
        raise InvalidRequest(f"limit: expected 1 to {MAX_PAGE}")
    return 1 if asked.full == "true" else int(asked.limit)


def _cursor(text: str) -> int:
    if not re.fullmatch(r"[0-9]{0,9}", text):
        raise InvalidRequest("cursor: expected the cursor of an earlier answer")
    return int(text or 0)


def _selection(asked: MembersQuery) -> Selection:
    """The members that are meant, but for those of other parts.

    :raises InvalidRequest: names the parameter
    """
    if asked.status not in ("", *STATUSES):
        raise InvalidRequest(f"status: expected one of {', '.join(STATUSES)}, {WAITING}")
    for name in ("code", "host", "text"):
        if len(getattr(asked, name)) > MAX_TEXT:
            raise InvalidRequest(f"{name}: more than {MAX_TEXT} characters")
    return Selection(status=asked.status, code=asked.code, host=asked.host, text=asked.text)


def _cut(shown: dict[str, Any], full: bool) -> dict[str, Any]:
    """A member with long texts cut, unless ``full`` is asked; its ``cut`` says whether some are."""
    long = [name for name in ("url", "name", "detail") if len(shown.get(name, "")) > MAX_SHOWN]
    cut = {name: f"{shown[name][: MAX_SHOWN - 1]}…" for name in long if not full}
    return {**shown, **cut, "cut": bool(cut)}


def _whole(record: GroupRecord) -> Iterator[dict[str, Any]]:
    for number, part in enumerate(record.parts, 1):
        if part.state == "dead" and not part.result:
            yield {"part": number, "members": part.size, "code": part.why, "detail": part.error}


def _missing(nodes: dict[int, str]) -> list[dict[str, Any]]:
    return [{"part": part, "node": node} for part, node in sorted(nodes.items())]
