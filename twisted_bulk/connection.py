"""HTTP connections: with bounds on what comes, and kept for the next request."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.web._newclient import BODY, DONE
from twisted.web._newclient import HTTP11ClientProtocol as ClientProtocol
from twisted.web.client import HTTPConnectionPool
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from zope.interface import implementer

from twisted_bulk.dial import RECEIVE_BUFFER
from twisted_bulk.errors import MemberError
from twisted_bulk.transport import prompt, steady

MAX_HEADERS = 64 * 1024  # bytes of one response's headers, and of what may come before it
STEP = 16 * 1024  # bytes that are looked through for headers at once
WHOLE = 1 << 20  # bytes of a body that are read at once, if it has no more: larger ones take memory
IDLE_FOR = 15  # seconds that a connection is kept for the next request
IDLE = 256  # such connections in all


def _headers_end(data: bytes, at: int) -> int:
    """How far to look through it from there, so that the body's beginning is in one piece.

    For each line of the headers the parser copies what is behind it.
    """
    end = data.find(b"\r\n\r\n", at, at + STEP)
    return at + STEP if end < 0 else end + 4


@implementer(IHandshakeListener)
class _Connection(ClientProtocol):
    """One connection: with a bound on headers, and the news when TLS stands."""

    def __init__(self, quiescentCallback: Callable[[Any], None]) -> None:
        super().__init__(quiescentCallback)
        self.secured: Deferred[None] = Deferred()
        self._heads = 0
        self._behind = False  # more came together with what the parser is given

    def handshakeCompleted(self) -> None:
        self.secured.callback(None)

    def request(self, request: Any) -> Deferred[IResponse]:
        self._heads = 0
        self._read_at_once(WHOLE)
        # A body comes later, and shall go with its headers.
        with prompt(self.transport) if request.bodyProducer is None else nullcontext():
            responding = super().request(request)
        if self._parser is not None:
            vars(self._parser)["lineLengthExceeded"] = lambda line: self._refuse()
        return responding

    def dataReceived(self, data: bytes) -> None:
        parser = self._parser
        if not self._in_headers():
            super().dataReceived(data)
            return
        with steady(self.transport):
            end = 0
            while end < len(data) and self._parser is parser:
                at = end
                end = _headers_end(data, at) if self._in_headers() else len(data)
                piece = data[at:end]
                self._behind = end < len(data)
                super().dataReceived(piece)
                if self._parser is parser and self._in_headers():
                    self._count(len(piece))
        if parser is not None and self._parser is parser and not self._in_headers():
            length = parser.response.length
            if length is UNKNOWN_LENGTH or length > WHOLE:
                self._read_at_once(RECEIVE_BUFFER)

    def _read_at_once(self, size: int) -> None:
        transport: Any = self.transport
        transport.bufferSize = size

    def _in_headers(self) -> bool:
        return self._parser is not None and self._parser.state not in (BODY, DONE)

    def _count(self, size: int) -> None:
        self._heads += size
        if self._heads > MAX_HEADERS:
            self._refuse()

    def _refuse(self) -> None:
        what = f"more than {MAX_HEADERS} bytes of headers, or an endless one"
        self._giveUp(Failure(MemberError("headers_too_large", what)))

    def _finishResponse(self, rest: bytes) -> None:
        if (rest or self._behind) and self._parser is not None:
            self._parser.response.overlong = True
            request: Any = self._currentRequest
            request.persistent = False  # what is too much is not the next answer's
        super()._finishResponse(rest)

    def connectionLost(self, reason: Failure = Failure(error.ConnectionDone())) -> None:  # noqa: B008
        response = getattr(self._parser, "response", None)
        if response is not None and not reason.check(error.ConnectionDone):
            response.broken = True  # the peer did not just close
        if not self.secured.called:
            self.secured.errback(reason)
        self.secured.addErrback(lambda _: None)
        super().connectionLost(reason)


class _Connections(Factory):
    noisy = False

    def __init__(self, quiescentCallback: Callable[[Any], None], metadata: str) -> None:
        self._quiescentCallback = quiescentCallback

    def buildProtocol(self, addr: IAddress | None) -> _Connection:
        return _Connection(self._quiescentCallback)


class Pool(HTTPConnectionPool):
    """Idle connections, at most :data:`IDLE` whatever the number of hosts."""

    _factory = _Connections  # type: ignore[assignment]
    cachedConnectionTimeout = IDLE_FOR

    def _putConnection(self, key: Any, connection: Any) -> None:
        connection.key = key
        super()._putConnection(key, connection)
        if len(self._timeouts) > IDLE:
            oldest = next(iter(self._timeouts))
            self._timeouts[oldest].cancel()
            self._removeConnection(oldest.key, oldest)

    def getConnection(self, key: Any, endpoint: Any) -> Any:
        got = super().getConnection(key, endpoint)
        if not self._connections.get(key, True):
            del self._connections[key]
        return got

    def _removeConnection(self, key: Any, connection: Any) -> None:
        super()._removeConnection(key, connection)
        if not self._connections[key]:
            del self._connections[key]


class _HangUp(Protocol):
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


def hang_up(response: IResponse) -> None:
    """Close the connection of a response whose body nobody wants."""
    response.deliverBody(_HangUp())
