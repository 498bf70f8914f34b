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
from twisted.logger import Logger
from twisted.web.http_headers import Headers
from zope.interface import implementer

from twisted_bulk.files.meter import Meter
from twisted_bulk.files.open_zips import OpenZip
from twisted_bulk.files.timer import ThrottleTimer
from twisted_bulk.http_server.site import BoundedRequest

log = Logger()

STALL = 60.0  # seconds that a client may take nothing
SLOWEST = 1000  # bytes a second that it has to take, over at least that time
SWEEP = 1.0  # seconds between two looks at those who do not

UNSENT = 32768  # bytes that the kernel keeps unsent for a client
WRITTEN = 65536  # bytes at once into a transport's buffer, which is not seen to empty
TCP_NOTSENT_LOWAT = 25  # of Linux's <netinet/tcp.h>; Python 3.11 has no name for it

_SENT = Headers()  # instead of a kilobyte for each of ten thousand that wait

Piece = bytes | tuple[int, int]  # what to send: bytes, or the file's from one offset to another


class Transfers:
    """Knows all transfers, and cuts off those whose clients take nothing, or next to nothing.

    ``meters`` has each address that is being served.
    """

    def __init__(self, timer: ThrottleTimer) -> None:
        self.timer = timer
        self.count = 0
        self.meters: dict[str, Meter] = {}
        self._parked: dict[Transfer, float] = {}
        self._call: IDelayedCall | None = None

    def enter(self, key: str) -> Meter:
        """One more transfer for ``key``; returns what its bytes are noted in."""
        self.count += 1
        meter = self.meters.get(key)
        if meter is None:
            meter = self.meters[key] = Meter(self.timer.now())
        meter.users += 1
        return meter

    def leave(self, key: str) -> None:
        """One less."""
        self.count -= 1
        self.meters[key].users -= 1
        if not self.meters[key].users:
            del self.meters[key]

    def park(self, transfer: "Transfer") -> None:
        """The client is what ``transfer`` waits for, from now on."""
        self._parked[transfer] = self.timer.now()
        if self._call is None:
            self._call = self.timer.clock.callLater(SWEEP, self._sweep)

    def release(self, transfer: "Transfer") -> float:
        """It is not any more; returns for how many seconds it was."""
        since = self._parked.pop(transfer, None)
        if not self._parked and self._call is not None:
            self._call.cancel()
            self._call = None
        return 0.0 if since is None else self.timer.now() - since

    def _sweep(self) -> None:
        self._call = self.timer.clock.callLater(SWEEP, self._sweep)
        now = self.timer.now()
        for transfer, since in list(self._parked.items()):
            if now - since >= STALL:
                transfer.abort()


@implementer(IPushProducer)
class Transfer:
    """One body.

    :param key: whose rate it goes by
    :param file: which this uses, and releases in the end
    :param pieces: the body, in order
    """

    __slots__ = (
        "__weakref__",
        "_file",
        "_key",
        "_meter",
        "_moved",
        "_pieces",
        "_request",
        "_socket",
        "_transfers",
        "_transport",
        "_waited",
    )

    def __init__(
        self,
        request: BoundedRequest,
        transfers: Transfers,
        key: str,
        file: OpenZip,
        pieces: Iterable[Piece],
    ) -> None:
        channel = cast(Any, request.channel)
        self._transport = transport = channel.transport
        _bound(transport)
        self._request: Any = request
        self._transfers = transfers
        self._key = key
        self._meter = transfers.enter(key)
        self._file = file.use()
        self._pieces = list(pieces)
        self._waited = 0.0  # seconds for the client, and ``_moved`` the bytes it took, lately
        self._moved = 0
        self._socket = transport.socket if isinstance(transport, tcp.Connection) else None
        request.transfer = self
        request.registerProducer(self, True)
        request.write(b"")  # the head
        request.responseHeaders = _SENT
        # Until the head has gone; or, where the transport was full before, what is in front of it.
        if self._socket is not None or channel._waitingForTransport:
            self.pauseProducing()
        else:
            transfers.timer.join(key, self, first=True)

    def send(self, most: int) -> int:
        """As :class:`throttle.Flow` says."""
        try:
            return self._send(most if self._socket is not None else min(most, WRITTEN))
        except (OSError, EOFError):  # the client is gone; or the file is shorter than it was
            pass
        except Exception:  # what goes wrong with one shall not end the others' round
            log.failure("a transfer failed")
        self.abort()
        return 0

    def _send(self, most: int) -> int:
        piece = self._pieces[0]
        start, end = (0, len(piece)) if isinstance(piece, bytes) else piece
        wanted = min(most, end - start)
        try:
            sent = self._push(piece, start, wanted)
        except BlockingIOError:
            sent = 0
        self._meter.note(sent, self._transfers.timer.now())
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
        self.stopProducing()
        self._transport.abortConnection()

    def pauseProducing(self) -> None:
        """The client takes nothing for now."""
        self._transfers.timer.leave(self._key, self)
        self._transfers.park(self)
        if self._socket is not None:
            # The transport has nothing (more) to send itself; it tells when it could.
            self._transport.producerPaused = True
            self._transport.startWriting()

    def resumeProducing(self) -> None:
        """It does again."""
        if self._request is None:
            return
        first = not self._moved
        self._waited += self._transfers.release(self)
        if self._waited >= STALL:
            if self._moved < SLOWEST * self._waited:
                self.abort()
                return
            self._waited, self._moved = 0.0, 1
        self._transfers.timer.join(self._key, self, first)

    def stopProducing(self) -> None:
        """Nothing more is sent."""
        if self._request is not None:
            self._request = None
            self._transfers.release(self)
            self._transfers.timer.leave(self._key, self)
            self._transfers.leave(self._key)
            self._file.release()


def _bound(transport: Any) -> None:
    """Let the kernel keep little that is unsent: it would take megabytes for a client that reads
    nothing, and send them at once when it wakes up."""
    found = getattr(transport, "socket", None)  # TLS has that of what is below it
    if found is not None and found.family in (AF_INET, AF_INET6):
        found.setsockopt(IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT)
