"""The events of batches, as streams."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
from twisted.internet.interfaces import IReactorTime

from twisted_bulk.batch.model import task_of
from twisted_bulk.errors import NoSuchBatch
from twisted_bulk.events.event import Event, full
from twisted_bulk.events.event_stream import EventStream
from twisted_bulk.events.feed import ALL, Feed
from twisted_bulk.jobs.group_index import EVERY_GROUP, GroupFilter
from twisted_bulk.jobs.group_model import ENDED
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.management.batch_filter import batch_filter, meets
from twisted_bulk.management.listing import Listing
from twisted_bulk.orders.queries import BatchFilter

MAX_MISSED = 200  # batches that a client missed and is told; more are an event ``full``
MAX_DIGITS = 15  # of a Last-Event-ID; another one counts as none


class BatchEvents:
    """Streams of what changes in batches.

    ``feed``: a service that must run.
    """

    def __init__(self, listing: Listing, queue: GroupQueue, clock: IReactorTime) -> None:
        self._listing = listing
        self._queue = queue
        self.feed = Feed(queue, clock, self._event, self._brief)

    async def _event(self, key: str, number: int) -> Event:
        try:
            record = await self._listing.record(key)
            shown = await self._listing.shown(record)
        except NoSuchBatch:
            data = msgspec.json.encode({"task_id": task_of(key)})
            return Event(number, "deleted", data, last=True)
        is_over = record.state in ENDED
        return Event(record.change, "batch", msgspec.json.encode(shown), is_over)

    async def _brief(self, key: str, number: int) -> Event:
        try:
            shown = self._listing.report(await self._listing.record(key), brief=True)
        except NoSuchBatch:
            data = msgspec.json.encode({"task_id": task_of(key)})
            # A key without a name may be any token's: only those who see all are told.
            return Event(number, "deleted", data, key=key, owner=key.rpartition(":")[0])
        data = msgspec.json.encode(shown)
        return Event(number, "batch", data, key=key, owner=shown["owner"], shown=shown)

    async def stream(
        self, key: str, seen: str, may_go_on: Callable[[], bool]
    ) -> EventStream | None:
        """The events of one batch: it as it stands, then each change, until it has ended.

        None: it has ended, and the client has seen that.

        :param seen: the request's ``Last-Event-ID``, or empty
        :param may_go_on: whether the client still has the right to it
        :raises NoSuchBatch: there is none
        """
        last_seen = _number(seen)
        record = await self._listing.record(key)
        if record.state in ENDED and record.change == last_seen:
            return None
        if last_seen > record.change:  # of the time before the server lost its data
            last_seen = -1
        stream = EventStream(lambda one: self.feed.leave(key, one), may_go_on, last_seen)
        try:
            # First: a change while the batch is read must not be missed.
            await self.feed.listen(key, stream)
            stream.offer(await self._event(key, record.change))
        except BaseException:
            self.feed.leave(key, stream)
            raise
        return stream

    async def stream_all(
        self, asked: BatchFilter, owner: str | None, seen: str, may_go_on: Callable[[], bool]
    ) -> EventStream:
        """The changes of the batches of a filter from now on, or since ``seen``.

        A batch that does not match the filter any more is an event ``left``.

        Where some of these are known no more, and at a first time, an event ``full`` comes first.

        :param owner: the token whose batches are told; None: everybody's
        """
        last_seen, wanted = _number(seen), batch_filter(asked, owner)
        stream = EventStream(
            lambda one: self.feed.leave(ALL, one),
            may_go_on,
            last_seen,
            lambda event: _told(event, wanted, owner),
        )
        try:
            await self.feed.listen(ALL, stream)
            changes = await self._queue.changes(max(last_seen, 0), MAX_MISSED)
            is_known = changes.forgotten <= last_seen <= changes.last
            if not is_known or len(changes.groups) == MAX_MISSED:
                stream.offer(full(changes.last))
            else:
                for key, number in changes.groups:
                    stream.offer(await self._brief(key, number))
        except BaseException:
            self.feed.leave(ALL, stream)
            raise
        return stream


def _told(event: Event, wanted: GroupFilter | None, owner: str | None) -> Event | None:
    """What a client is told instead of an event.

    :param wanted: None: no batch
    :param owner: the token whose batches are told; None: everybody's
    """
    if wanted is None or (owner is not None and event.owner != owner):
        return None
    # Most clients are told of every batch.
    if wanted == EVERY_GROUP or event.shown is None or meets(event.shown, wanted):
        return event
    # What cannot change has never matched.
    fixed = replace(wanted, states=(), tags=())
    return event.left if meets(event.shown, fixed) else None


def _number(seen: str) -> int:
    """The number of a ``Last-Event-ID``, or -1."""
    return int(seen) if seen.isascii() and seen.isdigit() and len(seen) <= MAX_DIGITS else -1
