"""An answer that goes on: server-sent events (HTML standard, 9.2), as they happen."""

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from twisted_bulk.events.event import HEARTBEAT, OPENING, Event
from twisted_bulk.http_server.request import BoundedRequest, abort

HEARTBEAT_SECONDS = 15.0  # between two comments, so that proxies keep the connection
STALL_SECONDS = 60.0  # for which the client may take nothing; then its connection is cut


@implementer(IPushProducer)
class EventStream(Resource):
    """The events of one batch.

    A client that takes its events slowly gets the latest one, and none of those between.

    :param left: called once when it has ended, or its client is gone
    :param may_go_on: whether the client still has the right to it; asked at each heartbeat
    :param seen: the number of the last change that the client has seen
    """

    isLeaf = True

    def __init__(
        self,
        left: Callable[["EventStream"], object],
        may_go_on: Callable[[], bool],
        seen: int = -1,
    ) -> None:
        super().__init__()
        self._left, self._may_go_on = left, may_go_on
        self._seen = seen
        self._waiting: Event | None = None
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
        self._send()
        return NOT_DONE_YET

    def offer(self, event: Event) -> None:
        """Send an event, unless the client has seen a later one; also before :meth:`render`."""
        latest = self._seen if self._waiting is None else self._waiting.number
        if event.number > latest or (event.last and event.number == latest):
            self._waiting = event
            self._send()

    def _send(self) -> None:
        event = self._waiting
        if event is None or self._request is None or self._paused_at is not None:
            return
        self._waiting = None
        if event.number > self._seen:
            self._seen = event.number
            self._write(event.encoded)
        if event.last:
            self.end()

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
