"""One HTTP connection to a server, with a limit for headers; it may be used again.

A connection is either closed or used again, never both: whoever closes it while its response is
still coming also keeps it out of the pool. A request is sent once. Where a kept connection ends
before a byte of the response has come, the request fails with :class:`StaleConnection`, and its
sender decides about another try.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHandshakeListener
from twisted.python.failure import Failure
from twisted.web._newclient import (
    BODY,
    DONE,
    RequestTransmissionFailed,
    ResponseNeverReceived,
    TransportProxyProducer,
)
from twisted.web._newclient import HTTP11ClientProtocol as ClientProtocol
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from zope.interface import implementer

from twisted_bulk.dialing.endpoints import RECEIVE_BUFFER
from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.parser import (
    MAX_HEADER_BYTES,
    ResponseParser,
    facts_of,
    too_large,
)
from twisted_bulk.system.tcp import prompt, steady

PIECE_BYTES = 16 * 1024  # of headers that the parser is given at once
#: Bytes of the first read of a response: a body that is not longer comes with one read. Further
#: reads are of RECEIVE_BUFFER bytes, because larger ones would take too much memory.
SMALL_BODY_BYTES = 1 << 20


class StaleConnection(ResponseNeverReceived):
    """A kept connection ended before a byte of the response came.

    The server may or may not have received the request.
    """


def _headers_end(data: bytes, at: int) -> int:
    """The end of the next piece for the parser: of the headers, or of PIECE_BYTES.

    For each line of headers Twisted's parser copies all bytes behind it. So it is given headers in
    small pieces, and the body behind them as one.
    """
    end = data.find(b"\r\n\r\n", at, at + PIECE_BYTES)
    return at + PIECE_BYTES if end < 0 else end + 4


class _BodyTransport(TransportProxyProducer):
    """The transport of a response's body; Twisted makes it, and we change its class."""

    request: Any

    def loseConnection(self) -> None:
        """Close the connection, and keep it out of the pool even if the response is complete."""
        self.request.persistent = False
        super().loseConnection()

    stopProducing = loseConnection


@implementer(IHandshakeListener)
class Connection(ClientProtocol):
    """One connection, with a limit for headers. ``secured`` fires when TLS is set up."""

    def __init__(
        self,
        quiescentCallback: Callable[[Any], None],
        stale: Callable[[], object] = lambda: None,
    ) -> None:
        """:param quiescentCallback: called by Twisted's when the connection can be used again
        :param stale: called when a kept connection turns out to be closed
        """
        super().__init__(quiescentCallback)
        self.secured: Deferred[None] = Deferred()
        self._stale = stale
        self._requests = 0
        self._heard = False  # a byte of the response has come
        self._header_bytes = 0
        self._has_surplus = False  # more bytes came together with those that the parser is given

    def handshakeCompleted(self) -> None:
        self.secured.callback(None)

    def request(self, request: Any) -> Deferred[IResponse]:
        self._header_bytes = 0
        self._requests += 1
        self._heard = False
        self._read_at_once(SMALL_BODY_BYTES)
        # The body of a request comes later, and is sent together with the headers.
        with prompt(self.transport) if request.bodyProducer is None else nullcontext():
            responding = super().request(request)
        if self._parser is not None:
            parser: Any = self._parser
            parser.__class__ = ResponseParser
            proxy: Any = self._transportProxy
            proxy.__class__, proxy.request = _BodyTransport, request
        return responding.addErrback(self._explain)

    def _explain(self, failure: Failure) -> Failure:
        broken = failure.check(ResponseNeverReceived, RequestTransmissionFailed)
        if not broken or self._heard or self._requests == 1:
            return failure
        reasons = getattr(failure.value, "reasons", [])
        if any(reason.check(CancelledError, MemberError) for reason in reasons):
            return failure  # we ended it ourselves
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
                self._has_surplus = end < len(data)
                super().dataReceived(piece)
                if self._parser is parser and self._in_headers():
                    self._count(len(piece))
        if parser is not None and self._parser is parser and not self._in_headers():
            length = parser.response.length
            if length is UNKNOWN_LENGTH or length > SMALL_BODY_BYTES:
                self._read_at_once(RECEIVE_BUFFER)

    def _read_at_once(self, size: int) -> None:
        transport: Any = self.transport
        transport.bufferSize = size

    def _in_headers(self) -> bool:
        return self._parser is not None and self._parser.state not in (BODY, DONE)

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MAX_HEADER_BYTES:
            self._giveUp(Failure(too_large()))

    def _finishResponse(self, rest: bytes) -> None:
        if rest or self._has_surplus:
            request: Any = self._currentRequest
            request.persistent = False  # surplus bytes must not be read as the next response
        super()._finishResponse(rest)

    def connectionLost(self, reason: Failure = Failure(error.ConnectionDone())) -> None:  # noqa: B008
        response = getattr(self._parser, "response", None)
        closed = reason.check(error.ConnectionDone) or getattr(self.transport, "peer_closed", False)
        if response is not None and not closed:
            facts_of(response).broken = True
        if not self.secured.called:
            self.secured.errback(reason)
        self.secured.addErrback(lambda _: None)
        super().connectionLost(reason)
