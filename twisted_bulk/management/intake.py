"""Batches taken in, and what can be done with them: retried, moved, cancelled, deleted."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.logger import Logger

from twisted_bulk.batch.model import key_of, task_of
from twisted_bulk.errors import (
    HasEnded,
    InvalidRequest,
    NoSuchBatch,
    NotEnded,
    NotUndelivered,
    QueueFull,
    QueueStopped,
    TaskConflict,
    Unavailable,
)
from twisted_bulk.jobs.group_model import ENDED, Submitted
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.jobs.model import RATE_MINUTES
from twisted_bulk.jobs.stats import summary, waits_for
from twisted_bulk.management.cancel import cancel_all, check_states
from twisted_bulk.management.listing import Listing
from twisted_bulk.management.manifest import Manifests, part_number
from twisted_bulk.orders.grouping import Grouping
from twisted_bulk.orders.order import Order

log = Logger()

RETRYABLE = ("failed", "partial", "expired", "cancelled")


@dataclass(frozen=True)
class Ticket:
    """A batch that was taken in.

    :param task_id: the id that its client knows
    :param new: it was taken in now; else by an earlier call
    :param position: of a new one: its place in the queue, from 1
    :param batch: of another one: as ``GET /v1/batches/ID`` answers, and ``retry``: the path of that
        call, if it can be retried
    """

    task_id: str
    new: bool
    position: int = 0
    batch: Mapping[str, Any] | None = None


class Intake:
    """The batches of one queue.

    :param keep: seconds for which a deletion is remembered
    :param deleted: called with the key of a batch after its record was removed
    :param manifests: of the batches whose files are on this node
    :param check: raises an error if no batch can be taken in now
    """

    def __init__(
        self,
        queue: GroupQueue,
        listing: Listing,
        grouping: Grouping,
        *,
        keep: float,
        deleted: Callable[[str], object] = lambda batch: None,
        manifests: Manifests,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        self._queue = queue
        self._check = check
        self._manifests = manifests
        self._keep = keep
        self._deleted = deleted
        self._grouping = grouping
        self._listing = listing

    async def submit(self, order: Order, owner: str = "") -> Ticket:
        """Queue a batch. The same order again gets the ticket of the first one.

        :param owner: name of the token, or empty
        :raises TaskConflict: the id belongs to a batch with another body, or of another owner
        """
        digest = hashlib.sha256(f"{owner} {order.digest}".encode()).hexdigest()
        named = order.submission.task_id
        task_id = os.urandom(8).hex() if named is None else str(named)
        key = key_of(owner, task_id)
        if owner and named is not None and await self._queue.owner_of(task_id) == owner:
            key = task_id  # an older version took it in, under a key without a name
        refusal = None
        try:
            self._check()
            if not order.is_small:  # before it is packed; a small one is refused soon enough
                await self._queue.check_room(len(order))
        except Unavailable as error:
            refusal = error
        if named is not None and (refusal or not order.is_small):
            known = await self._queue.group(key)
            if known is not None:
                return await self._repeated(key, known.digest == digest)
        if refusal:
            raise refusal
        group, attached = await self._grouping.group(key, order, owner, digest)
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
        return Ticket(task_id, True, place + 1)

    async def _repeated(self, key: str, same: bool) -> Ticket:
        task_id = task_of(key)
        if not same:
            raise TaskConflict(f"task_id {task_id} belongs to a batch with another body")
        shown = await self._listing.show(key)
        if shown["status"] in RETRYABLE:
            shown["retry"] = f"/v1/batches/{task_id}/retry"
        return Ticket(task_id, False, batch=shown)

    async def notify(self, key: str) -> dict[str, Any]:
        """Send a last callback again that was given up, with all its tries; or now, if it waits.

        :raises NotUndelivered: it is not one of these
        """
        record = await self._listing.record(key)
        if not await self._queue.after.revive(record.after_id):
            raise NotUndelivered(f"the last callback of {task_of(key)} has not failed")
        return self._listing.report(record)

    async def remove(self, key: str, only: str = "") -> dict[str, Any]:
        """Cancel a batch; of one that has ended record and files are removed.

        :param only: ``cancel`` or ``delete``: nothing else is done, as the batch may have ended
            since the client looked at it; empty: what its state allows
        :returns: the batch after it was cancelled, or before it was removed
        :raises HasEnded: it cannot be cancelled any more
        :raises NotEnded: it cannot be deleted yet
        """
        if only not in ("", "cancel", "delete"):
            raise InvalidRequest("only: expected cancel or delete")
        cancelled: bool | None = False
        if only == "delete":
            if (await self._listing.record(key)).state not in ENDED:
                raise NotEnded(f"batch {task_of(key)} has not ended")
        else:
            cancelled = await self._queue.cancel_group(key)
        if cancelled is None:
            raise _no_batch(key)
        if only == "cancel" and not cancelled:
            raise HasEnded(f"batch {task_of(key)} has ended")
        shown = await self._listing.show(key)
        if not cancelled:
            await self._queue.forget(key, tombstone=self._keep)
            self._deleted(key)
        return shown

    async def manifest(self, key: str, part: str = "") -> Iterator[bytes]:
        """The JSON lines of the manifest, in pieces: how each member ended.

        :param part: the number of one part; empty: all parts
        """
        record = await self._listing.record(key)
        return self._manifests.lines(record, part_number(record, part))

    async def prioritise(self, key: str, priority: int) -> dict[str, Any]:
        """Change the priority of the parts that have not begun."""
        if await self._queue.prioritise_group(key, priority) is None:
            raise _no_batch(key)
        return await self._listing.show(key)

    async def stats(self, minutes: int = RATE_MINUTES) -> dict[str, Any]:
        """The state of both queues, as ``GET /v1/stats`` answers.

        :param minutes: of which events are told; the present one counts
        """
        return {
            name: summary(await queue.stats(minutes))
            for name, queue in (("parts", self._queue), ("callbacks", self._queue.after))
        }

    async def control(self, settings: Mapping[str, float | bool | None]) -> dict[str, Any]:
        """Change live settings of the queue of parts, for all nodes; None removes one."""
        await self._queue.control(settings)
        log.info("settings of the queue: {settings}", settings=dict(settings))
        return await self.stats()

    async def cancel_all(self, states: str, confirm: str, owner: str | None) -> dict[str, Any]:
        """End all batches in ``states``.

        :param states: separated by commas
        :param confirm: the word that the call before was told, or empty
        :param owner: the token whose batches end; None: everybody's
        """
        queue, chosen = self._queue, check_states(states)
        count = await cancel_all(queue, chosen, owner or "", confirm, time.time())
        log.warn("{n} batches were cancelled at once", n=count)
        return {"cancelled": count}

    async def ready(self) -> str:
        """Whether a batch would be taken in and begun now.

        :returns: what would still delay it, or empty
        :raises Unavailable: it would not: the queue is away or stopped, or the disk is full
        """
        await self._queue.ping()  # first: its deadline is the shortest where the queue is away
        await self._queue.check_room(1)
        self._check()
        why = waits_for(await self._queue.stats())
        if why == "stopped":
            raise QueueStopped("the queue is stopped: no batch is begun")
        return "" if why == "slots" else why


def _no_batch(key: str) -> NoSuchBatch:
    return NoSuchBatch(f"there is no batch {task_of(key)}")
