"""Time for the throttle: one timer for all who send, and lines of those who wait to answer."""

from collections import deque

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_bulk.throttle import Flow, Throttle

SPACING = 0.02  # seconds between two rounds, at least


class Line:
    """Answers of one address that wait until it may have another, first come first served."""

    def __init__(self) -> None:
        self.waiting: deque[Deferred[None]] = deque()
        self.call: IDelayedCall | None = None


class Ticker:
    """Serve a throttle whenever something is due."""

    def __init__(self, throttle: Throttle, clock: IReactorTime) -> None:
        self.throttle = throttle
        self.clock = clock
        self._call: IDelayedCall | None = None
        self._last = -SPACING
        self._lines: dict[str, Line] = {}

    def now(self) -> float:
        return self.clock.seconds()

    def set_rate(self, rate: float, total: float) -> None:
        """Change the limits, from now on."""
        self.throttle.change(rate, total, self.now())
        if len(self.throttle):
            self._plan(self.now())
        for key in list(self._lines):
            self._admit(key)

    def admit(self, key: str) -> Deferred[None]:
        """Fires, at once or in its turn, when the debt of ``key`` is small enough for another
        answer, which has to be charged before anything else is waited for."""
        if key not in self._lines and not self.throttle.wait(key, self.now()):
            return succeed(None)
        line = self._lines.setdefault(key, Line())
        waiting: Deferred[None] = Deferred()
        line.waiting.append(waiting)
        if line.call is None:
            self._admit(key)
        return waiting

    def _admit(self, key: str) -> None:
        line = self._lines[key]
        if line.call is not None and line.call.active():
            line.call.cancel()
        wait = 0.0
        while line.waiting and not (wait := self.throttle.wait(key, self.now())):
            line.waiting.popleft().callback(None)
        if line.waiting:
            line.call = self.clock.callLater(wait, self._admit, key)
        else:
            del self._lines[key]

    def join(self, key: str, flow: Flow, first: bool = False) -> None:
        """``flow`` can send from now on."""
        self.throttle.join(key, flow, self.now(), first)
        self._plan(self.now(), at_once=first or not self.throttle.limits(key))

    def leave(self, key: str, flow: Flow) -> None:
        """``flow`` cannot send (for now)."""
        self.throttle.leave(key, flow)

    def charge(self, key: str, count: int) -> None:
        """Count bytes that were sent beside any flow."""
        self.throttle.charge(key, count, self.now())
        self._plan(self.now())

    def _plan(self, due: float, at_once: bool = False) -> None:
        # What is due right after a round has no limit, and waits for nothing.
        at = due if at_once or due <= self._last else max(due, self._last + SPACING)
        if self._call is not None and self._call.active():
            if self._call.getTime() <= at:
                return
            self._call.cancel()
        self._call = self.clock.callLater(max(0.0, at - self.now()), self._tick)

    def _tick(self) -> None:
        self._call = None
        now, before = self.now(), self.throttle.sent
        due = self.throttle.serve(now)
        if self.throttle.sent > before:
            self._last = now
        if due is not None:
            self._plan(due)
