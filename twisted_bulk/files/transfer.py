"""Sends the body of an answer in the turns that the throttle gives, and cuts off slow clients.

On a plain socket ``sendfile`` sends directly; with TLS the bytes go through the transport's buffer.
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
from twisted_bulk.http_server.request import BoundedRequest

log = Logger()

STALL_SECONDS = 60.0  # that a client may take nothing; then its connection is cut
#: Bytes a second that a client has to take while it is waited for, over STALL_SECONDS of waiting.
#: A slower client's connection is cut.
MIN_SPEED = 1000
SWEEP_SECONDS = 1.0  # between two looks at the clients that are waited for

MAX_UNSENT = 32768  # bytes that the kernel keeps unsent for a client
MAX_WRITE_BYTES = 65536  # in one write to a transport with a buffer of its own (TLS)
TCP_NOTSENT_LOWAT = 25  # of Linux's <netinet/tcp.h>; Python 3.11 has no name for it

#: Shared by all answers whose heads are sent: own headers are a kilobyte for each of 10,000.
_NO_HEADERS = Headers()

Piece = bytes | tuple[int, int]  # of a body: bytes, or the file's from one offset to another


class Transfers:
    """All transfers; cuts off those whose clients take nothing.

    ``count``: how many there are. ``meters``: a meter for each address that has one.
    """

    def __init__(self, timer: ThrottleTimer) -> None:
        self.timer = timer
        self.count = 0
        self.meters: dict[str, Meter] = {}
        self._waiting: dict[Transfer, float] = {}
        self._call: IDelayedCall | None = None

    def enter(self, key: str) -> Meter:
        """Count one more transfer for ``key``; returns the meter for its bytes."""
        self.count += 1
        meter = self.meters.get(key)
        if meter is None:
            meter = self.meters[key] = Meter(self.timer.now())
        meter.users += 1
        return meter

    def leave(self, key: str) -> None:
        """Count one transfer less for ``key``."""
        self.count -= 1
        self.meters[key].users -= 1
        if not self.meters[key].users:
            del self.meters[key]

    def wait(self, transfer: "Transfer") -> None:
        """``transfer`` waits for its client from now on."""
        self._waiting[transfer] = self.timer.now()
        if self._call is None:
            self._call = self.timer.clock.callLater(SWEEP_SECONDS, self._sweep)

    def resume(self, transfer: "Transfer") -> float:
        """``transfer`` does not wait any more; returns for how many seconds it did."""
        since = self._waiting.pop(transfer, None)
        if not self._waiting and self._call is not None:
            self._call.cancel()
            self._call = None
        return 0.0 if since is None else self.timer.now() - since

    def _sweep(self) -> None:
        self._call = self.timer.clock.callLater(SWEEP_SECONDS, self._sweep)
        now = self.timer.now()
        for transfer, since in list(self._waiting.items()):
            if now - since >= STALL_SECONDS:
                transfer.abort()


@implementer(IPushProducer)
class Transfer:
    """The sending of one body: a flow of the throttle, and the producer of a request.

    Twisted calls ``pauseProducing``, ``resumeProducing`` and ``stopProducing`` as the client takes
    data or goes.

    :param key: of the address in the throttle
    :param file: is used until the end of the transfer
    :param pieces: of the body, in order
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
        self._waited = 0.0  # seconds for the client since its speed was judged
        self._moved = 0  # bytes that the client took since then
        self._socket = transport.socket if isinstance(transport, tcp.Connection) else None
        request.transfer = self
        request.registerProducer(self, True)
        request.write(b"")  # the head
        request.responseHeaders = _NO_HEADERS
        # It waits until the head is sent, and the answer before it where requests are pipelined.
        if self._socket is not None or channel._waitingForTransport:
            self.pauseProducing()
        else:
            transfers.timer.join(key, self, first=True)

    def send(self, most: int) -> int:
        """See :class:`throttle.Flow`."""
        try:
            return self._send(most if self._socket is not None else min(most, MAX_WRITE_BYTES))
        except (OSError, EOFError):  # the client is gone; or the file is shorter than it was
            pass
        except Exception:  # a fault of one transfer must not end the turns of the others
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
        """Cut the connection, so that the client does not take the part for the whole."""
        self.stopProducing()
        self._transport.abortConnection()

    def pauseProducing(self) -> None:
        self._transfers.timer.leave(self._key, self)
        self._transfers.wait(self)
        if self._socket is not None:
            # The transport has nothing to send; it calls resumeProducing when the socket has room.
            self._transport.producerPaused = True
            self._transport.startWriting()

    def resumeProducing(self) -> None:
        if self._request is None:
            return
        first = not self._moved
        self._waited += self._transfers.resume(self)
        if self._waited >= STALL_SECONDS:
            if self._moved < MIN_SPEED * self._waited:
                self.abort()
                return
            self._waited, self._moved = 0.0, 1  # 1: it is not its first turn
        self._transfers.timer.join(self._key, self, first)

    def stopProducing(self) -> None:
        if self._request is not None:
            self._request = None
            self._transfers.resume(self)
            self._transfers.timer.leave(self._key, self)
            self._transfers.leave(self._key)
            self._file.release()


def _bound(transport: Any) -> None:
    """Let the kernel keep at most :data:`MAX_UNSENT` unsent bytes.

    It would keep megabytes for a client that reads nothing, and send them at once, faster than the
    rate, when the client reads again.
    """
    found = getattr(transport, "socket", None)  # a TLS transport has that of the one below
    if found is not None and found.family in (AF_INET, AF_INET6):
        found.setsockopt(IPPROTO_TCP, TCP_NOTSENT_LOWAT, MAX_UNSENT)
