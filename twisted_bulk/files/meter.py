"""The speed of a client address: an average that forgets exponentially. Arithmetic over ``now``."""

import math

AVERAGE_SECONDS = 5.0  # after which a byte counts 1/e of what it did


class Meter:
    """The bytes a second of one address.

    ``users``: how many transfers note their bytes here.
    """

    __slots__ = ("_average", "_noted", "users")

    def __init__(self, now: float) -> None:
        self._average = 0.0
        self._noted = now
        self.users = 0

    def note(self, count: int, now: float) -> None:
        """Count ``count`` bytes that were sent."""
        self._average = self.speed(now) + count / AVERAGE_SECONDS
        self._noted = now

    def speed(self, now: float) -> float:
        """The average, in bytes a second."""
        return self._average * math.exp((self._noted - now) / AVERAGE_SECONDS)
