"""How many match a filter: exactly where that is cheap, else at least how many."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_bulk.errors import BulkError

log = Logger()

MAX_AT_ONCE = 10_000  # matches that a request counts; further ones are counted in the background
MAX_STEPS = 3  # calls of the counting function that a request waits for
MAX_FIGURES = 1000  # exact figures that are kept; then the oldest goes
MAX_COUNTING = 2  # filters that are counted in the background at once
FRESH_SECONDS = 60.0  # for which a figure is not counted again

#: Counts some; from a cursor, or from the beginning if that is empty. Returns how many, and the
#: cursor of the others or an empty one.
Counting = Callable[[str], Awaitable[tuple[int, str]]]


@dataclass(frozen=True)
class _Figure:
    count: int
    at: float


class Counts:
    """Counts the matches of filters."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._figures: OrderedDict[Hashable, _Figure] = OrderedDict()
        self._counting: set[Hashable] = set()

    async def of(self, key: Hashable, count: Counting) -> dict[str, Any]:
        """How many match, as ``{"at_least", "exact", "age"}``.

        ``exact`` is None where it is not known yet; ``age``: seconds since it was counted.

        :param key: stands for the filter
        """
        found, cursor, steps = 0, "", 0
        while found < MAX_AT_ONCE and steps < MAX_STEPS:
            more, cursor = await count(cursor)
            found, steps = found + more, steps + 1
            if not cursor:
                self._figures.pop(key, None)
                return {"at_least": found, "exact": found, "age": 0.0}
        known = self._figures.get(key)
        age = self._clock.seconds() - known.at if known else None
        if (age is None or age > FRESH_SECONDS) and len(self._counting) < MAX_COUNTING:
            self._begin(key, count, found, cursor)
        known = self._figures.get(key)
        return {
            "at_least": found,
            "exact": None if known is None else known.count,
            "age": None if known is None else round(self._clock.seconds() - known.at, 1),
        }

    def _begin(self, key: Hashable, count: Counting, found: int, cursor: str) -> None:
        if key in self._counting:
            return
        self._counting.add(key)
        counting = Deferred.fromCoroutine(self._count(key, count, found, cursor))
        counting.addErrback(lambda failure: failure.trap(BulkError))
        counting.addErrback(lambda failure: log.failure("counting failed", failure))

    async def _count(self, key: Hashable, count: Counting, found: int, cursor: str) -> None:
        try:
            while cursor:
                more, cursor = await count(cursor)
                found += more
        finally:
            self._counting.discard(key)
        self._figures[key] = _Figure(found, self._clock.seconds())
        self._figures.move_to_end(key)
        while len(self._figures) > MAX_FIGURES:
            self._figures.popitem(last=False)
