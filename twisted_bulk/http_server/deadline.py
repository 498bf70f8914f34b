"""The deadlines of a connection: for a request's headers, and for the speed of its body."""

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_bulk.http_server.connection_limits import FLOAT_ERROR

#: Seconds for a request's headers, from the connection's start or from their first byte; then 408.
HEADER_SECONDS = 15.0
#: Bytes a second of a request's body. A slower one uses up its lead, see BodySpeed; then 408.
MIN_BODY_SPEED = 10_000
DRAIN_SECONDS = 75.0  # that a client has to take the end of the last answer; then it is cut
LINGER_SECONDS = 2.0  # that a refused client has to read why; then it is cut
MAX_LEAD_SECONDS = 60.0  # that a fast body may have in reserve, see BodySpeed


class Deadline:
    """One deadline that is moved often, with one timer that is moved rarely."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._at: float | None = None
        self._due: Callable[[], object] = lambda: None
        self._timer: IDelayedCall | None = None  # fires no later than `_at`

    @property
    def is_set(self) -> bool:
        """Whether a function is to be called."""
        return self._at is not None

    def set(self, due: Callable[[], object], seconds: float = HEADER_SECONDS) -> None:
        """Call ``due`` after so many seconds, instead of the function before."""
        self._at, self._due = self._clock.seconds() + seconds, due
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._look)
        elif self._timer.getTime() > self._at:
            self._timer.reset(seconds)

    def clear(self) -> None:
        """Call nothing."""
        self._at = None

    def _look(self) -> None:
        self._timer = None
        if self._at is None:
            return
        left = self._at - self._clock.seconds()
        if left > FLOAT_ERROR:
            self._timer = self._clock.callLater(left, self._look)
        else:
            self._at = None
            self._due()

    def stop(self) -> None:
        """The connection has ended."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


class BodySpeed:
    """The speed of one body as it comes. Pure, over ``now``.

    A body begins with :data:`HEADER_SECONDS` of lead. Bytes that come faster than
    :data:`MIN_BODY_SPEED` add to the lead, up to :data:`MAX_LEAD_SECONDS`; time uses it up.
    """

    def __init__(self, now: float) -> None:
        self._lead = self._planned = HEADER_SECONDS
        self._received, self._looked = 0, now

    def look(self, received: int, now: float) -> float:
        """How long until the next look; 0 or less: the body is too slow.

        :param received: bytes of the body so far
        """
        passed = now - self._looked
        if passed > self._planned + 1:  # this process was late, and could not read
            passed = self._planned / 2
        earned = (received - self._received) / MIN_BODY_SPEED - passed
        self._lead = min(self._lead + earned, MAX_LEAD_SECONDS)
        self._received, self._looked = received, now
        self._planned = min(self._lead, HEADER_SECONDS)
        return self._planned
