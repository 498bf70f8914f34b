"""Answers that are large, or of unknown length: made and sent in pieces."""

from collections.abc import Iterator
from typing import Any, cast

from twisted.internet.interfaces import IDelayedCall, IPullProducer, IReactorTime
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from twisted_bulk.errors import Unavailable
from twisted_bulk.http_server.problem import problem
from twisted_bulk.http_server.request import BoundedRequest, abort

log = Logger(namespace="access")

PIECE_BYTES = 64 * 1024  # of a large answer that are written at once
STALL_SECONDS = 60  # for which the client may take nothing; then its connection is cut
RETRY_AFTER = 10  # seconds for a client whose large answer was refused because of the limit


@implementer(IPullProducer)
class StreamedBody(Resource):
    """A body in pieces: the next one is made when the client has taken the last.

    :param pieces: the body
    :param size: bytes that are in memory until the client has taken the body
    """

    isLeaf = True

    def __init__(self, pieces: Iterator[bytes], size: int = PIECE_BYTES) -> None:
        super().__init__()
        self._pieces = pieces
        self._size = size

    @classmethod
    def of(cls, body: bytes) -> "StreamedBody":
        """A whole body, sent in pieces."""
        view = memoryview(body)
        pieces = (bytes(view[at : at + PIECE_BYTES]) for at in range(0, len(body), PIECE_BYTES))
        return cls(pieces, len(body))

    def render(self, request: Request) -> int | bytes:
        """Begin to send; 503 where too many large answers are in memory. Any method is right."""
        asked = cast(BoundedRequest, request)
        self._key, self._site = asked.client_key, cast(Any, request.channel).site
        if not self._site.hold(self._key, self._size):
            self._site = None
            request.responseHeaders.removeHeader(b"ETag")
            error = "too many large answers are not taken by their clients"
            return problem(request, Unavailable(error, RETRY_AFTER))
        self._request = request
        self._clock: IReactorTime = cast(Any, request.channel).site.reactor
        self._stalled: IDelayedCall | None = self._clock.callLater(STALL_SECONDS, abort, request)
        request.registerProducer(self, False)
        return NOT_DONE_YET

    def resumeProducing(self) -> None:
        """Twisted calls this when the client has taken the last piece."""
        if self._stalled is not None:
            self._stalled.reset(STALL_SECONDS)
        try:
            piece = next(self._pieces, None)
        except Exception:  # the client must not take the broken body for a whole one
            log.failure("{path} broke off", path=self._request.path)
            self._stop()
            abort(self._request)
            return
        if piece is None:
            self._stop()
            self._request.unregisterProducer()
            self._request.finish()
        else:
            self._request.write(piece)

    def _stop(self) -> None:
        if self._stalled is not None and self._stalled.active():
            self._stalled.cancel()
        self._stalled = None
        if self._site is not None:
            self._site.let_go(self._key, self._size)
            self._site = None

    def stopProducing(self) -> None:
        """Twisted calls this when the client is gone."""
        self._stop()
