"""Finds the batches that have changed, and tells those who listen to them."""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_bulk.errors import Unavailable
from twisted_bulk.events.event import Event, full
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.system.periodic import Periodic

log = Logger()

LOOK_SECONDS = 1.0  # between two looks: a batch has at most one event in this time
LIMIT = 1000  # changed batches that one call to the queue tells
ALL = ""  # instead of a batch's key: all batches

MakeEvent = Callable[[str, int], Awaitable[Event]]


class Listener(Protocol):
    """Somebody who is told of changes."""

    def offer(self, *events: Event) -> None:
        """Take events. They may be older than one that came before."""

    def end(self) -> None:
        """Nothing follows any more."""


class Feed(Service):
    """Asks the queue once a second what has changed, however many listen.

    While nobody listens it asks nothing.

    :param event: makes the event of a batch as it stands now, for those who listen to this batch.
        It takes the batch's key and the number of the change.
    :param brief: as ``event``, for those who listen to all batches
    """

    def __init__(
        self, queue: GroupQueue, clock: IReactorTime, event: MakeEvent, brief: MakeEvent
    ) -> None:
        self._queue = queue
        self._event, self._brief = event, brief
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)
        self._after: int | None = None  # the last change that was looked at
        self._is_over = False
        self._loop = Periodic(
            log, clock, LOOK_SECONDS, self._look, name="the look for changes of batches"
        )

    def startService(self) -> None:
        super().startService()
        self._loop.startService()

    def stopService(self) -> None:
        """End all streams."""
        super().stopService()
        self._loop.stopService()
        self.end()

    def end(self) -> None:
        """End all streams; one that begins later is ended at once."""
        self._is_over = True
        for listener in [one for each in self._listeners.values() for one in each]:
            listener.end()

    async def listen(self, key: str, listener: Listener) -> None:
        """Tell ``listener`` until :meth:`leave` each change of a batch from now on.

        Call :meth:`leave` also if this fails.

        :param key: of the batch, or :data:`ALL`
        """
        self._listeners[key].add(listener)
        if self._is_over:
            listener.end()
        elif self._after is None:
            last = (await self._queue.changes()).last
            if self._after is None:
                self._after = last

    def leave(self, key: str, listener: Listener) -> None:
        """Tell it nothing more."""
        self._listeners[key].discard(listener)
        if not self._listeners[key]:
            del self._listeners[key]

    async def _look(self) -> None:
        if self._after is None:
            return
        changes = await self._queue.changes(self._after, LIMIT)
        if changes.last < self._after:  # the server has lost its data
            for key in list(self._listeners):
                lost = full(changes.last) if key == ALL else await self._event(key, changes.last)
                self._tell(key, lost)
            self._after = changes.last
            return
        broken: Exception | None = None
        brief: list[Event] = []  # together: a stream then sends them in one piece
        for key, number in changes.groups:
            try:
                if key in self._listeners:
                    self._tell(key, await self._event(key, number))
                if ALL in self._listeners:
                    brief.append(await self._brief(key, number))
            except (Unavailable, CancelledError):
                raise
            except Exception as error:  # of this batch; the others must not wait for it
                broken = error
        if brief:
            self._tell(ALL, *brief)
        is_page_full = len(changes.groups) == LIMIT
        after = changes.groups[-1][1] if is_page_full else changes.last
        self._after = after if self._listeners else None
        if broken is not None:
            raise broken

    def _tell(self, heard: str, *events: Event) -> None:
        for listener in list(self._listeners.get(heard, ())):
            listener.offer(*events)
