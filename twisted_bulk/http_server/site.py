"""What both ports share: bounded requests, and errors as RFC 9457 problems."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from io import BytesIO
from typing import Any, cast

from twisted.internet.interfaces import IDelayedCall, IPullProducer, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from twisted_bulk.errors import BulkError, DiskFull, TooLarge, Unavailable
from twisted_bulk.http_server.channel import Channel
from twisted_bulk.http_server.clients import Clients
from twisted_bulk.http_server.connection_limits import ConnectionLimits
from twisted_bulk.http_server.problem import SMALL, problem
from twisted_bulk.system.tcp import prompt
from twisted_bulk.throttle import UNLIMITED

log, main_log = Logger(namespace="access"), Logger()

#: Names of headers of requests that a proxy has passed on.
FORWARDED = re.compile(
    rb"(?i).*forwarded.*|via|x-real-ip|.*client-ip|.*connecting-ip|x-envoy-.*|cdn-loop|x-scheme"
    rb"|x-original-.*|x-proxy.*"
)
IDLE = 60  # seconds a connection may be silent
MAX_CONNECTIONS, MAX_OF_ONE = 4000, 1000  # of a port for which nothing else is said
BODIES, OF_ONE = (
    4,
    2,
)  # of the largest size that a site keeps at once on disk, in all and of a client
AT_ONCE = 64 * 1024  # bytes of a large answer that are written at once
#: Bytes of large answers that clients have not taken yet, in all and of one client: more is 503.
HELD, HELD_OF_ONE = 64 << 20, 16 << 20
QUIET = 60.0  # seconds without a refused connection, after which the next one is logged
BUSY = 10  # seconds after which a body is welcome that there was no room for


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
    gone = False  # the client, before it was answered
    _held = 0  # bytes of its body

    def __init__(self, channel: Channel, *arguments: Any, **more: Any) -> None:
        super().__init__(channel, *arguments, **more)
        self._channel = channel
        self.began = channel.site.reactor.seconds()

    @cached_property
    def client_address(self) -> str:
        """The client's address, as far as trusted proxies tell it."""
        if not self._channel.passes_on:
            return self._channel.client
        hops = self.requestHeaders.getRawHeaders(b"X-Forwarded-For", [])
        return self._channel.site.clients.behind(
            self._channel.client, [hop.decode("latin-1") for hop in hops]
        )

    @cached_property
    def client_key(self) -> str:
        """What stands for the client's address in limits."""
        if not self._channel.passes_on:
            return self._channel.key
        return self._channel.site.clients.key(self.client_address)

    @cached_property
    def is_forwarded(self) -> bool:
        """Whether something says that it did not come from its connection's other end.

        HTTP/1.0 does: no client of today speaks it by itself, and nginx to whom it passes on to.
        """
        return (
            self._channel.announced
            or self.clientproto == b"HTTP/1.0"
            or any(map(FORWARDED.fullmatch, dict(self.requestHeaders.getAllRawHeaders())))
        )

    @property
    def peer(self) -> str:
        """The address at the other end of the connection; empty for a unix socket."""
        return self._channel.client

    def gotLength(self, length: int | None) -> None:
        most = self._channel.site.max_body
        try:
            # Of a chunked body nobody knows; one that is too large is not kept at all.
            super().gotLength(most if length is None else length if length <= most else 0)
        except OSError as error:
            self._no_room(error)
        if length is not None and length > most:
            self._too_large()

    def handleContentChunk(self, data: bytes) -> None:
        if self._channel.refused:
            return
        assert self.content is not None
        if self.content.tell() + len(data) > self._channel.site.max_body:
            self._too_large()
            return
        if not self._hold(len(data)):
            self._channel.refuse(Unavailable("there are too many large bodies at once", BUSY))
            return
        try:
            super().handleContentChunk(data)
            self.content.flush()
        except OSError as error:
            self._no_room(error)

    def _hold(self, size: int) -> bool:
        """Whether there is room for more of the body; if so, it is taken."""
        site, key, before = self._channel.site, self._channel.key, self._held
        self._held += size
        if self._held <= SMALL:
            return True
        if before <= SMALL:
            size, before = self._held, 0
        if site.bodies.total() + size > BODIES * site.max_body or (
            key != UNLIMITED and site.bodies[key] + size > OF_ONE * site.max_body
        ):
            self._held = before
            return False
        site.bodies[key] += size
        return True

    def _no_room(self, error: OSError) -> None:
        log.error("a body cannot be kept: {problem}", problem=error.strerror)
        self.content = BytesIO()  # closing the other one would fail again
        self._channel.refuse(DiskFull("there is no room for the body", BUSY))

    def _drop_body(self) -> None:
        if self._held > SMALL:
            bodies, key = self._channel.site.bodies, self._channel.key
            bodies[key] -= self._held
            if not bodies[key]:
                del bodies[key]
        self._held = 0

    def prompt(self) -> AbstractContextManager[None]:
        """See :func:`twisted_bulk.system.tcp.prompt`."""
        return prompt(self._channel.transport)

    def finish(self) -> None:
        with self.prompt():
            super().finish()
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
        self.gone = True
        self._drop_body()
        if self.transfer is not None:
            self.transfer.stopProducing()
        if not self.finished and self.startedWriting:
            self._channel.site.log(self, whole=False)
        super().connectionLost(reason)


