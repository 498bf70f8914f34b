"""One client's connection to a port of ours.

Twisted's parser, without what two parsers in a row may read differently (RFC 9112,
sections 3, 5.2 and 6.3), with absolute deadlines, and with caps on connections.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from twisted.web.http_headers import Headers

from twisted_bulk.errors import BadRequest, BulkError, RequestTimeout, Unauthorized, Unavailable
from twisted_bulk.http_server.clients import Clients, announced
from twisted_bulk.http_server.connection_limits import MOMENT, ConnectionLimits
from twisted_bulk.http_server.problem import BEARER, SMALL, problem_body
from twisted_bulk.throttle import UNLIMITED

log = Logger(namespace="access")

HEADERS = 15.0  # seconds for a request's headers, from the connection's start or its first byte
SLOWEST = 10_000  # bytes a second of a request's body, beside that time
CREDIT = 60.0  # seconds that a body may be behind that, after it was before it
PIECES = 32  # of what came while an earlier request is being answered
DRAIN = 75.0  # seconds that a client has to take the end of the last answer
LINGER = 2.0  # seconds that a refused client has to read why
_LABEL = rb"[A-Za-z0-9_~!$&'()*+,;=%-]{1,63}"
_HOST = re.compile(rb"(?:%b(?:\.%b)*\.?|\[[0-9A-Fa-f:.]+\])?(?::[0-9]*)?" % (_LABEL, _LABEL))


def ambiguity(version: bytes, headers: Headers) -> str:
    """What another server might understand differently, or nothing."""
    hosts = headers.getRawHeaders(b"Host", [])
    if len(hosts) > 1 or (not hosts and version != b"HTTP/1.0"):
        return "there must be one Host"
    if hosts and not _HOST.fullmatch(hosts[0]):
        return "Host is not a host"
    codings = headers.getRawHeaders(b"Transfer-Encoding")
    if codings is not None:
        if version != b"HTTP/1.1":
            return "Transfer-Encoding needs HTTP/1.1"
        if [coding.lower() for coding in codings] != [b"chunked"]:
            return "no Transfer-Encoding but chunked"
        if headers.hasHeader(b"Content-Length"):
            return "Transfer-Encoding and Content-Length"
    return ""


class Served(Protocol):
    """What a connection asks of its site."""

    reactor: Any
    limits: ConnectionLimits
    clients: Clients
    max_body: int
    bodies: Counter[str]

    @property
    def unwelcome(self) -> Callable[[Any], BulkError | None]:
        """Why a request's body need not come."""

    def hold(self, key: str, size: int) -> bool:
        """Whether there is room for a large answer to a client; if so, it is taken."""

    def refusing(self, error: BulkError) -> None:
        """A connection is refused."""

    def note(self, status: int, to: Any, *, seconds: float, whole: bool, **more: Any) -> None:
        """Count an answer, and log it."""

    def log(self, request: Any, whole: bool = True) -> None:
        """Count and log the answer to a request."""


