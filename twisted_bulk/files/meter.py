"""How fast something goes, lately. Pure."""

import math

MEMORY = 5.0  # seconds over which the speed is an average


class Meter:
    """Bytes a second: an average that forgets exponentially."""

    __slots__ = ("_average", "_noted", "users")

    def __init__(self, now: float) -> None:
        self._average = 0.0
        self._noted = now
        self.users = 0  # transfers that it counts

    def note(self, count: int, now: float) -> None:
        """So much has gone."""
        self._average = self.speed(now) + count / MEMORY
        self._noted = now

    def speed(self, now: float) -> float:
        """Bytes a second."""
        return self._average * math.exp((self._noted - now) / MEMORY)
