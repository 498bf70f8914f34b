"""Batches in the queue: taken in, looked up, listed, cancelled, deleted."""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from twisted_bulk.api.cancel import cancel_all, check_states
from twisted_bulk.api.manifest import Manifests
from twisted_bulk.api.order import Order
from twisted_bulk.api.submission import MAX_PARTS
from twisted_bulk.batch.model import PartSpec, Spec, host_of, key_of, pack_members, task_of
from twisted_bulk.batch.report import report
from twisted_bulk.errors import (
    InvalidRequest,
    NoSuchBatch,
    NotRetryable,
    NotUndelivered,
    QueueFull,
    QueueStopped,
    TaskConflict,
    Unavailable,
)
from twisted_bulk.jobs.group_model import (
    GROUP_STATES,
    Group,
    GroupPart,
    GroupRecord,
    Submitted,
    split_after_id,
)
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.jobs.model import Stats
from twisted_bulk.jobs.quiet_hours import ALWAYS, Hours
from twisted_bulk.jobs.stats import job_eta, summary, waits_for

log = Logger()

PAGE = 100  # batches in one answer
PAGE_BYTES = 1_000_000  # of an answer, after which it ends and names where to go on
RETRYABLE = ("failed", "partial", "expired", "cancelled")
PAGES = 20  # looked through for one that is to be shown
FEW = 1000  # members that are packed without a thread, and queued in one step


@dataclass(frozen=True)
class Ticket:
    """A batch that was taken in, now (``new``) or before.

    :param task_id: as its owner knows it
    """

    task_id: str
    new: bool
    shown: dict[str, Any]


