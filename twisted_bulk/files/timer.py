"""Time for the throttle: one timer for all who send, and lines of answers that wait."""

from collections import OrderedDict

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_bulk.throttle import Flow, Throttle

SPACING = 0.02  # seconds between two rounds, at least


class WaitingAnswers:
    """Answers of one address that may not be sent at once: a flow that sends one in each turn."""

    def __init__(self, timer: "ThrottleTimer", key: str) -> None:
        self._timer = timer
        self._key = key
        self.waiting: OrderedDict[Deferred[None], None] = OrderedDict()

    def send(self, most: int) -> int:
        """As :class:`throttle.Flow` says; what is sent charges itself."""
        throttle = self._timer.throttle
        before = throttle.sent
        while self.waiting and throttle.sent == before:
            self.waiting.popitem(last=False)[0].callback(None)
        if not self.waiting:
            self._timer.end(self._key, self)
        return 0


class ThrottleTimer:
    """Serve a throttle whenever something is due."""

    def __init__(self, throttle: Throttle, clock: IReactorTime) -> None:
        self.throttle = throttle
        self.clock = clock
        self._call: IDelayedCall | None = None
        self._last = -SPACING
        self._lines: dict[str, WaitingAnswers] = {}

    def now(self) -> float:
        return self.clock.seconds()

    def set_rate(self, rate: float, total: float) -> None:
        """Change the limits, from now on."""
        self.throttle.change(rate, total, self.now())
        if len(self.throttle):
            self._plan(self.now())

    def admit(self, key: str) -> Deferred[None]:
        """Fires, at once or in its turn, when another answer may be sent to ``key``; it has to be
        charged before anything else is waited for."""
        line = self._lines.get(key)
        if line is None and self.throttle.allows(key, self.now()):
            return succeed(None)
        if line is None:
            line = self._lines[key] = WaitingAnswers(self, key)
            self.join(key, line, first=True)
        waiting: Deferred[None] = Deferred(line.waiting.pop)
        line.waiting[waiting] = None
        return waiting

    def end(self, key: str, line: WaitingAnswers) -> None:
        """Nobody waits in ``line`` any more."""
        self.leave(key, line)
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
