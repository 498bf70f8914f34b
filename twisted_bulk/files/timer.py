"""The throttle on a clock: calls it when something is due; small answers that wait their turn."""

from collections import OrderedDict

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_bulk.throttle import Flow, Throttle

SPACING_SECONDS = 0.02  # at least, between two calls of the throttle that send something


class WaitingAnswers:
    """A flow: the small answers of one address that may not be sent at once, one in each turn."""

    def __init__(self, timer: "ThrottleTimer", key: str) -> None:
        self._timer = timer
        self._key = key
        self.waiting: OrderedDict[Deferred[None], None] = OrderedDict()

    def send(self, most: int) -> int:
        """See :class:`throttle.Flow`. Returns 0: the answer is charged by its sender."""
        throttle = self._timer.throttle
        before = throttle.sent
        while self.waiting and throttle.sent == before:
            self.waiting.popitem(last=False)[0].callback(None)
        if not self.waiting:
            self._timer.end(self._key, self)
        return 0


class ThrottleTimer:
    """Calls :meth:`Throttle.serve` on ``clock`` when something is due.

    Its methods are those of the throttle, without ``now``.
    """

    def __init__(self, throttle: Throttle, clock: IReactorTime) -> None:
        self.throttle = throttle
        self.clock = clock
        self._call: IDelayedCall | None = None
        self._last = -SPACING_SECONDS
        self._lines: dict[str, WaitingAnswers] = {}

    def now(self) -> float:
        """Seconds on the clock."""
        return self.clock.seconds()

    def set_rate(self, rate: float, total: float) -> None:
        """Set the limits, in bytes a second: of each address, and of all together."""
        self.throttle.change(rate, total, self.now())
        if len(self.throttle):
            self._plan(self.now())

    def admit(self, key: str) -> Deferred[None]:
        """Fires when a small answer may be sent to ``key``: at once, or in its turn.

        The caller charges the answer before it waits for anything else. It may cancel the wait.
        """
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
        """Forget ``line``, which is empty."""
        self.leave(key, line)
        del self._lines[key]

    def join(self, key: str, flow: Flow, first: bool = False) -> None:
        """See :meth:`Throttle.join`."""
        self.throttle.join(key, flow, self.now(), first)
        self._plan(self.now(), at_once=first or not self.throttle.limits(key))

    def leave(self, key: str, flow: Flow) -> None:
        """See :meth:`Throttle.leave`."""
        self.throttle.leave(key, flow)

    def charge(self, key: str, count: int) -> None:
        """See :meth:`Throttle.charge`."""
        self.throttle.charge(key, count, self.now())
        self._plan(self.now())

    def _plan(self, due: float, at_once: bool = False) -> None:
        # Only flows without a limit are due right after a call; they need not wait.
        at = due if at_once or due <= self._last else max(due, self._last + SPACING_SECONDS)
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
