"""The connections of a port, as Prometheus reads them."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from twisted_bulk.http_server.connection_limits import ConnectionLimits


class Connections(Collector):
    """The connections of one port, for Prometheus."""

    def __init__(self, prefix: str, limits: ConnectionLimits) -> None:
        self._prefix = prefix
        self._limits = limits

    def collect(self) -> Iterator[Metric]:
        """As Prometheus asks."""
        yield GaugeMetricFamily(
            f"{self._prefix}_connections", "open connections", len(self._limits)
        )
        refused = CounterMetricFamily(
            f"{self._prefix}_refused", "connections that were too many", labels=["code"]
        )
        for code, count in self._limits.refused.items():
            refused.add_metric([code], count)
        yield refused
