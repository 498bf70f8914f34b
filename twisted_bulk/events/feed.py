"""Finds the batches that have changed, and tells those who listen to them."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_bulk.events.event import Event
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.system.periodic import Periodic

log = Logger()

LOOK_SECONDS = 1.0  # between two looks: a batch has at most one event in this time
LIMIT = 1000  # changed batches that one call to the queue tells


class Listener(Protocol):
    """Somebody who is told of changes."""

    def offer(self, event: Event) -> None:
        """Take an event. It may be older than one that came before."""

    def end(self) -> None:
        """Nothing follows any more."""


class Feed(Service):
    """Asks the queue once a second what has changed, however many listen.

    While nobody listens it asks nothing.

    :param event: makes the event for a batch that has changed, as it stands now; takes its key, and
        the number of the change, which is for a batch that was deleted
    """

    def __init__(
        self, queue: GroupQueue, clock: IReactorTime, event: Callable[[str, int], Awaitable[Event]]
    ) -> None:
        self._queue = queue
        self._event = event
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)
        self._after: int | None = None  # the last change that was looked at
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
        """End the streams of all that listen now."""
        for listener in [one for each in self._listeners.values() for one in each]:
            listener.end()

    def listen(self, key: str, listener: Listener) -> None:
        """Tell ``listener`` the changes of a batch until :meth:`leave`."""
        self._listeners[key].add(listener)

    def leave(self, key: str, listener: Listener) -> None:
        """Tell it nothing more."""
        self._listeners[key].discard(listener)
        if not self._listeners[key]:
            del self._listeners[key]

    async def _look(self) -> None:
        if not self._listeners:
            self._after = None
            return
        if self._after is None:
            # Nobody has looked for a while. What changed since the listeners began is unknown.
            self._after = (await self._queue.changes()).last
            await self._tell([(key, self._after) for key in self._listeners])
            return
        changes = await self._queue.changes(self._after, LIMIT)
        if changes.last < self._after:  # the server has lost its data
            self._after = None
            return
        await self._tell(changes.groups)
        is_page_full = len(changes.groups) == LIMIT
        self._after = changes.groups[-1][1] if is_page_full else changes.last

    async def _tell(self, changed: Sequence[tuple[str, int]]) -> None:
        for key, number in changed:
            if key not in self._listeners:
                continue
            event = await self._event(key, number)
            for listener in list(self._listeners.get(key, ())):
                listener.offer(event)
