"""A request to a port of ours: whose it is, the limit of its body, and how it is answered."""

import re
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from functools import cached_property
from io import BytesIO
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from twisted_bulk.errors import DiskFull, TooLarge, Unavailable
from twisted_bulk.http_server.channel import SMALL_BODY_BYTES, Channel
from twisted_bulk.system.tcp import prompt
from twisted_bulk.throttle import UNLIMITED

log = Logger(namespace="access")

#: Names of headers in requests that a proxy has passed on.
FORWARDED = re.compile(
    rb"(?i).*forwarded.*|via|x-real-ip|.*client-ip|.*connecting-ip|x-envoy-.*|cdn-loop|x-scheme"
    rb"|x-original-.*|x-proxy.*"
)
#: Bytes of all bodies on disk together, as a multiple of the largest body; more is 503.
MAX_BODIES = 4
MAX_BODIES_OF_CLIENT = 2  # the same multiple for one client
RETRY_AFTER = 10  # seconds for a client whose body was refused because there was no room


def abort(request: HTTPRequest) -> None:
    """Cut the request's connection."""
    cast(Any, request.channel).transport.abortConnection()


def header(request: HTTPRequest, name: str) -> str | None:
    """All values of a header, joined by commas, whatever bytes they have; None: it is absent."""
    values = request.requestHeaders.getRawHeaders(name.encode())
    return b", ".join(values).decode("latin-1") if values else None


class BoundedRequest(Request):
    """Twisted's request; a body over the site's limit ends its connection.

    ``began``: when its first line had come, on the reactor's clock. ``transfer``: stopped when the
    client goes. ``gone``: the client has gone before the answer was complete.

    Twisted calls ``gotLength`` and ``handleContentChunk`` for the body as it comes,
    ``requestReceived`` when it is complete, ``render`` with the resource for it, and
    ``connectionLost`` when the client goes.
    """

    transfer: IPushProducer | None = None
    gone = False
    _body_bytes = 0

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
        """The client in limits, see :meth:`Clients.key`."""
        if not self._channel.passes_on:
            return self._channel.key
        return self._channel.site.clients.key(self.client_address)

    @cached_property
    def is_forwarded(self) -> bool:
        """Whether something shows that a proxy has passed it on.

        HTTP/1.0 does: no client of today speaks it by itself, but nginx does to its backends.
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
            # Twisted makes a file by the length. A chunked body may be as large as the limit; one
            # that is too large is not kept at all.
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
        if not self._claim(len(data)):
            error = Unavailable("there are too many large bodies at once", RETRY_AFTER)
            self._channel.refuse(error)
            return
        try:
            super().handleContentChunk(data)
            self.content.flush()
        except OSError as error:
            self._no_room(error)

    def _claim(self, size: int) -> bool:
        """Take room for more of the body; returns whether there is room.

        Bodies up to :data:`SMALL_BODY_BYTES` are in memory, and need none.
        """
        site, key, before = self._channel.site, self._channel.key, self._body_bytes
        self._body_bytes += size
        if self._body_bytes <= SMALL_BODY_BYTES:
            return True
        if before <= SMALL_BODY_BYTES:
            size, before = self._body_bytes, 0
        if site.bodies.total() + size > MAX_BODIES * site.max_body or (
            key != UNLIMITED and site.bodies[key] + size > MAX_BODIES_OF_CLIENT * site.max_body
        ):
            self._body_bytes = before
            return False
        site.bodies[key] += size
        return True

    def _no_room(self, error: OSError) -> None:
        log.error("a body cannot be kept: {problem}", problem=error.strerror)
        self.content = BytesIO()  # closing the other file would fail, too
        self._channel.refuse(DiskFull("there is no room for the body", RETRY_AFTER))

    def _drop_body(self) -> None:
        if self._body_bytes > SMALL_BODY_BYTES:
            bodies, key = self._channel.site.bodies, self._channel.key
            bodies[key] -= self._body_bytes
            if not bodies[key]:
                del bodies[key]
        self._body_bytes = 0

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
            # Twisted would answer "*" itself: no resource would count it, and no log have it.
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


class CoroutineResource(Resource):
    """A leaf: :meth:`answer` makes each answer, and is cancelled when its client goes."""

    isLeaf = True

    def answer(self, request: BoundedRequest) -> Coroutine[Any, Any, None]:
        """Answer a request, to its end."""
        raise NotImplementedError

    def broken(self, failure: Failure, request: BoundedRequest) -> None:
        """:meth:`answer` has failed, or was cancelled."""
        raise NotImplementedError

    def render(self, request: BoundedRequest) -> int:
        """Twisted calls this for each request."""
        answering = Deferred.fromCoroutine(self.answer(request))
        if not answering.called:
            request.notifyFinish().addErrback(lambda gone: answering.cancel())
        answering.addErrback(self.broken, request)
        return NOT_DONE_YET
