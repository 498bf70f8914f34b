"""What both ports share: bounded requests, and errors as RFC 9457 problems."""

import re
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from typing import Any, cast

from twisted.internet.interfaces import IPullProducer, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from twisted_bulk.channel import Channel, problem_body
from twisted_bulk.errors import BulkError, DiskFull, TooLarge, Unauthorized, Unavailable
from twisted_bulk.gate import Gate
from twisted_bulk.origin import Origins

log = Logger(namespace="access")

IDLE = 60  # seconds a connection may be silent
MAX_CONNECTIONS, MAX_OF_ONE = 4000, 1000  # of a port for which nothing else is said
BODIES = 4  # of the largest size that a site keeps at once, on disk
BUSY = 10  # seconds after which a body is welcome that there was no room for


def problem(request: HTTPRequest, error: BulkError) -> bytes:
    """Set the status and headers for ``error``; returns the body."""
    request.setResponseCode(error.status)
    request.setHeader("Content-Type", "application/problem+json")
    if isinstance(error, Unavailable):
        request.setHeader("Retry-After", str(error.retry_after))
    if isinstance(error, Unauthorized):
        request.setHeader("WWW-Authenticate", 'Bearer realm="bulkwav"')
    return problem_body(error.status, error.code, str(error))


def abort(request: HTTPRequest) -> None:
    """Cut the request's connection."""
    cast(Any, request.channel).transport.abortConnection()


def header(request: HTTPRequest, name: str) -> str | None:
    """A header's values in one, whatever bytes they have."""
    values = request.requestHeaders.getRawHeaders(name.encode())
    return b", ".join(values).decode("latin-1") if values else None


class BoundedRequest(Request):
    """A request whose body ends the connection when it exceeds the site's limit."""

    transfer: IPushProducer | None = None  # stopped when the client goes
    _held = 0  # bytes of its body

    def __init__(self, channel: Channel, *arguments: Any, **more: Any) -> None:
        super().__init__(channel, *arguments, **more)
        self._channel = channel
        self.began = channel.site.reactor.seconds()

    @property
    def origin(self) -> str:
        """The client's address, as far as trusted proxies tell it."""
        hops = self.requestHeaders.getRawHeaders(b"X-Forwarded-For", [])
        return self._channel.site.origins.behind(
            self._channel.client, [hop.decode("latin-1") for hop in hops]
        )

    @property
    def origin_key(self) -> str:
        """What stands for the client's address in limits."""
        return self._channel.site.origins.key(self.origin)

    def gotLength(self, length: int | None) -> None:
        most = self._channel.site.max_body
        if length is not None and length > most:
            super().gotLength(0)
            self._too_large()
        else:
            super().gotLength(most if length is None else length)

    def handleContentChunk(self, data: bytes) -> None:
        if self._channel.refused:
            return
        assert self.content is not None
        site = self._channel.site
        if self.content.tell() + len(data) > site.max_body:
            self._too_large()
            return
        if site.bodies + len(data) > BODIES * site.max_body:
            self._channel.refuse(Unavailable("there are too many large bodies at once", BUSY))
            return
        self._held += len(data)
        site.bodies += len(data)
        try:
            super().handleContentChunk(data)
            self.content.flush()
        except OSError as error:
            log.error("a body cannot be kept: {problem}", problem=error.strerror)
            self.content = BytesIO()  # closing the other one would fail again
            self._channel.refuse(DiskFull("there is no room for the body", BUSY))

    def _drop_body(self) -> None:
        self._channel.site.bodies -= self._held
        self._held = 0

    def finish(self) -> None:
        super().finish()
        self._channel.flush()
        self._drop_body()

    def _too_large(self) -> None:
        error = TooLarge(f"the body is larger than {self._channel.site.max_body} bytes")
        self._channel.refuse(error)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if not self._channel.refused:
            # RFC 9112, 3.2.2: the absolute form means the same.
            path = re.sub(rb"(?i)^https?://[^/?#]*(?=[/?#]|$)", b"", path) or b"/"
            # Twisted would answer this one itself, past what resources count and log.
            path = b"/*" if path == b"*" else path
            super().requestReceived(command, path, version)

    def render(self, resrc: Resource) -> None:
        self.setHeader("Server", "bulkwav")
        self.setHeader("X-Content-Type-Options", "nosniff")
        super().render(resrc)

    def connectionLost(self, reason: Failure) -> None:
        self._drop_body()
        if self.transfer is not None:
            self.transfer.stopProducing()
        if not self.finished and self.startedWriting:
            self._channel.site.log(self, whole=False)
        super().connectionLost(reason)


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
    :param gate: how many connections it may have
    :param origins: what is known about clients' addresses
    """

    displayTracebacks = False
    protocol: Any = Channel

    def __init__(
        self,
        resource: Resource,
        clock: IReactorTime,
        max_body: int,
        gate: Gate | None = None,
        origins: Origins | None = None,
    ) -> None:
        super().__init__(
            resource,
            requestFactory=BoundedRequest,
            timeout=IDLE,
            reactor=clock,
            parsePOSTFormSubmission=False,
        )
        self.max_body = max_body
        self.bodies = 0  # bytes of those that are kept now
        self.gate = Gate(MAX_CONNECTIONS, MAX_OF_ONE) if gate is None else gate
        self.origins = origins or Origins()
        self.reactor: Any = clock
        self.answers: Counter[int] = Counter()

    def acceptableProtocols(self) -> list[bytes]:
        """For TLS. Twisted would offer HTTP/2 where its parser is installed."""
        return [b"http/1.1"]

    def _updateLogDateTime(self) -> None:
        """Twisted would format the reactor's clock, which does not tell the time of day."""

    def log(self, request: Any, whole: bool = True) -> None:
        """One line for each answer.

        :param whole: it was sent to its end
        """
        self.note(
            request.code,
            request.getHost(),
            client=request.origin,
            method=request.method,
            path=request.path,
            bytes=request.sentLength,
            seconds=self.reactor.seconds() - request.began,
            range=request.getHeader(b"Range"),
            agent=request.getHeader(b"User-Agent"),
            referer=request.getHeader(b"Referer"),
            whole=whole,
        )

    def note(self, status: int, to: Any, *, seconds: float, whole: bool, **more: Any) -> None:
        """Count an answer, and log it.

        :param to: the address that was connected to
        :param more: fields of the line; bytes are shortened
        """
        self.answers[int(status)] += 1
        log.info(
            "{client} {method} {path} {status} {bytes} {seconds:.3f}{cut}",
            status=int(status),
            port=getattr(to, "port", None),
            seconds=round(seconds, 6),
            whole=whole,
            cut="" if whole else " cut off",
            **{
                name: value.decode("latin-1")[:200] if isinstance(value, bytes) else value
                for name, value in more.items()
            },
        )