class Channel(HTTPChannel):
    """A connection, from its start to its end.

    ``client`` is whom it comes from, ``key`` what stands for that in limits; ``passes_on``: its
    requests come from others.
    """

    site: Served
    transport: Any
    client = key = ""
    refused = passes_on = False
    _paused: Any = None  # the producer of an answer that was told to wait
    _entered: bool | None = None  # whether it was let in, once that is known
    announced = False  # a PROXY header said whom it comes from
    _greeting: bytes | None = None  # what has come of the PROXY header that is due
    _deadline: float | None = None  # when ``_due`` is to be called
    _timer: IDelayedCall | None = None  # fires no later than that, and may find it moved
    _closing: IDelayedCall | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self._began = self.site.reactor.seconds()
        self._host = self.transport.getHost()  # a system call, and each request asks for it
        self.client = getattr(self.transport.getPeer(), "host", None) or ""
        self._await(self._late)
        if self.site.clients.announces(self.client):
            self._greeting = b""
        else:
            self._enter()

    def _enter(self) -> None:
        clients = self.site.clients
        # A proxy that says for each request whom it brings has connections for many.
        self.passes_on = clients.passes_on(self.client)
        self.key = UNLIMITED if self.passes_on else clients.key(self.client)
        refusal = self.site.limits.enter(self.key)
        self._entered = refusal is None
        if refusal:
            self.site.refusing(refusal)
        if refusal and self.site.limits.swamped(self.key):
            self.refused = True
            self.transport.abortConnection()
        elif refusal:
            self.refuse(refusal)

    def dataReceived(self, data: bytes) -> None:
        if self._greeting is not None:
            data = self._greet(data)
        if self.refused or not data:
            return
        if self._deadline is None and self.line_mode:
            self._await(self._late)
        if len(self._dataBuffer) > PIECES:  # Twisted adds up their lengths at each one that comes
            self._dataBuffer = [b"".join(self._dataBuffer)]
        super().dataReceived(data)
        if self._waitingForTransport and (not self._handlingRequest or self._full()):
            # While an answer is made, or its client takes none, Twisted stops reading; where one
            # follows the other it does not.
            self._networkProducer.pauseProducing()

    def getHost(self) -> Any:
        return self._host

    def _await(self, due: Callable[[], object], seconds: float = HEADERS) -> None:
        """Call ``due`` then, unless ``_deadline`` is changed. Nearly every one is."""
        self._deadline, self._due = self.site.reactor.seconds() + seconds, due
        if self._timer is None:
            self._timer = self.callLater(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        left = self._deadline - self.site.reactor.seconds()
        if left > MOMENT:
            self._timer = self.callLater(left, self._look)
        else:
            self._due()

    def _full(self) -> bool:
        return sum(map(len, self._dataBuffer)) > self._optimisticEagerReadSize

    def _greet(self, data: bytes) -> bytes:
        """Take the PROXY header off; returns what follows it."""
        self._greeting = cast(bytes, self._greeting) + data
        try:
            found = announced(self._greeting)
        except ValueError as problem:
            log.info("{client}: {problem}", client=self.client, problem=str(problem))
            self.transport.abortConnection()
            self._greeting = b""
            return b""
        if found is None:
            return b""
        data, self._greeting = self._greeting[found[0] :], None
        self.client, self.announced = found[1] or self.client, True
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
        except ValueError:  # a Content-Length beyond what Python turns into a number
            self._respondToBadRequestAndDisconnect()
            return False

    def allHeadersReceived(self) -> None:
        self._deadline = None
        request = self.requests[-1]
        problem = ambiguity(self._version, request.requestHeaders)
        if problem:
            self.refuse(BadRequest(problem))
            return
        if self.length != 0:
            large = self.length is None or self.length > SMALL
            # Before Twisted says "100 Continue" to a client that waits for that.
            asks = large or request.requestHeaders.hasHeader(b"Expect")
            unwelcome = self.site.unwelcome(request) if asks else None
            if unwelcome is not None:
                self.refuse(unwelcome)
                return
        super().allHeadersReceived()
        if self.length != 0 and not self.refused:
            self._credit = self._planned = HEADERS
            self._counted, self._checked = 0, self.site.reactor.seconds()
            self._await(self._check_body)

    def _check_body(self) -> None:
        content, now = self.requests[-1].content, self.site.reactor.seconds()
        received = content.tell()
        passed = now - self._checked
        if passed > self._planned + 1:  # this process was late: the client could not be heard
            passed = self._planned / 2
        earned = (received - self._counted) / SLOWEST - passed
        self._credit = min(self._credit + earned, CREDIT)
        self._counted, self._checked = received, now
        if self._credit > 0:
            self._planned = min(self._credit, HEADERS)
            self._await(self._check_body, self._planned)
        else:
            self._late()

    def allContentReceived(self) -> None:
        self._deadline = None
        super().allContentReceived()

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        values = request.requestHeaders.getRawHeaders(b"Connection", [])
        tokens = {token.strip().lower() for value in values for token in value.split(b",")}
        if version == b"HTTP/1.1" and b"close" not in tokens:
            return True
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return False

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(BadRequest("not a request as RFC 9112 has it"))

    def _late(self) -> None:
        self._deadline = None
        self.refuse(
            RequestTimeout(
                f"a request's headers have to come within {HEADERS:g} s, its body at"
                f" {SLOWEST} bytes a second"
            )
        )

    def refuse(self, error: BulkError) -> None:
        """Say what is wrong, hear no more, and close once the client could read it."""
        if self.refused:
            return
        self.refused = True
        self._deadline = None
        for request in self.requests:  # else Twisted would invite the body
            request.requestHeaders.removeHeader(b"Expect")
        body = problem_body(error.status, error.code, str(error))
        head = f"HTTP/1.1 {error.status.value} {error.status.phrase}\r\n"
        if isinstance(error, Unavailable):
            head += f"Retry-After: {error.retry_after}\r\n"
        if isinstance(error, Unauthorized):
            head += f"WWW-Authenticate: {BEARER}\r\n"
        head += "Content-Type: application/problem+json\r\nConnection: close\r\n"
        answer = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self.transport.write(answer)
        if not ISSLTransport.providedBy(self.transport):  # there the handshake may be to come
            self.transport.pauseProducing()
        # Closing at once, with unread data, would reset the connection under the answer.
        self._stop("_closing")
        self._closing = self.callLater(LINGER, self.transport.abortConnection)
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
        # Twisted waits for ever until a client has taken what is left for it.
        if self._closing is None:
            self._closing = self.callLater(DRAIN, self.transport.abortConnection)
        super().loseConnection()

    def pauseProducing(self) -> None:
        # TLS asks for this when it has to read before it can write the refusal.
        if self.refused:
            return
        # Asked again at each write; who makes pieces counts how often, and is resumed once.
        if not self._waitingForTransport or self._paused is not self._requestProducer:
            self._paused = self._requestProducer
            super().pauseProducing()

    def _stop(self, name: str) -> None:
        call = getattr(self, name)
        if call is not None and call.active():
            call.cancel()
        setattr(self, name, None)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self._stop("_timer")
        self._stop("_closing")
        if self._entered is not None:
            self.site.limits.leave(self.key, self._entered)
        super().connectionLost(reason)
