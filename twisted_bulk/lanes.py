"""Who is fetched next: fair between owners, bounded for each host. Pure.

An *owner* is a part of a batch; each has a lane for every host it fetches from.
Owners take turns, and within one the hosts do, so a big batch or a slow host holds
nobody up. There is always room for one more owner: none has more than :data:`GREED`
times what is free (dynamic thresholds; Choudhury and Hahne, 1998).
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

ALL = "*"  # the name of the limit over all hosts
GREED = 3
LOOK_AT = 256  # hosts of one owner that are looked at for one that has room


def _less(counter: Counter[K], key: K, count: int = 1) -> None:
    counter[key] -= count
    if not counter[key]:
        del counter[key]


class Lanes(Generic[T]):
    """Items waiting by owner and host.

    :param allowed: items that may be out at once, of a host or of :data:`ALL`, over all owners
    """

    def __init__(self, allowed: Callable[[str], int]) -> None:
        self._allowed = allowed
        self._out: Counter[str] = Counter()
        self._owned: Counter[Hashable] = Counter()
        self._total = 0
        self._waiting: Counter[str] = Counter()
        self._lanes: OrderedDict[Hashable, OrderedDict[str, deque[T]]] = OrderedDict()

    def __bool__(self) -> bool:
        """Whether anything waits or is out."""
        return bool(self._lanes or self._total)

    def add(self, owner: Hashable, host: str, item: T, first: bool = False) -> None:
        """Put an item at the end of its lane, or at its head."""
        lane = self._lanes.setdefault(owner, OrderedDict()).setdefault(host, deque())
        (lane.appendleft if first else lane.append)(item)
        self._waiting[host] += 1

    def take(self) -> T | None:
        """The next item whose host has room, or None. :meth:`release` it later."""
        free = self._allowed(ALL) - self._total
        if not self._lanes or free <= 0:
            return None
        for owner, hosts in self._lanes.items():
            if self._owned[owner] >= GREED * free:
                continue
            for host in islice(hosts, LOOK_AT):
                if self._out[host] < self._allowed(host):
                    return self._pop(owner, hosts, host)
        return None

    def demand(self) -> dict[str, tuple[int, int]]:
        """By host, and of :data:`ALL`: how many are out, and how many wait."""
        shown = {host: (out, self._waiting[host]) for host, out in self._out.items()}
        shown |= {host: (self._out[host], waiting) for host, waiting in self._waiting.items()}
        return shown | {ALL: (self._total, self._waiting.total())}

    def _pop(self, owner: Hashable, hosts: OrderedDict[str, deque[T]], host: str) -> T:
        item = hosts[host].popleft()
        self._out[host] += 1
        self._owned[owner] += 1
        self._total += 1
        _less(self._waiting, host)
        hosts.move_to_end(host)
        self._lanes.move_to_end(owner)
        if not hosts[host]:
            del hosts[host]
        if not hosts:
            del self._lanes[owner]
        return item

    def release(self, owner: Hashable, host: str) -> None:
        """An item is not out any more."""
        self._total -= 1
        _less(self._out, host)
        _less(self._owned, owner)

    def drop(self, owner: Hashable) -> list[T]:
        """Take away everything of ``owner`` that still waits."""
        hosts = self._lanes.pop(owner, OrderedDict())
        for host, lane in hosts.items():
            _less(self._waiting, host, len(lane))
        return [item for lane in hosts.values() for item in lane]
