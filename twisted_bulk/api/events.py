"""The events of batches, as streams."""

from collections.abc import Callable

import msgspec
from twisted.internet.interfaces import IReactorTime

from twisted_bulk.api.listing import Listing
from twisted_bulk.batch.model import task_of
from twisted_bulk.errors import NoSuchBatch
from twisted_bulk.events.event import Event
from twisted_bulk.events.event_stream import EventStream
from twisted_bulk.events.feed import Feed
from twisted_bulk.jobs.group_model import ENDED
from twisted_bulk.jobs.groups import GroupQueue

MAX_DIGITS = 15  # of a Last-Event-ID; another one counts as none


class BatchEvents:
    """Streams of what changes in batches.

    ``feed``: a service that must run.
    """

    def __init__(self, listing: Listing, queue: GroupQueue, clock: IReactorTime) -> None:
        self._listing = listing
        self.feed = Feed(queue, clock, self._event)

    async def _event(self, key: str, number: int) -> Event:
        try:
            record = await self._listing.record(key)
            shown = await self._listing.shown(record)
        except NoSuchBatch:
            data = msgspec.json.encode({"task_id": task_of(key)})
            return Event(number, "deleted", data, last=True)
        is_over = record.state in ENDED
        return Event(record.change, "batch", msgspec.json.encode(shown), is_over)

    async def stream(
        self, key: str, seen: str, may_go_on: Callable[[], bool]
    ) -> EventStream | None:
        """The events of one batch: it as it stands, then each change, until it has ended.

        None: it has ended, and the client has seen that.

        :param seen: the request's ``Last-Event-ID``, or empty
        :param may_go_on: whether the client still has the right to it
        :raises NoSuchBatch: there is none
        """
        is_number = seen.isascii() and seen.isdigit() and len(seen) <= MAX_DIGITS
        last_seen = int(seen) if is_number else -1
        record = await self._listing.record(key)
        if record.state in ENDED and record.change == last_seen:
            return None
        if last_seen > record.change:  # of the time before the server lost its data
            last_seen = -1
        stream = EventStream(lambda one: self.feed.leave(key, one), may_go_on, last_seen)
        # First: a change while the batch is read must not be missed.
        self.feed.listen(key, stream)
        try:
            stream.offer(await self._event(key, record.change))
        except BaseException:
            self.feed.leave(key, stream)
            raise
        return stream
