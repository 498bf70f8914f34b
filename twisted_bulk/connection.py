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
from twisted.web.iweb import IResponse
from zope.interface import implementer

from twisted_bulk.errors import MemberError
from twisted_bulk.transport import prompt, steady

MAX_HEADERS = 64 * 1024  # bytes of one response's headers, and of what may come before it
STEP = 16 * 1024  # bytes that are looked through for headers at once
IDLE_FOR = 15  # seconds that a connection is kept for the next request
IDLE = 256  # such connections in all


@implementer(IHandshakeListener)
class _Connection(ClientProtocol):
    """One connection: with a bound on headers, and the news when TLS stands."""

    def __init__(self, quiescentCallback: Callable[[Any], None]) -> None:
        super().__init__(quiescentCallback)
        self.secured: Deferred[None] = Deferred()
        self._heads = 0

    def handshakeCompleted(self) -> None:
        self.secured.callback(None)

    def request(self, request: Any) -> Deferred[IResponse]:
        self._heads = 0
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
            while data and self._parser is parser:
                # For each line of the headers the parser copies what is behind it.
                size = STEP if self._in_headers() else len(data)
                piece, data = data[:size], data[size:]
                super().dataReceived(piece)
                if self._parser is parser and self._in_headers():
                    self._count(len(piece))
        if data and self._parser is None:
            assert self.transport is not None
            self.transport.loseConnection()  # more than was asked for

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
        if rest and self._parser is not None:
            self._parser.response.overlong = True
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
