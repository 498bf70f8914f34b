"""One client's connection to a port of ours.

It is Twisted's HTTPChannel with four additions: it refuses messages that two parsers in a row may
read differently (RFC 9112, sections 3, 5.2 and 6.3); headers and bodies have deadlines; the number
of connections is limited; and each refusal says why before the connection is closed.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

from twisted_bulk.errors import BadRequest, BulkError, RequestTimeout
from twisted_bulk.http_server import deadline as limits
from twisted_bulk.http_server.client_address import Clients
from twisted_bulk.http_server.connection_limits import ConnectionLimits
from twisted_bulk.http_server.deadline import BodySpeed, Deadline
from twisted_bulk.http_server.problem import last_answer
from twisted_bulk.http_server.proxy_header import ProxyHeader
from twisted_bulk.http_server.strictness import ambiguity, stays_open
from twisted_bulk.throttle import UNLIMITED

log = Logger(namespace="access")

#: Bodies up to so many bytes are in memory, and `unwelcome` is not asked about them.
SMALL_BODY_BYTES = 100_000
MAX_PIECES = 32  # of data that came while an earlier request is answered; then they are joined


class Served(Protocol):
    """The site, as a connection sees it."""

    reactor: Any
    limits: ConnectionLimits
    clients: Clients
    max_body: int
    bodies: Counter[str]

    @property
    def unwelcome(self) -> Callable[[Any], BulkError | None]:
        """Why a request's body need not come."""

    def refusing(self, error: BulkError) -> None:
        """A connection is refused."""

    def note(self, status: int, to: Any, *, seconds: float, whole: bool, **more: Any) -> None:
        """Count an answer, and log it."""

    def log(self, request: Any, whole: bool = True) -> None:
        """Count the answer to a request, and log it."""