class Intake:
    """The batches of one queue.

    :param link_base: what links begin with
    :param part_files: members in one part
    :param callback_tries: attempts at a last callback
    :param deleted: told the id of a batch after its record went
    :param keep: seconds that a deletion is remembered
    :param manifests: those of the batches whose files are on this node
    :param check: raises where nothing can be taken in now
    :param claim: asked for room in the queue for so many bytes; raises where there is none
    :param hours: when nothing is begun on this node
    """

    def __init__(
        self,
        queue: GroupQueue,
        *,
        link_base: Callable[[], str],
        part_files: int,
        compress: str,
        callback_tries: int,
        keep: float,
        deleted: Callable[[str], object] = lambda batch: None,
        manifests: Manifests | None = None,
        check: Callable[[], object] = lambda: None,
        claim: Callable[[int], object] = lambda size: None,
        hours: Hours = ALWAYS,
    ) -> None:
        self._check = check
        self._claim = claim
        self._hours = hours
        self._manifests = manifests
        self._queue = queue
        self._link_base = link_base
        self._part_files = part_files
        self._compress = compress
        self._callback_tries = callback_tries
        self._keep = keep
        self._deleted = deleted

    async def submit(self, order: Order, owner: str = "") -> Ticket:
        """Queue a batch; the same one again is answered with the first.

        :raises TaskConflict: the id belongs to a batch with another body, or of another owner
        """
        digest = hashlib.sha256(f"{owner} {order.digest}".encode()).hexdigest()
        named = order.submission.task_id
        task_id = os.urandom(8).hex() if named is None else str(named)
        key = key_of(owner, task_id)
        if owner and named is not None and await self._queue.owner_of(task_id) == owner:
            key = task_id  # it was taken in when ids were everybody's
        refusal = None
        try:
            self._check()
            self._claim(0)
            if len(order) > FEW:  # before they are packed; of a few the queue says it in time
                await self._queue.check_room(len(order))
        except Unavailable as error:
            refusal = error
        if named is not None and (refusal or len(order) > FEW):
            known = await self._queue.group(key)
            if known is not None:
                return await self._repeated(key, known.digest == digest)
        if refusal:
            raise refusal
        group, attached = await self._group(key, order, owner, digest)
        try:
            submitted, place = await self._queue.submit(group)
        except QueueFull:
            await self._queue.detach(attached)
            raise
        if place is None:
            await self._queue.detach(attached)
            try:
                return await self._repeated(key, submitted is Submitted.REPEATED)
            except NoSuchBatch:  # it was deleted meanwhile, so the id is free
                return await self.submit(order, owner)
        return Ticket(task_id, True, {"position": place + 1})

    async def _repeated(self, key: str, same: bool) -> Ticket:
        task_id = task_of(key)
        if not same:
            raise TaskConflict(f"task_id {task_id} belongs to a batch with another body")
        shown = await self.show(key)
        if shown["status"] in RETRYABLE:
            shown["retry"] = f"/v1/batches/{task_id}/retry"
        return Ticket(task_id, False, shown)

    async def _group(
        self, key: str, order: Order, owner: str, digest: str
    ) -> tuple[Group, list[str]]:
        """The group of a batch, and the keys of what was stored for it."""
        count = -(-len(order) // self._part_files)
        if count > MAX_PARTS:
            raise InvalidRequest(f"$.download: would make {count} zips, at most {MAX_PARTS}")
        parts, attached = list[GroupPart](), list[str]()
        try:
            for number in range(1, count + 1):
                parts.append(await self._part(key, order, number, count, attached))
        except BaseException:
            # In its own time: whoever waits for us may be gone.
            Deferred.fromCoroutine(self._queue.detach(attached)).addErrback(lambda _: None)
            raise
        submission = order.submission
        spec = Spec(url=submission.url, notify_format=submission.notify_format, owner=owner)
        group = Group(
            id=key,
            digest=digest,
            spec=msgspec.json.encode(spec),
            need=order.need,
            parts=parts,
            priority=submission.priority,
            expires=submission.expires,
            after=key.encode() if submission.url else b"",
            after_tries=self._callback_tries,
            owner=owner,
        )
        return group, attached

    async def _part(
        self, key: str, order: Order, number: int, count: int, attached: list[str]
    ) -> GroupPart:
        """One part; its members are stored at once if there are many."""
        submission, total, each = order.submission, len(order), self._part_files
        begin = (number - 1) * each
        size = min(each, total - begin)
        packed = await self._pack(order, begin, begin + size)
        spec = PartSpec(
            batch=key,
            part=number,
            parts=count,
            spare=total - order.need,
            compress=submission.compress or self._compress,  # type: ignore[arg-type]
            headers=submission.headers,
            timeout=submission.timeout,
            layout=submission.layout,
            notify=host_of(submission.url) if submission.url else "",
            first=begin,
            show_urls=submission.show_urls,
        )
        payload = msgspec.json.encode(spec)
        if total <= FEW:
            self._claim(len(packed))
            return GroupPart(size=size, payload=payload, data=packed)
        self._claim(len(packed))
        attached.append(self._queue.new_key())  # first: also if we are cancelled it is dropped
        await self._queue.attach(attached[-1], packed)
        return GroupPart(size=size, payload=payload, attachment=attached[-1])

    async def _pack(self, order: Order, begin: int, end: int) -> bytes:
        def pack() -> bytes:
            return pack_members(order.members(begin, end), end - begin)

        return pack() if len(order) <= FEW else await deferToThread(pack)

    async def find(self, asked: str, name: str, everybody: bool) -> str:
        """The key of the batch that a token means by the id ``asked``.

        An id is its own one, or that of a batch that no token has; who sees everybody's may
        also ask for another's, as ``name:id``, and as ``:id`` for one that no token has.

        :param name: the token's, or empty
        :raises NoSuchBatch: there is none that it may see
        """
        if not name:
            return asked
        named, colon, task_id = asked.rpartition(":")
        wanted = named if colon else name
        for key in dict.fromkeys((key_of(wanted, task_id), task_id)):
            owner = await self._queue.owner_of(key)
            # A key without a name may be of anybody: it was taken in when ids were everybody's.
            if owner is not None and (everybody or owner == name) and (
                not colon or owner == wanted
            ):  # fmt: skip
                return key
        raise NoSuchBatch(f"there is no batch {asked}")

    async def _record(self, key: str) -> GroupRecord:
        record = await self._queue.group(key)
        if record is None:
            raise NoSuchBatch(f"there is no batch {task_of(key)}")
        return record

    async def show(self, key: str) -> dict[str, Any]:
        """The batch as the API shows it."""
        record = await self._record(key)
        shown = report(record, self._link_base())
        await self._explained([shown], [record])
        return shown

    async def _explained(
        self, shown: Sequence[dict[str, Any]], records: Sequence[GroupRecord]
    ) -> None:
        """Add to batches that wait what they wait for."""
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
        """Seconds until a batch that waits is done, if that can be told."""
        eta = None if place is None else job_eta(stats, place)
        if eta is None or why in ("stopped", "paused", "a worker"):
            return None
        return round(eta + self._hours.closed_for(time.time()), 1)

    async def page(
        self, status: str, limit: str, cursor: str, callback: str = "", owner: str | None = None
    ) -> dict[str, Any]:
        """Batches, newest first, as ``{"batches", "cursor"}``.

        :param callback: ``undelivered``: those whose last callback failed, the latest first
        :param owner: whose; None: everybody's. There may be fewer than asked for, and more to come.
        """
        if status and status not in GROUP_STATES:
            raise InvalidRequest(f"status: expected one of {', '.join(GROUP_STATES)}")
        if not re.fullmatch(r"[0-9]{1,6}", limit) or not 1 <= int(limit) <= PAGE:
            raise InvalidRequest(f"limit: expected 1 to {PAGE}")
        if not re.fullmatch(r"[0-9]{0,15}", cursor):
            raise InvalidRequest("cursor: expected the cursor of an earlier answer")
        if callback and (callback != "undelivered" or status):
            raise InvalidRequest("callback: expected undelivered, without a status")
        if callback:
            return await self._undelivered(int(limit), cursor, owner)
        shown: list[dict[str, Any]] = []
        for _ in range(PAGES):
            ids, cursor = await self._queue.groups(status, cursor, int(limit), owner or "")
            more, cut = await self._briefly(ids, owner)
            shown, cursor = shown + more, cut or cursor
            if shown or not cursor:
                break
        return {"batches": shown, "cursor": cursor or None}

    async def _briefly(
        self, ids: Iterable[str], owner: str | None
    ) -> tuple[list[dict[str, Any]], str]:
        """Those of them that ``owner`` may see, and the cursor where they became too many bytes."""
        shown, records, size, cut = list[dict[str, Any]](), list[GroupRecord](), 0, ""
        for key in ids:
            record = await self._queue.group(key)
            if record is None or not _is_of(record, owner):
                continue
            records.append(record)
            shown.append(report(record, self._link_base(), brief=True))
            size += len(msgspec.json.encode(shown[-1]))
            if size > PAGE_BYTES:
                cut = str(record.serial)
                break
        await self._explained(shown, records)
        return shown, cut

    async def _undelivered(self, limit: int, cursor: str, owner: str | None) -> dict[str, Any]:
        found, cursor = await self._queue.after.dead(cursor, limit)
        shown = []
        for job_id in found:
            key, run = split_after_id(job_id)
            record = await self._queue.group(key)
            # Some are of batches that were deleted or tried again.
            if record is not None and record.run == run and _is_of(record, owner):
                shown.append(report(record, self._link_base(), brief=True))
        return {"batches": shown, "cursor": cursor or None}

    async def notify(self, key: str) -> dict[str, Any]:
        """Send a last callback that was given up once more, with all its tries.

        :raises NotUndelivered: it was not given up
        """
        record = await self._record(key)
        if not await self._queue.after.revive(record.after_id):
            raise NotUndelivered(f"the last callback of batch {task_of(key)} was not given up")
        return report(record, self._link_base())

    async def remove(self, key: str) -> dict[str, Any]:
        """Cancel a batch that has not ended; of one that has, record and files go."""
        cancelled = await self._queue.cancel_group(key)
        if cancelled is None:
            raise NoSuchBatch(f"there is no batch {task_of(key)}")
        shown = await self.show(key)
        if not cancelled:
            await self._queue.forget(key, tombstone=self._keep)
            self._deleted(key)
        return shown

    async def manifest(self, key: str, part: str = "") -> Iterator[bytes]:
        """JSON lines, in pieces: what became of each member.

        :param part: the number of one part, or empty: of all
        """
        record = await self._record(key)
        if part and not (part.isdecimal() and len(part) < 9 and 0 < int(part) <= len(record.parts)):
            raise InvalidRequest(f"part: expected 1 to {len(record.parts)}")
        assert self._manifests is not None
        return self._manifests.lines(record, int(part or 0))

    async def retry(self, key: str) -> dict[str, Any]:
        """Fetch what failed once more; what is there stays, in a new zip.

        :raises NotRetryable: it has not ended, or nothing is missing
        """
        self._check()
        self._claim(0)
        queued = await self._queue.again(key)
        if queued is None:
            raise NoSuchBatch(f"there is no batch {task_of(key)}")
        if not queued:
            raise NotRetryable(f"batch {task_of(key)} has not ended, or nothing of it is missing")
        return await self.show(key)

    async def prioritise(self, key: str, priority: int) -> dict[str, Any]:
        """Another priority for the parts that have not begun."""
        if await self._queue.prioritise_group(key, priority) is None:
            raise NoSuchBatch(f"there is no batch {task_of(key)}")
        return await self.show(key)

    async def stats(self) -> dict[str, Any]:
        """The queues as they stand."""
        return {
            name: summary(await queue.stats())
            for name, queue in (("parts", self._queue), ("callbacks", self._queue.after))
        }

    async def control(self, settings: Mapping[str, float | bool | None]) -> dict[str, Any]:
        """Change live settings of the queue of parts, for all nodes."""
        await self._queue.control(settings)
        log.info("settings of the queue: {settings}", settings=dict(settings))
        return await self.stats()

    async def cancel_all(self, states: str, confirm: str, owner: str | None) -> dict[str, Any]:
        """End all batches in ``states``, of one owner or of everybody (None)."""
        chosen = check_states(states)
        count = await cancel_all(self._queue, chosen, owner or "", confirm, time.time())
        log.warn("{n} batches were cancelled at once", n=count)
        return {"cancelled": count}

    async def ready(self) -> str:
        """Whether a batch would be taken in and begun now.

        :returns: what would still keep it waiting, or empty
        :raises Unavailable: it would not: the queue is away or stopped, or the disk is full
        """
        await self._queue.ping()  # first: that one answers soon also where the queue is away
        await self._queue.check_room(1)
        self._check()
        self._claim(0)
        why = waits_for(await self._queue.stats())
        if why == "stopped":
            raise QueueStopped("the queue is stopped: no batch is begun")
        return "" if why == "slots" else why


def _is_of(record: GroupRecord, owner: str | None) -> bool:
    """Whether ``owner`` may know of it; None may of all."""
    return owner is None or msgspec.json.decode(record.spec, type=Spec).owner == owner
