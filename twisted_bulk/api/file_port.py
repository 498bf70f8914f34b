"""What the API needs of the file port."""

from collections.abc import Iterable
from typing import Any, Protocol

from prometheus_client.core import Metric


class FilePort(Protocol):
    """This node's file port, as the API uses it."""

    def shown(self) -> dict[str, Any]:
        """Which address is served how fast."""

    def change(self, rate: int | None = None, total_rate: int | None = None) -> None:
        """Change its limits, in bytes a second; None leaves one as it is."""

    def collect(self) -> Iterable[Metric]:
        """Its metrics, for Prometheus."""
