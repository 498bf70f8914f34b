"""An answer that goes on: server-sent events (HTML standard, 9.2), as they happen."""

from collections.abc import Callable, Iterator
from typing import Any, cast

from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from twisted_bulk.events.event import FULL, HEARTBEAT, OPENING, Event, full
from twisted_bulk.http_server.request import BoundedRequest, abort

HEARTBEAT_SECONDS = 15.0  # between two comments, so that proxies keep the connection
PIECE_BYTES = 64 * 1024  # of an event that are written at once, so that little waits in memory
MAX_WAITING = 1000  # events that a slow client has not taken; more become one event FULL
STALL_SECONDS = 60.0  # for which the client may take nothing; then its connection is cut


@implementer(IPushProducer)
class EventStream(Resource):
    """The events of one batch, or of all.

    A client that takes its events slowly gets the latest one of a batch, and none of those between.

    :param left: called once when it has ended, or its client is gone
    :param may_go_on: whether the client still has the right to it; asked at each heartbeat
    :param seen: the number of the last change that the client has seen
    :param told: what the client is told instead of an event; None: nothing
    """

    isLeaf = True

    def __init__(
        self,
        left: Callable[["EventStream"], object],
        may_go_on: Callable[[], bool],
        seen: int = -1,
        told: Callable[[Event], Event | None] = lambda event: event,
    ) -> None:
        super().__init__()
        self._left, self._may_go_on = left, may_go_on
        self._seen, self._told = seen, told
        self._waiting: dict[str, Event] = {}  # by the key of the batch, in the order of numbers
        self._rest = memoryview(b"")  # of the event that is being sent
        self._is_last = False  # of that event
        self._is_over = False
        self._paused_at: float | None = None
        self._timer: IDelayedCall | None = None
        self._request: BoundedRequest | None = None

    def render(self, request: Request) -> int | bytes:
        """Begin the stream; a HEAD request gets its headers only."""
        request.setHeader("Content-Type", "text/event-stream")
        request.setHeader("Cache-Control", "no-store, no-transform")
        request.setHeader("X-Accel-Buffering", "no")  # nginx would hold the events back
        if request.method == b"HEAD" or self._is_over:
            self.stopProducing()
            return b""
        self._request = cast(BoundedRequest, request)
        self._request.transfer = self
        self._clock: Any = cast(Any, request.channel).site.reactor
        self._write(OPENING)
        request.registerProducer(self, True)
        self._timer = self._clock.callLater(HEARTBEAT_SECONDS, self._beat)
        # Events that the client missed may have been offered after newer ones.
        self._waiting = dict(sorted(self._waiting.items(), key=lambda one: one[1].number))
        self._send()
        return NOT_DONE_YET

    def offer(self, *events: Event) -> None:
        """Send events, unless the client has seen later ones; also before :meth:`render`."""
        for event in events:
            self._take(event)
        self._send()

    def _take(self, event: Event) -> None:
        if event.name == FULL:
            self._seen = -1
            self._waiting.clear()
        elif (told := self._told(event)) is None:
            return
        elif len(self._waiting) >= MAX_WAITING and event.key not in self._waiting:
            self._take(full(event.number))
            return
        else:
            event = told
        before = self._waiting.get(event.key)
        latest = self._seen if before is None else before.number
        if event.number > latest or (event.last and event.number == latest):
            self._waiting.pop(event.key, None)
            self._waiting[event.key] = event

    def _send(self) -> None:
        """Send what waits, piece by piece, for as long as the client takes it."""
        while self._request is not None and self._paused_at is None:
            if self._rest:
                piece, self._rest = self._rest[:PIECE_BYTES], self._rest[PIECE_BYTES:]
                self._write(bytes(piece))
            elif self._is_last:
                self.end()
            elif self._waiting:
                self._rest = memoryview(b"".join(self._next()))
            else:
                return

    def _next(self) -> Iterator[bytes]:
        """The next events, up to one that is the last or to :data:`PIECE_BYTES`."""
        size = 0
        while self._waiting and not self._is_last and size < PIECE_BYTES:
            event = self._waiting.pop(next(iter(self._waiting)))
            self._is_last = event.last
            if event.number > self._seen:
                self._seen = event.number
                size += len(event.encoded)
                yield event.encoded

    def _write(self, data: bytes) -> None:
        assert self._request is not None
        with self._request.prompt():
            self._request.write(data)

    def _beat(self) -> None:
        assert self._request is not None
        self._timer = self._clock.callLater(HEARTBEAT_SECONDS, self._beat)
        if not self._may_go_on():
            self.end()
        elif self._paused_at is None:
            self._write(HEARTBEAT)
        elif self._clock.seconds() - self._paused_at >= STALL_SECONDS:
            abort(self._request)

    def end(self) -> None:
        """End the answer; its connection stays."""
        request = self._request
        self.stopProducing()
        if request is not None:
            request.unregisterProducer()
            request.finish()

    def pauseProducing(self) -> None:
        """Twisted calls this when the client takes nothing."""
        if self._paused_at is None:
            self._paused_at = self._clock.seconds()

    def resumeProducing(self) -> None:
        """Twisted calls this when the client takes more."""
        self._paused_at = None
        self._send()

    def stopProducing(self) -> None:
        """Twisted calls this when the client is gone."""
        if self._is_over:
            return
        self._is_over, self._request = True, None
        if self._timer is not None:
            self._timer.cancel()
        self._left(self)
