"""A fair queue of work: owners take turns; within one owner the lowest rank is first.

So that items of a high rank do not wait for ever, every :data:`LONGEST_WAITING_EVERY`-th turn of an
owner goes to its item that has waited longest.
"""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Hashable
from itertools import count
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")

LONGEST_WAITING_EVERY = 8


class FairQueue(Generic[T]):
    """Items waiting by owner. Threads may share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._added = count()
        self._taken: Counter[Hashable] = Counter()
        self._owners: OrderedDict[Hashable, list[tuple[int, int, T]]] = OrderedDict()

    def add(self, owner: Hashable, rank: int, item: T) -> None:
        """Put an item before those of its owner that have a higher rank."""
        with self._lock:
            heapq.heappush(self._owners.setdefault(owner, []), (rank, next(self._added), item))

    def take(self) -> T:
        """Take the next item; there must be one."""
        with self._lock:
            owner, items = next(iter(self._owners.items()))
            self._taken[owner] += 1
            if self._taken[owner] % LONGEST_WAITING_EVERY:
                item = heapq.heappop(items)[2]
            else:
                item = items.pop(min(range(len(items)), key=lambda at: items[at][1]))[2]
                heapq.heapify(items)
            self._owners.move_to_end(owner)
            if not items:
                del self._owners[owner], self._taken[owner]
            return item
