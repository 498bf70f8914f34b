"""The calls of the API on port 10000, with Klein. Rooms: api/."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from klein import Klein
from twisted.web.http import Request
from twisted.web.resource import Resource

from twisted_bulk.api.admission import Admission
from twisted_bulk.api.bulk_calls import BulkCalls
from twisted_bulk.api.file_port import FilePort
from twisted_bulk.api.messages import (
    answer_error,
    answer_json,
    argument,
    posted_order,
    posted_retry,
    read_body,
    read_query,
)
from twisted_bulk.api.openapi import document
from twisted_bulk.api.operator_calls import OperatorCalls
from twisted_bulk.api.tokens import Access
from twisted_bulk.errors import BulkError
from twisted_bulk.http_server.connection_limits import ConnectionLimits
from twisted_bulk.http_server.klein_resource import KleinResource
from twisted_bulk.http_server.streamed_body import StreamedBody
from twisted_bulk.management.probing import probes, sample
from twisted_bulk.management.services import Management
from twisted_bulk.orders.order import Order
from twisted_bulk.orders.queries import BatchFilter, MembersQuery
from twisted_bulk.orders.submission import Change
from twisted_bulk.page.resource import INDEX, page_file
from twisted_bulk.system.threads import BoundedThreads

MAX_READERS = 2  # threads that read at once: they compete with the reactor's thread
MAX_WAITING = 1000  # bodies that wait for one of them; more are 503
MAX_CHECKS = 20  # checks of new batches that wait for the one thread for them; more are 503


class Api:
    """The resource of the API port.

    :param management: what can be done with batches
    :param max_urls: URLs in one POST
    :param max_body: bytes of one POST's body, after it is unpacked
    :param secrets: returns the secrets that sign the callbacks of a token's batches, by its name
    :param about: returns what this node tells of itself
    :param port: this node's file port; None: it has none
    :param request_rate: requests a second of one token or address; 0: any number
    """

    app = Klein()

    def __init__(
        self,
        management: Management,
        access: Access,
        max_urls: int,
        max_body: int,
        secrets: Callable[[str], list[str]],
        about: Callable[[], dict[str, Any]],
        port: FilePort | None = None,
        request_rate: int = 0,
    ) -> None:
        self._intake, self._listing = management.intake, management.listing
        self._management = management
        self._admission = Admission(access, request_rate)
        self._max_urls = max_urls
        self._max_body = max_body
        self._threads = BoundedThreads(MAX_READERS, MAX_WAITING, "large bodies")
        self._checking = BoundedThreads(1, MAX_CHECKS, "checks of new batches")
        self._operator = OperatorCalls(self._admission, self._intake, secrets, about, port)
        bulk = BulkCalls(self._admission, management.bulk)
        self.resource: Resource = KleinResource(
            [self.app, self._operator.app, bulk.app],
            lambda request, error: answer_error(request, error, self._admission.count),
        )

    def watch(self, limits: ConnectionLimits) -> None:
        """Show this port's connections in the metrics."""
        self._operator.watch(limits)

    def stop(self) -> None:
        """Take no more batches in."""
        self._admission.stopping = True

    def unwelcome(self, request: Request) -> BulkError | None:
        """See :meth:`Admission.unwelcome`."""
        return self._admission.unwelcome(request)

    async def _admit_to(self, request: Request, scope: str, task_id: str) -> str:
        """Admit a call on one batch, which other tokens do not see; returns the batch's key."""
        token = self._admission.admit(request, scope)
        return await self._listing.find(task_id, token.name, token.owner is None)

    @app.route("/", methods=["GET"])
    @app.route("/page/<path:name>", methods=["GET"])
    def page(self, request: Request, name: str = INDEX) -> bytes:
        """Show the page; it asks for a token itself."""
        self._admission.count(request)
        return page_file(request, name)

    @app.route("/", methods=["POST"])
    @app.route("/v1/batches", methods=["POST"])
    async def submit(self, request: Request) -> bytes | Resource:
        """Take a batch in."""
        token = self._admission.admit(request, "submit")
        self._admission.check_running()
        is_small, read = posted_order(request, self._max_urls, self._max_body)
        order = read() if is_small else await self._threads.run(read)
        if argument(request, "check") == "true":
            return answer_json(request, await self._checked(order, argument(request, "probe")))
        ticket = await self._intake.submit(order, token.name)
        where = f"/v1/batches/{ticket.task_id}"
        request.setHeader("Location", where)
        if ticket.batch is not None:
            return answer_json(request, {**ticket.batch, "self": where})
        # A worker may have begun it already; the answer is its state when it was accepted.
        answer = {"task_id": ticket.task_id, "status": "queued", "total": len(order)}
        answer |= {"position": ticket.position, "self": where}
        return answer_json(request, answer, HTTPStatus.ACCEPTED)

    async def _checked(self, order: Order, probe: str) -> dict[str, Any]:
        """What would become of an order; the sources of some members are asked if it is wanted."""
        count = probes(probe)
        found = await self._checking.run(self._management.preflight, order)
        if count:
            members = await self._checking.run(sample, order, count)
            found["probe"] = await self._management.probing.probe(order, members)
        return found

    @app.route("/v1/batches", methods=["GET"])
    async def batches(self, request: Request) -> bytes | Resource:
        """List batches, newest first."""
        token = self._admission.admit(request, "read")
        limit, cursor = argument(request, "limit", "50"), argument(request, "cursor")
        asked = read_query(request, BatchFilter)
        count = argument(request, "count") == "true"
        return answer_json(
            request, await self._listing.page(asked, limit, cursor, token.owner, count)
        )

    @app.route("/v1/batches", methods=["DELETE"])
    async def cancel_all(self, request: Request) -> bytes | Resource:
        """Cancel all batches that are queued or running: the token's, or everybody's."""
        token = self._admission.admit(request, "submit")
        states, confirm = argument(request, "status"), argument(request, "confirm")
        return answer_json(request, await self._intake.cancel_all(states, confirm, token.owner))

    @app.route("/v1/batches/<task_id>", methods=["GET"])
    async def batch(self, request: Request, task_id: str) -> bytes | Resource:
        """Show one batch."""
        key = await self._admit_to(request, "read", task_id)
        return answer_json(request, await self._listing.show(key))

    @app.route("/v1/batches/<task_id>/events", methods=["GET"])
    async def events(self, request: Request, task_id: str) -> bytes | Resource:
        """Tell one batch at every change, as server-sent events, until it has ended."""
        key = await self._admit_to(request, "read", task_id)
        stream = await self._management.events.stream(key, *self._admission.listening(request))
        if stream is None:
            request.setResponseCode(HTTPStatus.NO_CONTENT)  # a browser then asks no more
        return stream or b""

    @app.route("/v1/events", methods=["GET"])
    async def all_events(self, request: Request) -> bytes | Resource:
        """Tell the token's batches, or everybody's, at every change."""
        owner = self._admission.admit(request, "read").owner
        asked = read_query(request, BatchFilter)
        listening = self._admission.listening(request)
        return await self._management.events.stream_all(asked, owner, *listening)

    @app.route("/v1/batches/<task_id>", methods=["DELETE"])
    async def delete(self, request: Request, task_id: str) -> bytes | Resource:
        """Cancel a batch, or remove one that has ended; ``only`` says which of these is meant."""
        key = await self._admit_to(request, "submit", task_id)
        return answer_json(request, await self._intake.remove(key, argument(request, "only")))

    @app.route("/v1/batches/<task_id>/retry", methods=["POST"])
    async def retry(self, request: Request, task_id: str) -> bytes | Resource:
        """Fetch what failed once more."""
        key = await self._admit_to(request, "submit", task_id)
        self._admission.check_running()
        is_small, read = posted_retry(request)
        retry = read() if is_small else await self._threads.run(read)
        if argument(request, "check") == "true":
            return answer_json(request, await self._management.retries.plan(key, retry))
        shown = await self._management.retries.retry(key, retry)
        return answer_json(request, shown, HTTPStatus.ACCEPTED)

    @app.route("/v1/batches/<task_id>/notify", methods=["POST"])
    async def notify(self, request: Request, task_id: str) -> bytes | Resource:
        """Send a last callback that was given up once more."""
        key = await self._admit_to(request, "submit", task_id)
        return answer_json(request, await self._intake.notify(key), HTTPStatus.ACCEPTED)

    @app.route("/v1/batches/<task_id>/members", methods=["GET"])
    async def members(self, request: Request, task_id: str) -> bytes | Resource:
        """Show a batch's members, page by page."""
        key = await self._admit_to(request, "read", task_id)
        asked = read_query(request, MembersQuery)
        record = await self._listing.record(key)
        return answer_json(request, await self._management.members.page(record, asked))

    @app.route("/v1/batches/<task_id>/manifest", methods=["GET"])
    async def manifest(self, request: Request, task_id: str) -> Resource:
        """Show how each member ended, a line for each."""
        key = await self._admit_to(request, "read", task_id)
        pieces = await self._intake.manifest(key, argument(request, "part"))
        request.setHeader("Content-Type", "application/jsonl")
        return StreamedBody(pieces)

    @app.route("/v1/batches/<task_id>", methods=["PATCH"])
    async def change(self, request: Request, task_id: str) -> bytes | Resource:
        """Change the priority of a batch that waits."""
        key = await self._admit_to(request, "submit", task_id)
        priority = read_body(request, Change).priority
        return answer_json(request, await self._intake.prioritise(key, priority))

    @app.route("/openapi.json", methods=["GET"])
    def openapi(self, request: Request) -> bytes | Resource:
        """Describe the API."""
        self._admission.count(request)
        return answer_json(request, document(), texts=False)

    @app.route("/healthz", methods=["GET"])
    def healthz(self, request: Request) -> bytes | Resource:
        """Say that the process lives."""
        self._admission.count_health(request)
        return answer_json(request, {"status": "ok"})

    @app.route("/readyz", methods=["GET"])
    async def readyz(self, request: Request) -> bytes | Resource:
        """Say whether a batch would be taken in and begun now, and what would delay it."""
        self._admission.count_health(request)
        self._admission.check_running()
        return answer_json(request, {"status": "ready", "waits_for": await self._intake.ready()})
