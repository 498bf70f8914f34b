"""How many connections a port has open, and may have. Pure."""

from collections import Counter

from twisted_bulk.errors import BulkError, TooManyConnections, Unavailable
from twisted_bulk.throttle import UNLIMITED

RETRY_AFTER = 30  # seconds
MOMENT = 1e-6  # seconds: what floating point may be off
KNOWN = 10_000  # clients beyond which those are forgotten who have not asked for a second


class RequestRate:
    """Requests of each client: so many a second, and as many at once (GCRA). Pure, over ``now``.

    :param rate: requests a second, or 0 for any number
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def wait(self, key: str, now: float, *, count: bool = True) -> float:
        """Seconds until ``key`` may ask once more; 0: it may now.

        :param count: that it does
        """
        if not self._rate:
            return 0.0
        until = max(self._until.get(key, 0.0), now) + 1 / self._rate
        wait = until - now - 1.0
        if wait > MOMENT:
            return wait
        if not count:
            return 0.0
        if len(self._until) >= KNOWN and key not in self._until:
            self._until = {name: then for name, then in self._until.items() if then > now}
        self._until[key] = until
        return 0.0


class Budget:
    """Connections that several ports may have together: each is one of the process's files.

    Each port has an eighth of them for itself alone, so that no other can shut it.

    :param total: connections at once, of all ports
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._own = total // 8
        self._ports: list[ConnectionLimits] = []

    def share(self, limits: "ConnectionLimits") -> None:
        """One more port."""
        self._ports.append(limits)

    @property
    def swamped(self) -> bool:
        """Whether so many were turned away and are not gone that no more can be told why."""
        return sum(limits.leaving for limits in self._ports) > self._own

    def has_room(self, limits: "ConnectionLimits") -> bool:
        """Whether ``limits`` may let one more in."""
        shared = sum(max(0, len(one) - self._own) for one in self._ports)
        free = self._total - self._own * len(self._ports) - shared
        return len(limits) < self._own or free > 0


class ConnectionLimits:
    """Counts connections, in all and by client.

    :param total: connections at once
    :param each: connections of one client at once
    :param budget: what it has in common with other ports
    """

    def __init__(self, total: int, each: int, budget: Budget | None = None) -> None:
        self._total = total
        self._each = each
        self._budget = budget
        if budget is not None:
            budget.share(self)
        self._in, self._out = _Count(), _Count()  # out: turned away, and not gone yet
        self.refused: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._in.all

    def of(self, key: str) -> int:
        """Connections that one client has open."""
        return self._in.by[key]

    def enter(self, key: str) -> BulkError | None:
        """One more connection; returns why it may not stay.

        :param key: whose it is; :data:`throttle.UNLIMITED` has as many as there are
        """
        error: BulkError | None = None
        if self._in.all >= self._total or (self._budget and not self._budget.has_room(self)):
            error = Unavailable("there are too many connections", RETRY_AFTER)
        elif key != UNLIMITED and self._in.by[key] >= self._each:
            error = TooManyConnections(
                f"this address has {self._each} connections already", RETRY_AFTER
            )
        if error:
            self.refused[error.code] += 1
        (self._out if error else self._in).add(key, 1)
        return error

    def swamped(self, key: str) -> bool:
        """Whether so many were turned away that even saying so takes too long."""
        one = key != UNLIMITED and self._out.by[key] > self._each
        together = self._budget is not None and self._budget.swamped
        return one or together or self._out.all > self._total // 8

    @property
    def leaving(self) -> int:
        """Connections that were turned away, and are not gone yet."""
        return self._out.all

    def leave(self, key: str, stayed: bool) -> None:
        """A connection has ended.

        :param stayed: it had been let in
        """
        (self._in if stayed else self._out).add(key, -1)


class _Count:
    """Connections, in all and by client."""

    def __init__(self) -> None:
        self.all = 0
        self.by: Counter[str] = Counter()

    def add(self, key: str, number: int) -> None:
        self.all += number
        self.by[key] += number
        if not self.by[key]:
            del self.by[key]
