"""The body of an answer on its way to a client, whenever the throttle says so.

On a plain socket by ``sendfile``, straight from the throttle's turn; on anything else
(TLS) through the transport's buffer.
"""

import os
from collections.abc import Iterable
from socket import AF_INET, AF_INET6, IPPROTO_TCP
from typing import Any, cast

from twisted.internet import tcp
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.web.http_headers import Headers
from zope.interface import implementer

from twisted_bulk.site import BoundedRequest, abort
from twisted_bulk.throttle import Ticker
from twisted_bulk.zips import OpenZip

STALL = 60.0  # seconds that a client may take nothing
SLOWEST = 1000  # bytes a second that it has to take, over at least that time
SWEEP = 1.0  # seconds between two looks at those who do not

UNSENT = 32768  # bytes that the kernel keeps unsent for a client
TCP_NOTSENT_LOWAT = 25  # of Linux's <netinet/tcp.h>; Python 3.11 has no name for it

_SENT = Headers()  # instead of a kilobyte for each of ten thousand that wait

Piece = bytes | tuple[int, int]  # what to send: bytes, or the file's from one offset to another


class Watch:
    """Cuts off clients that take nothing, or next to nothing."""

    def __init__(self, ticker: Ticker) -> None:
        self.ticker = ticker
        self.transfers: set[Transfer] = set()
        self._parked: dict[Transfer, float] = {}
        self._call: IDelayedCall | None = None

    def park(self, transfer: "Transfer") -> None:
        """The client is what ``transfer`` waits for, from now on."""
        self._parked[transfer] = self.ticker.now()
        if self._call is None:
            self._call = self.ticker.clock.callLater(SWEEP, self._sweep)

    def release(self, transfer: "Transfer") -> float:
        """It is not any more; returns for how many seconds it was."""
        since = self._parked.pop(transfer, None)
        if not self._parked and self._call is not None:
            self._call.cancel()
            self._call = None
        return 0.0 if since is None else self.ticker.now() - since

    def _sweep(self) -> None:
        self._call = self.ticker.clock.callLater(SWEEP, self._sweep)
        now = self.ticker.now()
        for transfer, since in list(self._parked.items()):
            if now - since >= STALL:
                transfer.abort()


@implementer(IPushProducer)
class Transfer:
    """One body.

    :param key: whose rate it goes by
    :param file: which this releases
    :param pieces: the body, in order
    """

    __slots__ = (
        "__weakref__",
        "_file",
        "_key",
        "_moved",
        "_pieces",
        "_request",
        "_socket",
        "_waited",
        "_watch",
    )

    def __init__(
        self,
        request: BoundedRequest,
        watch: Watch,
        key: str,
        file: OpenZip,
        pieces: Iterable[Piece],
    ) -> None:
        self._request: Any = request
        self._watch = watch
        self._key = key
        self._file = file
        self._pieces = list(pieces)
        self._waited = 0.0  # seconds for the client, and ``_moved`` the bytes it took, lately
        self._moved = 0
        transport = cast(Any, request.channel).transport
        self._socket = transport.socket if isinstance(transport, tcp.Connection) else None
        if self._socket is not None and self._socket.family in (AF_INET, AF_INET6):
            # Else the kernel takes megabytes for a client that reads nothing, and sends them at
            # once when it wakes up.
            self._socket.setsockopt(IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT)
        watch.transfers.add(self)
        request.transfer = self
        request.registerProducer(self, True)
        request.write(b"")  # the head
        request.responseHeaders = _SENT
        if self._socket is None:
            watch.ticker.join(key, self, first=True)
        else:
            self.pauseProducing()  # until the head has gone

    def send(self, most: int) -> int:
        """As :class:`throttle.Flow` says."""
        piece = self._pieces[0]
        start, end = (0, len(piece)) if isinstance(piece, bytes) else piece
        wanted = min(most, end - start)
        try:
            sent = self._push(piece, start, wanted)
        except BlockingIOError:
            sent = 0
        except (OSError, EOFError):  # the client is gone; or the file is shorter than it was
            self.abort()
            return 0
        if start + sent == end:
            del self._pieces[0]
        elif isinstance(piece, bytes):
            self._pieces[0] = piece[sent:]
        else:
            self._pieces[0] = (start + sent, end)
        self._request.sentLength += sent
        self._moved += sent
        if not self._pieces:
            self._finish()
        elif sent < wanted:
            self.pauseProducing()
        return sent

    def _push(self, piece: Piece, start: int, count: int) -> int:
        if self._socket is None:
            data = piece[:count] if isinstance(piece, bytes) else self._read(start, count)
            self._request.channel.write(data)
            return len(data)
        if isinstance(piece, bytes):
            return self._socket.send(piece[:count])
        sent = os.sendfile(self._socket.fileno(), self._file.descriptor, start, count)
        if not sent:
            raise EOFError
        return sent

    def _read(self, start: int, count: int) -> bytes:
        data = os.pread(self._file.descriptor, count, start)
        if len(data) < count:
            raise EOFError
        return data

    def _finish(self) -> None:
        request = self._request
        self.stopProducing()
        request.unregisterProducer()
        request.finish()

    def abort(self) -> None:
        """Cut the connection: ending short would pass for the whole."""
        request = self._request
        self.stopProducing()
        if request is not None:
            abort(request)

    def pauseProducing(self) -> None:
        """The client takes nothing for now."""
        self._watch.ticker.leave(self._key, self)
        self._watch.park(self)
        if self._socket is not None:
            # The transport has nothing (more) to send itself; it tells when it could.
            transport = self._request.channel.transport
            transport.producerPaused = True
            transport.startWriting()

    def resumeProducing(self) -> None:
        """It does again."""
        if self._request is None:
            return
        first = not self._moved
        self._waited += self._watch.release(self)
        if self._waited >= STALL:
            if self._moved < SLOWEST * self._waited:
                self.abort()
                return
            self._waited, self._moved = 0.0, 1
        self._watch.ticker.join(self._key, self, first)

    def stopProducing(self) -> None:
        """Nothing more is sent."""
        if self._request is not None:
            self._request = None
            self._watch.release(self)
            self._watch.ticker.leave(self._key, self)
            self._watch.transfers.discard(self)
            self._file.release()
