"""The memory of the fetch queue: places in use, and how fast hosts answer. Pure."""

from collections import Counter, OrderedDict
from collections.abc import Hashable
from enum import Enum

MAX_HOSTS = 10_000  # whose speeds are kept; beyond it the oldest one counts as new again


class Speed(Enum):
    """How a host answers."""

    NEW = "new"  # it has not answered yet
    SLOW = "slow"  # it has not answered in time, or next to nothing comes from it
    FAST = "fast"


class HostSpeeds:
    """The speeds of all hosts."""

    def __init__(self) -> None:
        self._speeds: OrderedDict[str, Speed] = OrderedDict()

    def of(self, host: str) -> Speed:
        """The speed of a host; that of an unknown one is new."""
        return self._speeds.get(host, Speed.NEW)

    def note(self, host: str, speed: Speed) -> bool:
        """A host has this speed; returns whether it had another one before."""
        if self._speeds.get(host) is speed:
            return False
        self._speeds[host] = speed
        if len(self._speeds) > MAX_HOSTS:
            self._speeds.popitem(last=False)
        return True


def subtract(counter: Counter[str], key: str, count: int = 1) -> None:
    """Count down; a key that comes to 0 is removed."""
    counter[key] -= count
    if not counter[key]:
        del counter[key]


class Places:
    """Counts of downloads that are under way.

    :ivar taken: downloads that have a place
    :ivar new: those of them whose host was new when they began
    :ivar without: downloads that have none, as they wait for their host
    """

    def __init__(self) -> None:
        self.taken = self.new = self.without = 0
        self._of: Counter[Hashable] = Counter()

    def of(self, owner: Hashable) -> int:
        """Places that one owner has."""
        return self._of[owner]

    def change(self, owner: Hashable, new: bool, count: int) -> None:
        """``count`` (1 or -1) more of an owner's downloads have a place."""
        self.taken += count
        self.new += count * new
        self._of[owner] += count
        if not self._of[owner]:
            del self._of[owner]
