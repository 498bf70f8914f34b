"""Reads and drops the bodies that are not used: of a 404, a redirect, the reply to a callback."""

from contextlib import suppress

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.iweb import IResponse

MAX_BYTES = 64 * 1024  # of a body that is read to its end; the connection of a longer one is closed
KEPT_BYTES = 500  # the beginning of a body, for people
MAX_SECONDS = 2.0  # for that; the connection of a slower body is closed


class _Discarding(Protocol):
    """Reads a body to its end, if that is not longer than :data:`MAX_BYTES`."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self.close())
        self._left = MAX_BYTES
        self.begin = b""

    def close(self) -> None:
        """Close the connection, unless the body has ended."""
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        self.begin += data[: KEPT_BYTES - len(self.begin)]
        if self._left < 0:
            self.close()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.transport = None
        if not self.done.called:
            self.done.callback(None)


async def drop(response: IResponse, clock: IReactorTime) -> bytes:
    """Discard the body of a response, but for its beginning, which is returned.

    A small body is read, so that its connection can be used again. The connection of a long or a
    slow one is closed. Returns within :data:`MAX_SECONDS`, when one of these is done.
    """
    discarding = _Discarding()
    response.deliverBody(discarding)
    if isinstance(response.length, int) and response.length > MAX_BYTES:
        discarding.close()
        return discarding.begin
    with suppress(TimeoutError):  # then the connection is closed
        await discarding.done.addTimeout(MAX_SECONDS, clock)
    return discarding.begin
