"""A body on its way from a server to a sink: back-pressure, and when to give it up."""

from dataclasses import dataclass
from typing import Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionClosed,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss

from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.response import explain


class Sink(Protocol):
    """Where a member's bytes go, of one attempt or of several that continue each other."""

    def write(self, data: bytes) -> "Deferred[None] | None":
        """Take a piece; with a Deferred, no more until it fires."""

    async def finish(self) -> None:
        """All has come. :raises MemberError: it is not what was asked for"""

    def discard(self) -> None:
        """It failed; nothing of it stays."""


@dataclass(frozen=True)
class BodyLimits:
    """What a body may cost.

    :param idle: seconds without a byte
    :param speed: bytes a second that have to come in each ``window`` seconds
    :param most: bytes in all
    """

    idle: float = 30.0
    speed: int = 0
    window: float = 60.0
    most: int = 1 << 62


class Count(Protocol):
    """What is told while a body comes: bytes so far, of how many if that is known; since when our
    own disk is waited for, or None, and for how many seconds it had been before."""

    received: int
    length: int | None
    busy_since: float | None
    held: float


def _is_nonsense(reason: Failure) -> bool:
    """Whether the connection did not just end, but said something that is not HTTP."""
    (first, *_) = getattr(reason.value, "reasons", [reason])
    return not first.check(ConnectionClosed, ConnectionDone, ConnectionLost, ConnectionAborted)


class Body(TwistedProtocol):
    """Hand a body to its sink; stop reading while the sink is busy.

    Time counts only while the server is what we wait for. ``done`` fires with whether the
    body's end was certain.
    """

    def __init__(self, count: Count, sink: Sink, clock: IReactorTime, patience: BodyLimits) -> None:
        self.done: Deferred[bool] = Deferred(lambda _: self.abort())
        self._count = count
        self._sink = sink
        self._clock = clock
        self._patience = patience
        self._heard = self._from = clock.seconds()
        self._had = count.received
        self._timer: IDelayedCall | None = None
        self._wait(patience.idle)

    def _wait(self, seconds: float) -> None:
        left = max(0.01, self._from + self._patience.window - self._clock.seconds())
        wait = min(seconds, left) if self._patience.speed else seconds
        self._timer = self._clock.callLater(wait, self._check)

    def _check(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        if self._count.busy_since is not None:
            self._wait(self._patience.idle)
            return
        if now - self._heard >= self._patience.idle:
            self._fail(MemberError("idle_timeout", f"not a byte for {self._patience.idle:g} s"))
            return
        if now - self._from >= self._patience.window:
            got = self._count.received - self._had
            if got < self._patience.speed * (now - self._from):
                speed = f"{got / (now - self._from):.0f} bytes a second"
                self._fail(MemberError("too_slow", f"{speed}, over {self._patience.window:g} s"))
                return
            self._from, self._had = now, self._count.received
        self._wait(self._heard + self._patience.idle - now)

    def dataReceived(self, data: bytes) -> None:
        if self.done.called:
            return
        self._heard = self._clock.seconds()
        self._count.received += len(data)
        if self._count.received > self._patience.most:
            self._fail(MemberError("too_large", f"more than {self._patience.most} bytes"))
            return
        if self._count.length is not None and self._count.received > self._count.length:
            self.done.callback(True)  # what it was counts as an end shows that it is too long
            self.abort()
            return
        try:
            busy = self._sink.write(data)
        except Exception as problem:
            self._fail(problem)
            return
        if busy is not None:
            self._count.busy_since = self._heard
            cast(IPushProducer, self.transport).pauseProducing()
            busy.addCallbacks(self._resume, self._fail)

    def _resume(self, _: None) -> None:
        if self._count.busy_since is not None:
            self._heard = self._clock.seconds()
            self._from += self._heard - self._count.busy_since
            self._count.held += self._heard - self._count.busy_since
            self._count.busy_since = None
        if self.transport is not None:
            cast(IPushProducer, self.transport).resumeProducing()

    def _fail(self, problem: BaseException | Failure) -> None:
        if not self.done.called:
            self.done.errback(problem)
        self.abort()

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008
        self.transport = None
        self._stop_timer()
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(True)
        elif reason.check(PotentialDataLoss):
            self.done.callback(False)
        elif reason.check(ResponseFailed) and not _is_nonsense(reason):
            got = f"{self._count.received} bytes"
            if self._count.length is not None:
                got += f" of {self._count.length}"
            self.done.errback(MemberError("body_short", f"the connection ended after {got}"))
        else:
            self.done.errback(explain(reason))

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def abort(self) -> None:
        """Stop for good and close the connection, if it is still there."""
        self._stop_timer()
        if self.transport is not None:
            self.transport.loseConnection()