class Channel(HTTPChannel):
    """A connection, from its start to its end.

    ``client``: the client's address. ``key``: the client in limits, see :meth:`Clients.key`.
    ``passes_on``: it is a proxy's, and each request names its client. ``announced``: a PROXY header
    has named the client. ``refused``: nothing more is read.

    Twisted calls the methods without a docstring: for the connection, while it parses a request,
    and ``checkPersistence`` behind that; ``pauseProducing`` when the transport is full.
    """

    site: Served
    transport: Any
    client = key = ""
    refused = passes_on = announced = False
    _paused: Any = None  # the producer of an answer that was told to wait
    _entered: bool | None = None  # whether it was let in; None: that is not known yet
    _proxy_header: ProxyHeader | None = None  # the header that is due; None: none is

    def connectionMade(self) -> None:
        # First: Twisted may end the connection below.
        self._deadline, self._closing = Deadline(self.site.reactor), Deadline(self.site.reactor)
        super().connectionMade()
        self._began = self.site.reactor.seconds()
        self._host = self.transport.getHost()  # a system call, and each request asks for it
        self.client = getattr(self.transport.getPeer(), "host", None) or ""
        self._deadline.set(self._late)
        if self.site.clients.announces(self.client):
            self._proxy_header = ProxyHeader()
        else:
            self._enter()

    def _enter(self) -> None:
        """The client is known: let the connection in, or refuse it."""
        clients = self.site.clients
        self.passes_on = clients.passes_on(self.client)
        self.key = UNLIMITED if self.passes_on else clients.key(self.client)
        refusal = self.site.limits.enter(self.key)
        self._entered = refusal is None
        if refusal:
            self.site.refusing(refusal)
        if refusal and self.site.limits.is_overrun(self.key):
            self.refused = True
            self.transport.abortConnection()
        elif refusal:
            self.refuse(refusal)

    def dataReceived(self, data: bytes) -> None:
        if self._proxy_header is not None:
            data = self._take_proxy_header(self._proxy_header, data)
        if self.refused or not data:
            return
        if not self._deadline.is_set and self.line_mode:
            self._deadline.set(self._late)
        if len(self._dataBuffer) > MAX_PIECES:  # Twisted adds up their lengths at each piece
            self._dataBuffer = [b"".join(self._dataBuffer)]
        super().dataReceived(data)
        if not self._waitingForTransport:
            return
        is_full = sum(map(len, self._dataBuffer)) > self._optimisticEagerReadSize
        if is_full or not self._handlingRequest:  # Twisted does not stop reading in all cases
            self._networkProducer.pauseProducing()

    def getHost(self) -> Any:
        return self._host

    def _take_proxy_header(self, header: ProxyHeader, data: bytes) -> bytes:
        """Take the PROXY header; returns the bytes behind it."""
        try:
            data = header.add(data)
        except ValueError as problem:
            log.info("{client}: {problem}", client=self.client, problem=str(problem))
            self.transport.abortConnection()
            return b""
        if header.client is not None:
            self._proxy_header = None
            self.client, self.announced = header.client or self.client, True
            self._enter()
        return data

    def lineReceived(self, line: bytes) -> None:
        if self.refused:
            return
        if line[:1] in (b" ", b"\t") or b"\n" in line or b"\r" in line:
            self.refuse(BadRequest("a folded line, or a line that does not end in CR LF"))
            return
        super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(BadRequest("a line that is too long"))

    def headerReceived(self, line: bytes) -> bool:
        try:
            return bool(super().headerReceived(line))
        except ValueError:  # a Content-Length with more digits than Python converts
            self._respondToBadRequestAndDisconnect()
            return False

    def allHeadersReceived(self) -> None:
        self._deadline.clear()
        request = self.requests[-1]
        if problem := ambiguity(self._version, request.requestHeaders):
            self.refuse(BadRequest(problem))
            return
        if self.length != 0:
            large = self.length is None or self.length > SMALL_BODY_BYTES
            # First: Twisted says "100 Continue" to a client that waits for that.
            asks = large or request.requestHeaders.hasHeader(b"Expect")
            unwelcome = self.site.unwelcome(request) if asks else None
            if unwelcome is not None:
                self.refuse(unwelcome)
                return
        super().allHeadersReceived()
        if self.length != 0 and not self.refused:
            self._body_speed = BodySpeed(self.site.reactor.seconds())
            self._deadline.set(self._check_body)

    def _check_body(self) -> None:
        """Refuse a body that comes too slowly."""
        received = self.requests[-1].content.tell()
        seconds = self._body_speed.look(received, self.site.reactor.seconds())
        if seconds > 0:
            self._deadline.set(self._check_body, seconds)
        else:
            self._late()

    def allContentReceived(self) -> None:
        self._deadline.clear()
        super().allContentReceived()

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        if stays_open(version, request.requestHeaders):
            return True
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return False

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(BadRequest("not a request as RFC 9112 has it"))

    def _late(self) -> None:
        self._deadline.clear()
        head = f"a request's headers have to come within {limits.HEADER_SECONDS:g} s"
        self.refuse(RequestTimeout(f"{head}, its body at {limits.MIN_BODY_SPEED} bytes a second"))

    def refuse(self, error: BulkError) -> None:
        """Answer with an error, read no more, and close once the client could read the answer."""
        if self.refused:
            return
        self.refused = True
        self._deadline.clear()
        for request in self.requests:  # else Twisted would ask for the body
            request.requestHeaders.removeHeader(b"Expect")
        answer = last_answer(error)
        self.transport.write(answer)
        if not ISSLTransport.providedBy(self.transport):  # with TLS the handshake may follow
            self.transport.pauseProducing()
        # Closing now, with unread data, would reset the connection before the answer arrives.
        self._closing.set(self.transport.abortConnection, limits.LINGER_SECONDS)
        now = self.site.reactor.seconds()
        self.site.note(
            error.status,
            self.getHost(),
            client=self.client,
            method=getattr(self, "_command", ""),
            path=getattr(self, "_path", b"").partition(b"?")[0],
            bytes=len(answer),
            seconds=now - (self.requests[-1].began if self.requests else self._began),
            whole=True,
            code=error.code,
        )

    def loseConnection(self) -> None:
        """Close once the client has taken the rest. Twisted would wait for that for ever."""
        if not self._closing.is_set:
            self._closing.set(self.transport.abortConnection, limits.DRAIN_SECONDS)
        super().loseConnection()

    def pauseProducing(self) -> None:
        # TLS asks for this when it has to read before it can write the refusal.
        if self.refused:
            return
        # The transport asks at each write; a producer that is paused twice is resumed once.
        if not self._waitingForTransport or self._paused is not self._requestProducer:
            self._paused = self._requestProducer
            super().pauseProducing()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self._deadline.stop()
        self._closing.stop()
        if self._entered is not None:
            self.site.limits.leave(self.key, self._entered)
        super().connectionLost(reason)
