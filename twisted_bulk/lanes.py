"""Who is fetched next: fair between owners, bounded for each host. Pure.

An *owner* is a part of a batch; each has a lane for every host it fetches from.
Owners take turns, and within one the hosts do, so a big batch or a slow host holds
nobody up.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Lanes(Generic[T]):
    """Items waiting by owner and host.

    :param per_host: items of one host that may be out at once, over all owners
    """

    def __init__(self, per_host: int) -> None:
        self._per_host = per_host
        self._out: Counter[str] = Counter()
        self._lanes: OrderedDict[Hashable, OrderedDict[str, deque[T]]] = OrderedDict()

    def add(self, owner: Hashable, host: str, item: T, first: bool = False) -> None:
        """Put an item at the end of its lane, or at its head."""
        lane = self._lanes.setdefault(owner, OrderedDict()).setdefault(host, deque())
        (lane.appendleft if first else lane.append)(item)

    def take(self) -> T | None:
        """The next item whose host has room, or None. :meth:`release` its host later."""
        for owner in list(self._lanes):
            hosts = self._lanes[owner]
            for host in hosts:
                if self._out[host] < self._per_host:
                    return self._pop(owner, hosts, host)
        return None

    def _pop(self, owner: Hashable, hosts: OrderedDict[str, deque[T]], host: str) -> T:
        item = hosts[host].popleft()
        self._out[host] += 1
        hosts.move_to_end(host)
        self._lanes.move_to_end(owner)
        if not hosts[host]:
            del hosts[host]
        if not hosts:
            del self._lanes[owner]
        return item

    def release(self, host: str) -> None:
        """An item of ``host`` is not out any more."""
        self._out[host] -= 1
        if not self._out[host]:
            del self._out[host]

    def drop(self, owner: Hashable) -> list[T]:
        """Take away everything of ``owner`` that still waits."""
        hosts = self._lanes.pop(owner, OrderedDict())
        return [item for lane in hosts.values() for item in lane]
