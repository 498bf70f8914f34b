"""The body of a response on its way to a sink: back-pressure, and when it is given up."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionClosed,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss

from twisted_bulk.downloads.fetch import Reception, Sink
from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.codings import Decoder
from twisted_bulk.http_client.response import explain

WASTE_BYTES = 64 * 1024  # of an encoded body that may come beyond the limit of the decoded one
SLICE_SECONDS = 0.02  # for which one body is decoded, without a byte for the sink


@dataclass(frozen=True)
class BodyLimits:
    """Limits of one body; beyond them the attempt fails.

    :param idle: seconds without a byte (``idle_timeout``)
    :param speed: bytes a second that must come, over each window (``too_slow``); 0: any number
    :param window: seconds
    :param most: bytes in all (``too_large``)
    """

    idle: float = 30.0
    speed: int = 0
    window: float = 60.0
    most: int = 1 << 62


def _is_nonsense(reason: Failure) -> bool:
    """Whether the failure is something other than the end of the connection."""
    (first, *_) = getattr(reason.value, "reasons", [reason])
    return not first.check(ConnectionClosed, ConnectionDone, ConnectionLost, ConnectionAborted)


class Body(Protocol):
    """Decodes a body, passes it on to its sink, and stops reading while the sink is busy.

    The time for which the sink is busy does not count against the limits. ``done`` fires at the
    end, with True if the end was certain: by Content-Length or by the last chunk.
    ``given``: bytes that the sink has, of all attempts that continue each other.

    :param decoder: None: the body is not decoded
    :param overlap: bytes that have come already, with which the body has to begin
    """

    def __init__(
        self,
        reception: Reception,
        sink: Sink,
        clock: IReactorTime,
        limits: BodyLimits,
        decoder: Decoder | None = None,
        overlap: bytes = b"",
    ) -> None:
        self.done: Deferred[bool] = Deferred(lambda _: self.abort())
        self._reception = reception
        self._sink = sink
        self._clock = clock
        self._limits = limits
        self._decoder = decoder
        self._overlap = overlap
        self._pieces: deque[Iterator[bytes]] = deque()  # that wait while the sink is busy
        self._lost: Failure | None = None  # the end of the connection, which came meanwhile
        self.given = 0 if decoder else reception.received
        self._heard = clock.seconds()  # when the last byte came
        self._window_began = self._heard
        self._window_received = reception.received
        self._timer: IDelayedCall | None = None
        self._wait(limits.idle)

    def _wait(self, seconds: float) -> None:
        left = max(0.01, self._window_began + self._limits.window - self._clock.seconds())
        wait = min(seconds, left) if self._limits.speed else seconds
        self._timer = self._clock.callLater(wait, self._check)

    def _check(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        if self._reception.busy_since is not None:
            self._wait(self._limits.idle)
            return
        if now - self._heard >= self._limits.idle:
            self._fail(MemberError("idle_timeout", f"not a byte for {self._limits.idle:g} s"))
            return
        if now - self._window_began >= self._limits.window:
            got = self._reception.received - self._window_received
            if got < self._limits.speed * (now - self._window_began):
                speed = f"{got / (now - self._window_began):.0f} bytes a second"
                self._fail(MemberError("too_slow", f"{speed}, over {self._limits.window:g} s"))
                return
            self._window_began, self._window_received = now, self._reception.received
        self._wait(self._heard + self._limits.idle - now)

    def dataReceived(self, data: bytes) -> None:
        if self.done.called:
            return
        self._heard = self._clock.seconds()
        if self._overlap:
            begin, data = data[: len(self._overlap)], data[len(self._overlap) :]
            if not self._overlap.startswith(begin):
                self._reception.forget()
                self._fail(MemberError("bad_range", "the file has changed between two attempts"))
                return
            self._overlap = self._overlap[len(begin) :]
        self._reception.received += len(data)
        if self._reception.partial is not None:
            self._reception.partial.keep(data)
        if (
            self._reception.content.length is not None
            and self._reception.received > self._reception.content.length
        ):
            self.done.callback(True)  # the length check of the attempt finds that it is too long
            self.abort()
            return
        if self._decoder is None:
            self._give(data)
        elif self._reception.received > self._limits.most + WASTE_BYTES:
            self._fail(self._too_large())
        else:
            self._pieces.append(self._decoder.pieces(data))
            self._give_pieces()

    def _too_large(self) -> MemberError:
        return MemberError("too_large", f"more than {self._limits.most} bytes")

    def _give(self, data: bytes) -> None:
        self.given += len(data)
        if self.given > self._limits.most:
            self._fail(self._too_large())
            return
        try:
            busy = self._sink.write(data)
        except Exception as problem:
            self._fail(problem)
            return
        if busy is not None:
            self._wait_for(busy)

    def _give_pieces(self) -> None:
        """Decode while the sink takes bytes, for :data:`SLICE_SECONDS` at once.

        A few bytes may become very many.
        """
        end = self._clock.seconds() + SLICE_SECONDS
        while self._pieces and self._reception.busy_since is None and not self.done.called:
            try:
                piece = next(self._pieces[0], None)
            except MemberError as problem:
                self._fail(problem)
                return
            if piece is None:
                self._pieces.popleft()
            elif piece:
                self._give(piece)
            elif self._clock.seconds() > end:
                self._rest()
                return
        if self._reception.busy_since is None and self._lost is not None and not self._pieces:
            self._end(self._lost)

    def _rest(self) -> None:
        """Decode on in the reactor's next turn; meanwhile nothing is read."""
        rest: Deferred[None] = Deferred()
        self._wait_for(rest)
        self._clock.callLater(0, rest.callback, None)

    def _wait_for(self, busy: Deferred[None]) -> None:
        """The sink takes no bytes until ``busy`` fires."""
        self._reception.busy_since = self._clock.seconds()
        if self.transport is not None:
            cast(IPushProducer, self.transport).pauseProducing()
        busy.addCallbacks(self._resume, self._fail)

    def _resume(self, _: None) -> None:
        if self._reception.busy_since is not None:
            self._heard = self._clock.seconds()
            self._window_began += self._heard - self._reception.busy_since
            self._reception.held += self._heard - self._reception.busy_since
            self._reception.busy_since = None
        self._give_pieces()
        if self._reception.busy_since is None and self.transport is not None:
            cast(IPushProducer, self.transport).resumeProducing()

    def _fail(self, problem: BaseException | Failure) -> None:
        if not self.done.called:
            self.done.errback(problem)
        self.abort()

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008
        self.transport = None
        self._stop_timer()
        self._lost = reason
        if self._decoder is not None and reason.check(ResponseDone, PotentialDataLoss):
            self._pieces.append(self._decoder.pieces(b"", last=True))
        if self._decoder is None:
            self._end(reason)
        elif self._reception.busy_since is None:
            self._give_pieces()

    def _end(self, reason: Failure) -> None:
        """The connection has ended, and all bytes that came are with the sink."""
        if self.done.called:
            return
        if self._overlap and reason.check(ResponseDone, PotentialDataLoss):
            self._reception.forget()
            self.done.errback(MemberError("bad_range", "the file has become shorter"))
            return
        if reason.check(ResponseDone):
            self.done.callback(True)
        elif reason.check(PotentialDataLoss):
            self.done.callback(False)
        elif reason.check(ResponseFailed) and not _is_nonsense(reason):
            got = f"{self._reception.received} bytes"
            if self._reception.content.length is not None:
                got += f" of {self._reception.content.length}"
            self.done.errback(MemberError("body_short", f"the connection ended after {got}"))
        else:
            self.done.errback(explain(reason))

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def abort(self) -> None:
        """End the body; closes the connection if it is still open."""
        self._stop_timer()
        if self.transport is not None:
            self.transport.loseConnection()
