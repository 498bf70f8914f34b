"""Actions on many batches at once: a plan that says what would be done, then a durable job."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_bulk.batch.delivery import time_text
from twisted_bulk.errors import InvalidRequest, NoSuchBatch, NoSuchBulk
from twisted_bulk.jobs.bulk import MAX_GROUPS, Action, BulkActions, BulkRecord, Step
from twisted_bulk.jobs.group_index import EVERY_GROUP
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.management.batch_filter import batch_filter
from twisted_bulk.management.listing import Listing
from twisted_bulk.orders.submission import BulkOrder
from twisted_bulk.system.periodic import Periodic

log = Logger()

STEP_SECONDS = 1.0  # between two looks for bulk actions that run


class Bulk(MultiService):
    """Plans bulk actions for clients, and does those that run. Each node with an API does that.

    :param keep: seconds for which a deletion is remembered
    :param deleted: called with the key of a batch after its record was removed
    """

    def __init__(
        self,
        queue: GroupQueue,
        listing: Listing,
        clock: IReactorTime,
        keep: float,
        deleted: Callable[[str], object],
    ) -> None:
        super().__init__()
        self._queue = queue
        self._actions = BulkActions(queue)
        self._listing = listing
        self._keep = keep
        self._deleted = deleted
        loop = Periodic(log, clock, STEP_SECONDS, self._round, name="bulk actions")
        loop.setServiceParent(self)

    async def plan(self, order: BulkOrder, name: str, owner: str | None) -> dict[str, Any]:
        """Find the batches that are meant; nothing is changed. See :meth:`_shown`.

        :param name: of the token
        :param owner: the token whose batches may be meant; None: everybody's
        :raises InvalidRequest: names the field
        """
        if (order.filter is None) == (not order.batches):
            raise InvalidRequest("filter, batches: expected one of them")
        if (order.priority is None) == (Action(order.action) is Action.PRIORITY):
            raise InvalidRequest("priority: goes with the action priority")
        wanted = EVERY_GROUP if order.filter is None else batch_filter(order.filter, owner)
        if wanted is None:
            raise InvalidRequest("owner: this token does not see its batches")
        keys = await self._keys(order.batches, name, owner is None)
        value = "" if order.priority is None else str(order.priority)
        bulk = await self._actions.plan(Action(order.action), value, name, wanted, keys)
        if bulk is None:
            raise InvalidRequest(f"filter: finds more than {MAX_GROUPS} batches: narrow it")
        return await self.show(bulk, name, owner)

    async def _keys(self, asked: Sequence[str], name: str, everybody: bool) -> list[str]:
        """The keys of selected batches, without those that are gone.

        :raises NoSuchBatch: all are
        """
        keys = []
        for one in asked:
            with suppress(NoSuchBatch):
                key = await self._listing.find(one, name, everybody)
                if await self._queue.owner_of(key) is not None:
                    keys.append(key)
        if asked and not keys:
            raise NoSuchBatch("there is none of these batches")
        return keys

    async def begin(self, bulk: str, name: str, owner: str | None) -> dict[str, Any]:
        """Do what was planned.

        :raises NoSuchBulk: there is no plan, or the token may not see it
        """
        await self._record(bulk, name, owner)
        if await self._actions.begin(bulk):
            log.info("bulk action {bulk} runs", bulk=bulk)
        return await self.show(bulk, name, owner)

    async def stop(self, bulk: str, name: str, owner: str | None) -> dict[str, Any]:
        """Stop one that runs; what was done stays done.

        :raises NoSuchBulk: there is none, or the token may not see it
        """
        await self._record(bulk, name, owner)
        await self._actions.stop(bulk)
        return await self.show(bulk, name, owner)

    async def show(self, bulk: str, name: str, owner: str | None) -> dict[str, Any]:
        """One bulk action.

        :raises NoSuchBulk: there is none, or the token may not see it
        """
        return _shown(await self._record(bulk, name, owner))

    async def latest(self, name: str, owner: str | None) -> dict[str, Any]:
        """The latest bulk actions that the token may see, as ``{"bulk"}``."""
        records = await self._actions.latest(None if owner is None else name)
        return {"bulk": [_shown(one) for one in records]}

    async def _record(self, bulk: str, name: str, owner: str | None) -> BulkRecord:
        record = await self._actions.record(bulk)
        if record is None or (owner is not None and record.by != name):
            raise NoSuchBulk(f"there is no bulk action {bulk[:40]}")
        return record

    async def _round(self) -> None:
        """Let all that run take steps in turns, for as long as they get on."""
        running = await self._actions.running()
        while running and self.running:
            running = [one for one in running if await self._step(one) is Step.MORE]

    async def _step(self, record: BulkRecord) -> Step:
        outcome, changed = await self._actions.step(record.id, self._keep)
        if record.action == Action.DELETE:
            for key in changed:
                self._deleted(key)
        return outcome


def _shown(record: BulkRecord) -> dict[str, Any]:
    """A bulk action, as the API shows it.

    ``eligible``: of ``total`` batches, how many would be changed by the plan. ``done``: how many
    were. ``left``: how many were not or would not be, by the reason.
    """
    return {
        "id": record.id,
        "action": record.action,
        "priority": int(record.value) if record.value else None,
        "by": record.by,
        "state": record.state,
        "planned": time_text(record.planned),
        "ended": time_text(record.ended),
        "total": record.total,
        "eligible": record.eligible,
        "done": record.done,
        "left": [{"reason": why, "batches": n} for why, n in sorted(record.left.items())],
    }
