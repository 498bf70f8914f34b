"""How many connections a port has, and may have."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from twisted_bulk.errors import BulkError, TooManyConnections, Unavailable
from twisted_bulk.throttle import UNLIMITED

RETRY_AFTER = 30  # seconds for a client whose connection was refused
FLOAT_ERROR = 1e-6  # seconds by which a time in floating point may be wrong
#: A port's connections divided by this number: how many refused ones may still be open. Beyond it a
#: connection is cut without an answer.
REFUSED_DIVISOR = 8
OWN_DIVISOR = 8  # all connections divided by this number are kept free for each port


class Budget:
    """Connections that several ports may have together: each is a file of the process.

    Each port has an eighth of them for itself, so that clients of another port cannot shut it.

    :param total: connections at once, of all ports
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._own = total // OWN_DIVISOR
        self._ports: list[ConnectionLimits] = []

    def share(self, limits: "ConnectionLimits") -> None:
        """Add a port."""
        self._ports.append(limits)

    @property
    def is_overrun(self) -> bool:
        """Whether so many refused connections are not gone yet that no more are answered."""
        return sum(limits.leaving for limits in self._ports) > self._own

    def has_room(self, limits: "ConnectionLimits") -> bool:
        """Whether a port may let one more connection in."""
        shared = sum(max(0, len(one) - self._own) for one in self._ports)
        free = self._total - self._own * len(self._ports) - shared
        return len(limits) < self._own or free > 0


class ConnectionLimits:
    """The connections of one port, in all and by client.

    ``refused``: how many were refused, by code.

    :param total: connections at once
    :param each: connections of one client at once
    :param budget: of all ports together; None: there is none
    """

    def __init__(self, total: int, each: int, budget: Budget | None = None) -> None:
        self._total = total
        self._each = each
        self._budget = budget
        if budget is not None:
            budget.share(self)
        self._in, self._out = _Count(), _Count()  # let in; refused, and not gone yet
        self.refused: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._in.all

    def of(self, key: str) -> int:
        """Connections that one client has open."""
        return self._in.by[key]

    def enter(self, key: str) -> BulkError | None:
        """A connection begins; returns why it is refused, or None. See :meth:`leave`.

        :param key: of its client; for :data:`~twisted_bulk.throttle.UNLIMITED` only the total
            counts
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

    def is_overrun(self, key: str) -> bool:
        """Whether so many are refused that a further one is cut without an answer."""
        one = key != UNLIMITED and self._out.by[key] > self._each
        together = self._budget is not None and self._budget.is_overrun
        return one or together or self._out.all > self._total // REFUSED_DIVISOR

    @property
    def leaving(self) -> int:
        """Refused connections that are not gone yet."""
        return self._out.all

    def leave(self, key: str, stayed: bool) -> None:
        """A connection has ended.

        :param stayed: it was let in
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


class Connections(Collector):
    """The connections of one port, as Prometheus reads them."""

    def __init__(self, prefix: str, limits: ConnectionLimits) -> None:
        self._prefix = prefix
        self._limits = limits

    def collect(self) -> Iterator[Metric]:
        """Prometheus asks for these."""
        yield GaugeMetricFamily(
            f"{self._prefix}_connections", "open connections", len(self._limits)
        )
        refused = CounterMetricFamily(
            f"{self._prefix}_refused", "connections that were too many", labels=["code"]
        )
        for code, count in self._limits.refused.items():
            refused.add_metric([code], count)
        yield refused