@implementer(IPullProducer)
class StreamedBody(Resource):
    """A body in pieces, the next one made when the last has gone; who takes none is cut off."""

    isLeaf = True

    def __init__(self, pieces: Iterator[bytes], size: int = AT_ONCE) -> None:
        """:param size: bytes that are held until all has been taken"""
        super().__init__()
        self._pieces = pieces
        self._size = size

    @classmethod
    def of(cls, body: bytes) -> "StreamedBody":
        """A body that is there."""
        view = memoryview(body)
        pieces = (bytes(view[at : at + AT_ONCE]) for at in range(0, len(body), AT_ONCE))
        return cls(pieces, len(body))

    def render(self, request: Request) -> int | bytes:
        """Begin; whatever the method is."""
        asked = cast(BoundedRequest, request)
        self._key, self._site = asked.client_key, cast(Any, request.channel).site
        if not self._site.hold(self._key, self._size):
            self._site = None
            request.responseHeaders.removeHeader(b"ETag")
            error = Unavailable("too many large answers are not taken by their clients", BUSY)
            return problem(request, error)
        self._request = request
        self._clock: IReactorTime = cast(Any, request.channel).site.reactor
        self._stalled: IDelayedCall | None = self._clock.callLater(IDLE, abort, request)
        request.registerProducer(self, False)
        return NOT_DONE_YET

    def resumeProducing(self) -> None:
        if self._stalled is not None:
            self._stalled.reset(IDLE)
        try:
            piece = next(self._pieces, None)
        except Exception:  # the length is not known, so that is what an end would look like
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
        """The client is gone."""
        self._stop()


class BoundedSite(Site):
    """A site of :class:`BoundedRequest`.

    :param max_body: bytes of a request's body
    :param limits: how many connections it may have
    :param clients: what is known about clients' addresses
    :param unwelcome: why a large body need not come; asked once its request's headers are there
    """

    displayTracebacks = False
    protocol: Any = Channel

    def __init__(
        self,
        resource: Resource,
        clock: IReactorTime,
        max_body: int,
        limits: ConnectionLimits | None = None,
        clients: Clients | None = None,
        unwelcome: Callable[[BoundedRequest], BulkError | None] = lambda request: None,
    ) -> None:
        super().__init__(
            resource,
            requestFactory=BoundedRequest,
            timeout=IDLE,
            reactor=clock,
            parsePOSTFormSubmission=False,
        )
        self.max_body = max_body
        self.unwelcome = unwelcome
        self.bodies: Counter[str] = Counter()  # bytes of large ones that are kept now, by client
        self.limits = ConnectionLimits(MAX_CONNECTIONS, MAX_OF_ONE) if limits is None else limits
        self.clients = clients or Clients()
        self.reactor: Any = clock
        self.answers: Counter[int] = Counter()
        self._refusing = -QUIET
        self._held: Counter[str] = Counter()  # bytes of large answers that are not taken yet

    def hold(self, key: str, size: int) -> bool:
        """Whether there is room for a large answer to a client; if so, it is taken."""
        one = key != UNLIMITED and self._held[key] + size > HELD_OF_ONE
        if one or self._held.total() + size > HELD:
            return False
        self._held[key] += size
        return True

    def let_go(self, key: str, size: int) -> None:
        """That answer is not held any more."""
        self._held[key] -= size
        if not self._held[key]:
            del self._held[key]

    def refusing(self, error: BulkError) -> None:
        """A connection is refused: said once, until there was none for a while."""
        now = self.reactor.seconds()
        if now - self._refusing >= QUIET:
            main_log.warn("connections are refused: {error}; /metrics counts them", error=error)
        self._refusing = now

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
            client=request.client_address,
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
