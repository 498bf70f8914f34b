"""The calls about many batches at once."""

from http import HTTPStatus

from klein import Klein
from twisted.web.http import Request
from twisted.web.resource import Resource

from twisted_bulk.api.admission import Admission
from twisted_bulk.api.messages import MAX_BULK_BYTES, answer_json, read_body
from twisted_bulk.management.bulk import Bulk
from twisted_bulk.orders.submission import BulkOrder


class BulkCalls:
    """Plans for many batches, and what became of them."""

    app = Klein()

    def __init__(self, admission: Admission, bulk: Bulk) -> None:
        self._admission = admission
        self._bulk = bulk

    @app.route("/v1/bulk", methods=["POST"])
    async def plan(self, request: Request) -> bytes | Resource:
        """Say what would be done with many batches; nothing is changed."""
        token = self._admission.admit(request, "submit")
        self._admission.check_running()
        order: BulkOrder = read_body(request, BulkOrder, MAX_BULK_BYTES)
        shown = await self._bulk.plan(order, token.name, token.owner)
        request.setHeader("Location", f"/v1/bulk/{shown['id']}")
        return answer_json(request, shown, HTTPStatus.CREATED)

    @app.route("/v1/bulk", methods=["GET"])
    async def latest(self, request: Request) -> bytes | Resource:
        """List the latest plans, and those that run or have ended."""
        token = self._admission.admit(request, "read")
        return answer_json(request, await self._bulk.latest(token.name, token.owner))

    @app.route("/v1/bulk/<bulk>", methods=["GET"])
    async def show(self, request: Request, bulk: str) -> bytes | Resource:
        """Show one bulk action."""
        token = self._admission.admit(request, "read")
        return answer_json(request, await self._bulk.show(bulk, token.name, token.owner))

    @app.route("/v1/bulk/<bulk>/start", methods=["POST"])
    async def start(self, request: Request, bulk: str) -> bytes | Resource:
        """Do what was planned, in portions."""
        token = self._admission.admit(request, "submit")
        self._admission.check_running()
        shown = await self._bulk.begin(bulk, token.name, token.owner)
        return answer_json(request, shown, HTTPStatus.ACCEPTED)

    @app.route("/v1/bulk/<bulk>/stop", methods=["POST"])
    async def stop(self, request: Request, bulk: str) -> bytes | Resource:
        """Stop one that runs; what was done stays done."""
        token = self._admission.admit(request, "submit")
        return answer_json(request, await self._bulk.stop(bulk, token.name, token.owner))
