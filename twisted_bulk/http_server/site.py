"""A port of ours: its connections, its requests, its access log."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import Site

from twisted_bulk.errors import BulkError
from twisted_bulk.http_server.channel import Channel
from twisted_bulk.http_server.client_address import Clients
from twisted_bulk.http_server.connection_limits import ConnectionLimits
from twisted_bulk.http_server.request import BoundedRequest
from twisted_bulk.throttle import UNLIMITED

log, main_log = Logger(namespace="access"), Logger()

IDLE_SECONDS = 60  # that a connection may be silent; then it is closed
#: Connections at once to the API port, and from one client; more get 503 or 429.
MAX_CONNECTIONS, MAX_CONNECTIONS_OF_CLIENT = 4000, 1000
#: Bytes of large answers that clients have not taken yet; more is 503.
MAX_ANSWER_BYTES = 64 << 20
MAX_ANSWER_BYTES_OF_CLIENT = 16 << 20  # of these of one client
#: Seconds without a refused connection after which the next one is logged again.
QUIET_SECONDS = 60.0
MAX_FIELD = 200  # characters of a field of the access log that a client has sent


class BoundedSite(Site):
    """A site of :class:`BoundedRequest`.

    :param clock: the reactor
    :param max_body: bytes of a request's body
    :param limits: of its connections; None: the defaults above
    :param clients: whose address counts as which client
    :param unwelcome: asked when the headers of a request with a large body have come: an error
        refuses the body
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
            timeout=IDLE_SECONDS,
            reactor=clock,
            parsePOSTFormSubmission=False,
        )
        self.max_body = max_body
        self.unwelcome = unwelcome
        self.bodies: Counter[str] = Counter()  # bytes of large bodies on disk, by client
        if limits is None:
            limits = ConnectionLimits(MAX_CONNECTIONS, MAX_CONNECTIONS_OF_CLIENT)
        self.limits = limits
        self.clients = clients or Clients()
        self.reactor: Any = clock
        self.answers: Counter[int] = Counter()
        self._refused_at = -QUIET_SECONDS
        self._answer_bytes: Counter[str] = Counter()  # of large answers in memory, by client

    def hold(self, key: str, size: int) -> bool:
        """Take room for a large answer; returns whether there is room. See :meth:`let_go`."""
        of_client = self._answer_bytes[key] + size
        if key != UNLIMITED and of_client > MAX_ANSWER_BYTES_OF_CLIENT:
            return False
        if self._answer_bytes.total() + size > MAX_ANSWER_BYTES:
            return False
        self._answer_bytes[key] += size
        return True

    def let_go(self, key: str, size: int) -> None:
        """Give the room of a large answer back."""
        self._answer_bytes[key] -= size
        if not self._answer_bytes[key]:
            del self._answer_bytes[key]

    def refusing(self, error: BulkError) -> None:
        """A connection is refused: the log has one line until there was none for a while."""
        now = self.reactor.seconds()
        if now - self._refused_at >= QUIET_SECONDS:
            main_log.warn("connections are refused: {error}; /metrics counts them", error=error)
        self._refused_at = now

    def acceptableProtocols(self) -> list[bytes]:
        """Twisted asks for the protocols of TLS. It would offer HTTP/2 if h2 is installed."""
        return [b"http/1.1"]

    def _updateLogDateTime(self) -> None:
        """Twisted would format the reactor's clock, which does not tell the time of day."""

    def log(self, request: Any, whole: bool = True) -> None:
        """Count the answer to a request, and log it. Twisted calls this, too.

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

        :param to: the address that the client connected to
        :param seconds: that the answer took
        :param whole: it was sent to its end
        :param more: further fields of the line; bytes are cut to :data:`MAX_FIELD`
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
                name: value.decode("latin-1")[:MAX_FIELD] if isinstance(value, bytes) else value
                for name, value in more.items()
            },
        )
