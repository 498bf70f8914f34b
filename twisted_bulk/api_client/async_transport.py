"""Sends requests with treq, on a reactor."""

import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionRefusedError,
    DNSLookupError,
)
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent

from twisted_bulk.api_client.failures import NotBulkwav, Unreachable
from twisted_bulk.system.tcp import is_cancelled

MAX_WAITING_BYTES = 256 * 1024  # of a body that nobody has taken yet; then its server waits
UNSENT = (ConnectError, ConnectingCancelledError, DNSLookupError)  # no server got the request
MIN_SPEED = 10_000  # bytes a second of a request's body, beside the time-out
TIMEOUT = 60.0  # seconds for a connection, and for each silence of the server


_T = TypeVar("_T")


class _Body(Protocol):
    """Receives a body, and waits while its pieces are not taken."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended: Failure | None = None
        self._waiting: Deferred[None] | None = None

    def dataReceived(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > MAX_WAITING_BYTES:
            self.transport.pauseProducing()  # type: ignore[union-attr]
        self._wake()

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008
        self._ended = reason
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    async def take(self, clock: Any) -> bytes:
        """The next piece; empty at the end.

        :raises Unreachable: the connection broke, or nothing came for :data:`TIMEOUT`
        """
        while not self._pieces:
            if self._ended is not None:
                if self._ended.check(ResponseDone, PotentialDataLoss):
                    return b""
                raise Unreachable("the connection broke")
            self._waiting = Deferred()
            timer = clock.callLater(TIMEOUT, self._late, self._waiting)
            try:
                await self._waiting
            finally:
                if timer.active():
                    timer.cancel()
        piece = self._pieces.popleft()
        self._size -= len(piece)
        if not self._pieces and self._ended is None:
            self.transport.resumeProducing()  # type: ignore[union-attr]
        return piece

    def _late(self, waiting: Deferred[None]) -> None:
        waiting.errback(Unreachable("no answer in time"))

    def close(self) -> None:
        """End the connection, if the body has not come whole."""
        if self._ended is None and self.transport is not None:
            self.transport.loseConnection()


class AsyncAnswer:
    """See :class:`~twisted_bulk.api_client.transport.Answer`."""

    def __init__(self, response: Any, clock: Any) -> None:
        self._response = response
        self._clock = clock
        self._body = _Body()
        self.status: int = response.code
        response.deliverBody(self._body)

    def header(self, name: str) -> str:
        """The value of a header, or empty."""
        values: list[bytes] = self._response.headers.getRawHeaders(name.encode()) or [b""]
        return values[-1].decode("latin-1")

    async def read(self, most: int) -> bytes:
        """The whole body, of ``most`` bytes."""
        body = bytearray()
        async for piece in self.pieces():
            body += piece
            if len(body) > most:
                self.close()
                raise NotBulkwav(f"the answer has more than {most} bytes")
        return bytes(body)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body, piece by piece."""
        try:
            while piece := await self._body.take(self._clock):
                yield piece
        finally:
            self.close()

    def close(self) -> None:
        """End the connection if the body has not been read."""
        self._body.close()


class AsyncTransport:
    """See :class:`~twisted_bulk.api_client.transport.Transport`."""

    def __init__(self, reactor: Any, agent: IAgent) -> None:
        self._reactor = reactor
        self._client = HTTPClient(agent)

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> AsyncAnswer:
        """Send one request."""
        server = urlsplit(url).netloc
        try:
            asked = self._client.request(
                method,
                url,
                headers=Headers({name: [value] for name, value in headers.items()}),
                data=body,
                unbuffered=True,
                allow_redirects=False,
            )
            asked.addTimeout(TIMEOUT + len(body or b"") / MIN_SPEED, self._reactor, _late)
            response = await asked
        except (CancelledError, Unreachable):
            raise
        except Exception as error:  # of the connection, of TLS, of the response
            if is_cancelled(error):
                raise CancelledError() from error
            is_sent = not isinstance(error, UNSENT)
            raise Unreachable(f"{server}: {_reason(error)}", is_sent) from None
        return AsyncAnswer(response, self._reactor)

    async def run(self, action: Callable[[], _T]) -> _T:
        """Do work on a thread, so that the reactor does not wait for it."""
        pool = self._reactor.getThreadPool()
        done = deferToThreadPool(self._reactor, pool, action)
        return await done

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await deferLater(self._reactor, seconds)

    def now(self) -> float:
        """Seconds on a clock that nobody sets; a reactor's own may be the wall clock."""
        return time.monotonic()


def _late(result: Any, seconds: float) -> Any:
    """The end of a request that took too long: an Agent has an error of its own for it."""
    if isinstance(result, Failure):
        cancelled = result.check(CancelledError) or is_cancelled(result.value)  # type: ignore[arg-type]
        return Failure(Unreachable("no answer in time")) if cancelled else result
    return result


def _reason(error: Exception) -> str:
    if isinstance(error, DNSLookupError):
        return "the name cannot be resolved"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    inner = getattr(error, "reasons", None)
    if inner:
        error = inner[0].value
    return f"{type(error).__name__}: {error}"[:200]
