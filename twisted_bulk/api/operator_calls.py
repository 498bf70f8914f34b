"""The calls about a node and the queue: counts, settings, the file port, metrics, the session."""

from collections.abc import Callable
from typing import Any

from klein import Klein
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from twisted.web.http import Request
from twisted.web.resource import Resource

from twisted_bulk import __version__
from twisted_bulk.api.admission import Admission
from twisted_bulk.api.file_port import FilePort
from twisted_bulk.api.messages import answer_json, argument, read_body
from twisted_bulk.errors import InvalidRequest, NoFilePort
from twisted_bulk.http_server.connection_limits import ConnectionLimits, Connections
from twisted_bulk.management.intake import Intake
from twisted_bulk.orders.submission import Control, Rates

MAX_MINUTES = 120  # of the queue's events in one answer
DEFAULT_MINUTES = "6"  # the present one, and the five by which rates are measured


class OperatorCalls:
    """The calls that show and change how a node and the queue work.

    :param secrets: returns the secrets that sign the callbacks of a token's batches, by its name
    :param about: returns what a node tells of itself: its name, its disk
    :param port: this node's file port; None: it has none
    """

    app = Klein()

    def __init__(
        self,
        admission: Admission,
        intake: Intake,
        secrets: Callable[[str], list[str]],
        about: Callable[[], dict[str, Any]],
        port: FilePort | None,
    ) -> None:
        self._admission = admission
        self._intake = intake
        self._secrets = secrets
        self._about = about
        self._port = port
        self._metrics = CollectorRegistry()
        ProcessCollector(registry=self._metrics)
        if port is not None:
            self._metrics.register(port)

    def watch(self, limits: ConnectionLimits) -> None:
        """Show this port's connections in the metrics."""
        self._metrics.register(Connections("bulkwav_api", limits))

    @app.route("/v1/session", methods=["GET"])
    def session(self, request: Request) -> bytes | Resource:
        """Show what this client may do, and at which rate it is served."""
        token = self._admission.admit(request, "")
        rate = self._port.shown()["rate"] if self._port is not None else None
        shown = {
            "name": token.name,
            "scopes": sorted(token.scopes),
            "everybody": token.owner is None,
        }
        return answer_json(request, shown | {"rate": rate, "version": __version__})

    @app.route("/v1/stats", methods=["GET"])
    async def stats(self, request: Request) -> bytes | Resource:
        """Show counts, rates, how long the work will take, the workers, this node."""
        self._admission.admit(request, "admin")
        minutes = argument(request, "minutes", DEFAULT_MINUTES)
        if not minutes.isdecimal() or len(minutes) > 3 or not 1 <= int(minutes) <= MAX_MINUTES:
            raise InvalidRequest(f"minutes: expected 1 to {MAX_MINUTES}")
        shown = await self._intake.stats(int(minutes))
        return answer_json(request, shown | {"node": self._about()})

    @app.route("/v1/queue", methods=["PATCH"])
    async def control(self, request: Request) -> bytes | Resource:
        """Change the live settings of the queue of parts."""
        self._admission.admit(request, "admin")
        control = read_body(request, Control)
        return answer_json(request, await self._intake.control(control.given))

    @app.route("/v1/files", methods=["GET"])
    async def files(self, request: Request) -> bytes | Resource:
        """Show which address is served how fast by this node's file port."""
        self._admission.admit(request, "admin")
        return answer_json(request, self._file_port.shown())

    @app.route("/v1/files", methods=["PATCH"])
    async def rates(self, request: Request) -> bytes | Resource:
        """Change the limits of this node's file port."""
        self._admission.admit(request, "admin")
        rates: Rates = read_body(request, Rates)
        self._file_port.change(rates.rate, rates.total_rate)
        return answer_json(request, self._file_port.shown())

    @property
    def _file_port(self) -> FilePort:
        if self._port is None:
            raise NoFilePort("this node has no file port (see --roles)")
        return self._port

    @app.route("/v1/secret", methods=["GET"])
    def secret(self, request: Request) -> bytes | Resource:
        """Show the secrets that sign the callbacks of this token's batches."""
        token = self._admission.admit(request, "submit")
        return answer_json(request, {"secrets": self._secrets(token.name)})

    @app.route("/metrics", methods=["GET"])
    def metrics(self, request: Request) -> bytes:
        """Show all metrics, for Prometheus."""
        self._admission.admit(request, "read")
        request.setHeader("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        return generate_latest(self._metrics)
