"""HTTP connections: with bounds on what comes, and kept for the next request.

A connection is either closed or used again, never both: whoever closes it while its answer is
still coming also keeps it out of the pool. A request is sent once. Where a kept connection
ends before a byte of the answer has come, the request fails with :class:`StaleConnection`, and
its sender decides about another try.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IAddress, IHandshakeListener, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.web._newclient import (
    BODY,
    DONE,
    RequestTransmissionFailed,
    ResponseNeverReceived,
    TransportProxyProducer,
)
from twisted.web._newclient import HTTP11ClientProtocol as ClientProtocol
from twisted.web.client import HTTPConnectionPool
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from zope.interface import implementer

from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.endpoints import RECEIVE_BUFFER
from twisted_bulk.system.tcp import prompt, steady

MAX_HEADERS = 64 * 1024  # bytes of one response's headers, and of what may come before it
STEP = 16 * 1024  # bytes that are looked through for headers at once
WHOLE = 1 << 20  # bytes of a body that are read at once, if it has no more: larger ones take memory
IDLE_FOR = 15  # seconds that a connection is kept for the next request
IDLE = 256  # such connections in all
DISTRUST = 60.0  # seconds for which a host that closes kept connections gets none
UNWANTED = 64 * 1024  # bytes of a body that nobody wants; a longer one costs its connection
UNWANTED_FOR = 2.0  # seconds for that body; a slower one costs its connection


class StaleConnection(ResponseNeverReceived):
    """A kept connection ended before a byte of the answer came.

    The server may or may not have got the request.
    """


def _headers_end(data: bytes, at: int) -> int:
    """How far to look through it from there, so that the body's beginning is in one piece.

    For each line of the headers the parser copies what is behind it.
    """
    end = data.find(b"\r\n\r\n", at, at + STEP)
    return at + STEP if end < 0 else end + 4


class _Answer(TransportProxyProducer):
    """What whoever has an answer's body can do with the connection: it is made so by Twisted."""

    request: Any

    def loseConnection(self) -> None:
        """Close it. The rest of the answer may be here already: it goes back into no pool."""
        self.request.persistent = False
        super().loseConnection()

    stopProducing = loseConnection


@implementer(IHandshakeListener)
class _Connection(ClientProtocol):
    """One connection: with a bound on headers, and the news when TLS stands."""

    def __init__(
        self,
        quiescentCallback: Callable[[Any], None],
        stale: Callable[[], object] = lambda: None,
    ) -> None:
        """:param stale: called when a kept connection turns out to be closed"""
        super().__init__(quiescentCallback)
        self.secured: Deferred[None] = Deferred()
        self._stale = stale
        self._requests = 0
        self._heard = False  # something of the answer has come
        self._heads = 0
        self._behind = False  # more came together with what the parser is given

    def handshakeCompleted(self) -> None:
        self.secured.callback(None)

    def request(self, request: Any) -> Deferred[IResponse]:
        self._heads = 0
        self._requests += 1
        self._heard = False
        self._read_at_once(WHOLE)
        # A body comes later, and shall go with its headers.
        with prompt(self.transport) if request.bodyProducer is None else nullcontext():
            responding = super().request(request)
        if self._parser is not None:
            vars(self._parser)["lineLengthExceeded"] = lambda line: self._refuse()
            proxy: Any = self._transportProxy
            proxy.__class__, proxy.request = _Answer, request
        return responding.addErrback(self._explain)

    def _explain(self, failure: Failure) -> Failure:
        broken = failure.check(ResponseNeverReceived, RequestTransmissionFailed)
        if not broken or self._heard or self._requests == 1:
            return failure
        reasons = getattr(failure.value, "reasons", [])
        if any(reason.check(CancelledError, MemberError) for reason in reasons):
            return failure  # it was ended by us
        self._stale()
        return Failure(StaleConnection(reasons))

    def dataReceived(self, data: bytes) -> None:
        self._heard = True
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

    def __init__(
        self, quiescent: Callable[[Any], None], stale: Callable[[], object] = lambda: None
    ) -> None:
        self._quiescent = quiescent
        self._stale = stale

    def buildProtocol(self, addr: IAddress | None) -> _Connection:
        return _Connection(self._quiescent, self._stale)


class Pool(HTTPConnectionPool):
    """Idle connections, at most ``idle`` whatever the number of hosts.

    :param persistent: False: each request has a connection of its own
    """

    cachedConnectionTimeout = IDLE_FOR
    retryAutomatically = False  # Twisted would send a request again without a word

    def __init__(self, reactor: Any, persistent: bool = True, idle: int = IDLE) -> None:
        super().__init__(reactor, persistent)
        self._idle = idle
        self._distrusted: dict[Any, float] = {}

    def _newConnection(self, key: Any, endpoint: Any) -> Any:
        return endpoint.connect(
            _Connections(
                lambda connection: self._putConnection(key, connection),
                lambda: self._distrust(key),
            )
        )

    def _distrust(self, key: Any) -> None:
        """A host has closed a kept connection: its others are probably closed as well."""
        now = self._reactor.seconds()
        self._distrusted = {each: end for each, end in self._distrusted.items() if end > now}
        self._distrusted[key] = now + DISTRUST
        for connection in list(self._connections.get(key, ())):
            self._timeouts[connection].cancel()
            self._removeConnection(key, connection)

    def _putConnection(self, key: Any, connection: Any) -> None:
        if self._distrusted.get(key, 0.0) > self._reactor.seconds():
            connection.transport.loseConnection()
            return
        connection.key = key
        super()._putConnection(key, connection)
        if len(self._timeouts) > self._idle:
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


class _Unwanted(Protocol):
    """Reads a body to its end, if it is not longer than :data:`UNWANTED`."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self.close())
        self._left = UNWANTED

    def close(self) -> None:
        """Close the connection, unless the body has ended."""
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self.close()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.transport = None
        if not self.done.called:
            self.done.callback(None)


async def drop(response: IResponse, clock: IReactorTime) -> None:
    """Let go of an answer whose body nobody wants.

    A small body is read, so that its connection can be used again. The connection of a long or
    a slow one is closed. Ends within :data:`UNWANTED_FOR` seconds, when either has been done.
    """
    unwanted = _Unwanted()
    response.deliverBody(unwanted)
    if isinstance(response.length, int) and response.length > UNWANTED:
        unwanted.close()
        return
    try:
        await unwanted.done.addTimeout(UNWANTED_FOR, clock)
    except TimeoutError:
        return  # its connection is closed
