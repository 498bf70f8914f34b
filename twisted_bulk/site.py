"""What both ports share: bounded requests, and errors as RFC 9457 problems."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, cast

import msgspec
from twisted.internet.interfaces import (
    IPullProducer,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.logger import Logger
from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from twisted_bulk.errors import BulkError, TooLarge, Unauthorized, Unavailable

log = Logger()

IDLE = 60  # seconds a connection may be silent
LINGER = 2.0  # seconds that a refused client has to read why


def problem(request: HTTPRequest, error: BulkError) -> bytes:
    """Set the status and headers for ``error``; returns the body."""
    request.setResponseCode(error.status)
    request.setHeader("Content-Type", "application/problem+json")
    if isinstance(error, Unavailable):
        request.setHeader("Retry-After", str(error.retry_after))
    if isinstance(error, Unauthorized):
        request.setHeader("WWW-Authenticate", 'Bearer realm="bulkwav"')
    return problem_body(error.status, error.code, str(error))


def problem_body(status: int, code: str, detail: str) -> bytes:
    """An RFC 9457 object, with our ``code``."""
    about = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": int(status)}
    return msgspec.json.encode(about | {"code": code, "detail": detail}) + b"\n"


def abort(request: HTTPRequest) -> None:
    """Cut the request's connection."""
    cast(Any, request.channel).transport.abortConnection()


def header(request: HTTPRequest, name: str) -> str | None:
    """A header's values in one, whatever bytes they have."""
    values = request.requestHeaders.getRawHeaders(name.encode())
    return b", ".join(values).decode("latin-1") if values else None


class BoundedRequest(Request):
    """A request whose body ends the connection when it exceeds the site's limit."""

    _refused = False

    def gotLength(self, length: int | None) -> None:
        super().gotLength(length)
        if length is not None and length > self._site.max_body:
            self._refuse()

    @property
    def _site(self) -> "BoundedSite":
        return cast(Any, self.channel).site  # type: ignore[no-any-return]

    def handleContentChunk(self, data: bytes) -> None:
        if self._refused:
            return
        assert self.content is not None
        if self.content.tell() + len(data) > self._site.max_body:
            self._refuse()
            return
        super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if not self._refused:
            super().requestReceived(command, path, version)

    def _refuse(self) -> None:
        """Say 413, read no more, and close once the client could read it."""
        self._refused = True
        error = TooLarge(f"the body is larger than {self._site.max_body} bytes")
        body = problem_body(error.status, error.code, str(error))
        transport = cast(ITCPTransport, cast(Any, self.channel).transport)
        transport.write(
            b"HTTP/1.1 413 Content Too Large\r\nContent-Type: application/problem+json\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        # Else Twisted would invite the body with "100 Continue".
        self.requestHeaders.removeHeader(b"Expect")
        cast(IPushProducer, transport).pauseProducing()
        # Closing at once, with unread data, would reset the connection under the answer.
        self._site.reactor.callLater(LINGER, transport.abortConnection)

    def render(self, resrc: Resource) -> None:
        self.setHeader("Server", "bulkwav")
        self.setHeader("X-Content-Type-Options", "nosniff")
        super().render(resrc)


@implementer(IPullProducer)
class Pieces(Resource):
    """A body in pieces, the next one made when the last has gone."""

    isLeaf = True

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces

    def render_GET(self, request: Request) -> int:
        self._request = request
        request.registerProducer(self, False)
        return NOT_DONE_YET

    def resumeProducing(self) -> None:
        piece = next(self._pieces, None)
        if piece is None:
            self._request.unregisterProducer()
            self._request.finish()
        else:
            self._request.write(piece)

    def stopProducing(self) -> None:
        """The client is gone."""


class BoundedSite(Site):
    """A site of :class:`BoundedRequest`.

    :param max_body: bytes of a request's body
    """

    displayTracebacks = False

    def __init__(self, resource: Resource, clock: IReactorTime, max_body: int) -> None:
        super().__init__(
            resource,
            requestFactory=BoundedRequest,
            timeout=IDLE,
            reactor=clock,
            parsePOSTFormSubmission=False,
        )
        self.max_body = max_body
        self.reactor: Any = clock

    def _updateLogDateTime(self) -> None:
        """Twisted would format the reactor's clock, which does not tell the time of day."""

    def log(self, request: HTTPRequest) -> None:
        """One line for each answer."""
        log.info(
            "{client} {method} {path} {status} {sent}",
            client=getattr(request.getClientAddress(), "host", "-"),
            method=request.method.decode("ascii", "replace"),
            path=request.path.decode("ascii", "replace")[:200],
            status=request.code,
            sent=request.sentLength,
        )
