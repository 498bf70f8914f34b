"""The file port for its operator: ``GET /v1/files``, its metrics, and a change of its rates."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from twisted_bulk.files.timer import ThrottleTimer
from twisted_bulk.files.transfer import Transfers
from twisted_bulk.http_server.connection_limits import Connections
from twisted_bulk.http_server.site import BoundedSite

MAX_ADDRESSES = 100  # in an answer, the fastest first; the others are not shown


class FilePort(Collector):
    """What the file port tells, and what can be changed while it runs.

    A change holds on this node, until the process ends.
    """

    def __init__(self, site: BoundedSite, transfers: Transfers) -> None:
        self._site = site
        self._transfers = transfers

    @property
    def _timer(self) -> ThrottleTimer:
        return self._transfers.timer

    def change(self, rate: int | None = None, total_rate: int | None = None) -> None:
        """Set other limits, in bytes a second; None leaves one as it is."""
        throttle = self._timer.throttle
        self._timer.set_rate(
            throttle.rate if rate is None else rate,
            throttle.total if total_rate is None else total_rate,
        )

    def shown(self) -> dict[str, Any]:
        """The answer of ``GET /v1/files``."""
        throttle, limits, now = self._timer.throttle, self._site.limits, self._timer.now()
        speeds = {key: meter.speed(now) for key, meter in self._transfers.meters.items()}
        fastest = sorted(speeds.items(), key=lambda item: -item[1])
        return {
            "rate": throttle.rate,
            "total_rate": throttle.total,
            "speed": round(sum(speeds.values())),
            "bytes": throttle.sent,
            "connections": len(limits),
            "transfers": self._transfers.count,
            "addresses": [
                {"address": key or "exempt", "speed": round(speed), "connections": limits.of(key)}
                for key, speed in fastest[:MAX_ADDRESSES]
            ],
        }

    def collect(self) -> Iterator[Metric]:
        """Prometheus calls this for the metrics."""
        limits, throttle = self._site.limits, self._timer.throttle
        sent = "bytes sent by the file port, heads included"
        yield CounterMetricFamily("bulkwav_files_bytes", sent, throttle.sent)
        for name, text, value in (
            ("transfers", "downloads under way", self._transfers.count),
            ("addresses", "client addresses being served", len(self._transfers.meters)),
        ):
            yield GaugeMetricFamily(f"bulkwav_files_{name}", text, value)
        answers = CounterMetricFamily(
            "bulkwav_files_answers", "answers of the file port", labels=["status"]
        )
        for status, count in self._site.answers.items():
            answers.add_metric([str(status)], count)
        yield answers
        yield from Connections("bulkwav_files", limits).collect()
