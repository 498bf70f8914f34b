"""Reads and drops the bodies that are not used: of a 404, a redirect, the reply to a callback."""

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.iweb import IResponse

MAX_BYTES = 64 * 1024  # of a body that is read to its end; the connection of a longer one is closed
MAX_SECONDS = 2.0  # for that; the connection of a slower body is closed


class _Discarding(Protocol):
    """Reads a body to its end, if that is not longer than :data:`MAX_BYTES`."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self.close())
        self._left = MAX_BYTES

    def close(self) -> None:
        """Close the connection, unless the body has ended."""
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self.close()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.transport = None
        if not self.done.called:
            self.done.callback(None)


async def drop(response: IResponse, clock: IReactorTime) -> None:
    """Discard the body of a response.

    A small body is read, so that its connection can be used again. The connection of a long or a
    slow one is closed. Returns within :data:`MAX_SECONDS`, when one of these is done.
    """
    discarding = _Discarding()
    response.deliverBody(discarding)
    if isinstance(response.length, int) and response.length > MAX_BYTES:
        discarding.close()
        return
    try:
        await discarding.done.addTimeout(MAX_SECONDS, clock)
    except TimeoutError:
        return  # the connection is closed
