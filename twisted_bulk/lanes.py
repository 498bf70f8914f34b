"""Who is fetched next: fair between owners, bounded for each host. Pure.

An *owner* is a part of a batch; each has a lane for every host it fetches from.
Owners take turns, and within one the hosts do, so a big batch or a slow host holds
nobody up.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")

ALL = "*"  # the name of the limit over all hosts
LOOK_AT = 256  # hosts of one owner that are looked at for one that has room


class Lanes(Generic[T]):
    """Items waiting by owner and host.

    :param allowed: items that may be out at once, of a host or of :data:`ALL`, over all owners
    """

    def __init__(self, allowed: Callable[[str], int]) -> None:
        self._allowed = allowed
        self._out: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._lanes: OrderedDict[Hashable, OrderedDict[str, deque[T]]] = OrderedDict()

    def add(self, owner: Hashable, host: str, item: T, first: bool = False) -> None:
        """Put an item at the end of its lane, or at its head."""
        lane = self._lanes.setdefault(owner, OrderedDict()).setdefault(host, deque())
        (lane.appendleft if first else lane.append)(item)
        self._waiting[host] += 1

    def take(self) -> T | None:
        """The next item whose host has room, or None. :meth:`release` its host later."""
        if not self._lanes or self._out.total() >= self._allowed(ALL):
            return None
        for owner, hosts in self._lanes.items():
            for host in islice(hosts, LOOK_AT):
                if self._out[host] < self._allowed(host):
                    return self._pop(owner, hosts, host)
        return None

    def demand(self) -> dict[str, tuple[int, int]]:
        """By host, and of :data:`ALL`: how many are out, and how many wait."""
        shown = {host: (out, self._waiting[host]) for host, out in self._out.items()}
        shown |= {host: (self._out[host], waiting) for host, waiting in self._waiting.items()}
        return shown | {ALL: (self._out.total(), self._waiting.total())}

    def _pop(self, owner: Hashable, hosts: OrderedDict[str, deque[T]], host: str) -> T:
        item = hosts[host].popleft()
        self._out[host] += 1
        self._less(host, 1)
        hosts.move_to_end(host)
        self._lanes.move_to_end(owner)
        if not hosts[host]:
            del hosts[host]
        if not hosts:
            del self._lanes[owner]
        return item

    def _less(self, host: str, count: int) -> None:
        self._waiting[host] -= count
        if not self._waiting[host]:
            del self._waiting[host]

    def release(self, host: str) -> None:
        """An item of ``host`` is not out any more."""
        self._out[host] -= 1
        if not self._out[host]:
            del self._out[host]

    def drop(self, owner: Hashable) -> list[T]:
        """Take away everything of ``owner`` that still waits."""
        hosts = self._lanes.pop(owner, OrderedDict())
        for host, lane in hosts.items():
            self._less(host, len(lane))
        return [item for lane in hosts.values() for item in lane]
