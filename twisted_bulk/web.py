"""The API on port 10000: Klein over :class:`Intake`. Rooms: api/."""

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, BinaryIO, Protocol, cast

import msgspec
from klein import Klein
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from twisted.internet.defer import DeferredSemaphore
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from werkzeug.exceptions import HTTPException

from twisted_bulk.api.intake import Intake
from twisted_bulk.api.openapi import document
from twisted_bulk.api.order import read_order
from twisted_bulk.api.submission import Change, Control, Rates, read
from twisted_bulk.api.tokens import Access, Token
from twisted_bulk.errors import (
    BadRequest,
    BulkError,
    Forbidden,
    MethodNotAllowed,
    NoFilePort,
    NotFound,
    ProtectedMode,
    QueueUnavailable,
    Stopping,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
)
from twisted_bulk.http_server.connection_limits import ConnectionLimits, RequestRate
from twisted_bulk.http_server.connection_metrics import Connections
from twisted_bulk.http_server.klein_resource import KleinResource, release
from twisted_bulk.http_server.preconditions import matches
from twisted_bulk.http_server.problem import problem
from twisted_bulk.http_server.site import BoundedRequest, StreamedBody, header

log = Logger()

LARGE = 64 * 1024  # bytes of other calls' bodies, at most, and of answers that are sent at once
SMALL = 16 * 1024  # batches from this size on are read on a thread
READERS = 2  # threads that do that at once: they take turns with the reactor's
HEALTH = 10  # questions about its health that a client has for one other request


def _json(request: Request, value: Any, status: int = HTTPStatus.OK) -> bytes | Resource:
    body = msgspec.json.encode(value) + b"\n"
    if request.method in (b"GET", b"HEAD"):
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        request.setHeader("ETag", tag)
        request.setHeader("Cache-Control", "private, no-cache")
        if matches(header(request, "If-None-Match") or "", tag, weakly=True):
            request.setResponseCode(HTTPStatus.NOT_MODIFIED)
            return b""
    else:
        request.setHeader("Cache-Control", "no-store")
    request.setResponseCode(status)
    request.setHeader("Content-Type", "application/json")
    request.setHeader("Content-Length", str(len(body)))
    return StreamedBody.of(body) if len(body) > LARGE and request.method != b"HEAD" else body


def _body(request: Request) -> tuple[BinaryIO, int]:
    """The request's body, which says that it is JSON, and how many bytes it has."""
    media = (header(request, "Content-Type") or "").partition(";")[0].strip().lower()
    if media != "application/json" and not re.fullmatch(r"application/[\w.-]+\+json", media):
        raise UnsupportedMedia(f"Content-Type is {media or 'absent'}, not application/json")
    assert request.content is not None
    size = request.content.seek(0, os.SEEK_END)
    request.content.seek(0)
    return request.content, size


def _read(request: Request, kind: Any) -> Any:
    """The request's body, where it has to be a small one."""
    body, size = _body(request)
    if size > LARGE:
        raise TooLarge(f"the body of this call has at most {LARGE} bytes")
    return read(body.read(), kind)


def _argument(request: Request, name: str, default: str = "") -> str:
    values: list[bytes] = (request.args or {}).get(name.encode(), [])
    return values[-1].decode("utf-8", "replace") if values else default


class FilePort(Protocol):
    """This node's file port, as the API shows and changes it."""

    def shown(self) -> dict[str, Any]:
        """Who is served how fast."""

    def change(self, rate: int | None = None, total_rate: int | None = None) -> None:
        """Other limits, in bytes a second; None leaves one as it is."""

    def collect(self) -> Iterable[Metric]:
        """For Prometheus."""


class Api:
    """The resource of the API port.

    :param max_urls: URLs in one POST
    :param secrets: with what the callbacks of a token's batches are signed, by its name
    :param port: this node's file port, if it has one
    :param request_rate: requests a second of one token or address, or 0 for any number
    """

    app = Klein()

    def __init__(
        self,
        intake: Intake,
        access: Access,
        max_urls: int,
        secrets: Callable[[str], list[str]],
        port: FilePort | None = None,
        request_rate: int = 0,
    ) -> None:
        self._intake = intake
        self._access = access
        self._max_urls = max_urls
        self._secrets = secrets
        self._reading = DeferredSemaphore(READERS)
        self._port = port
        self._quota, self._health = RequestRate(request_rate), RequestRate(HEALTH * request_rate)
        self._metrics = CollectorRegistry()
        ProcessCollector(registry=self._metrics)
        if port is not None:
            self._metrics.register(port)
        self.stopping = False
        self.resource: Resource = KleinResource(self.app, self._failed)

    def watch(self, limits: ConnectionLimits) -> None:
        """Tell of this port's connections in the metrics."""
        self._metrics.register(Connections("bulkwav_api", limits))

    def stop(self) -> None:
        """Take no more batches in."""
        self.stopping = True

    def unwelcome(self, request: Request) -> BulkError | None:
        """Why a body need not come: nobody who may not send it shall fill the disk."""
        try:
            self._known(request, "submit")
            self._check_stopping()
        except BulkError as error:
            return error.with_traceback(None)
        return None

    def _known(self, request: Request, scope: str) -> Token:
        asked = cast(BoundedRequest, request)
        guesses = f"guesses {asked.client_key}"
        # Who guessed too often is not told whether this one is right.
        self._check_rate(self._quota.wait(guesses, asked.began, count=False))
        try:
            return self._access.check(asked, scope)
        except (Unauthorized, ProtectedMode):
            self._check_rate(self._quota.wait(guesses, asked.began))
            raise
        except Forbidden:
            self._count(request, self._quota)
            raise

    def _count(self, request: Request, quota: RequestRate) -> None:
        """A call that is for everybody counts for its address.

        :raises TooManyRequests: this one asks too often
        """
        asked = cast(BoundedRequest, request)
        self._check_rate(quota.wait(asked.client_key, asked.began))

    def _check_stopping(self) -> None:
        if self.stopping:
            raise Stopping("this node is stopping")

    def _check_rate(self, wait: float) -> None:
        if wait:
            raise TooManyRequests("too many requests", math.ceil(wait))

    def _admit(self, request: Request, scope: str) -> Token:
        """Every call that is not for everybody begins with this.

        :raises Unauthorized: or what else :meth:`Access.check` raises
        :raises TooManyRequests: the token, or the address that has none, asks too often
        """
        token = self._known(request, scope)
        asked = cast(BoundedRequest, request)
        who = f"token {token.name}" if token.name else asked.client_key
        self._check_rate(self._quota.wait(who, asked.began))
        return token

    async def _admit_to(self, request: Request, scope: str, task_id: str) -> str:
        """The same for a call on one batch, which others' tokens do not see; returns its key."""
        token = self._admit(request, scope)
        return await self._intake.find(task_id, token.name, token.owner is None)

    @app.route("/", methods=["POST"])
    @app.route("/v1/batches", methods=["POST"])
    async def submit(self, request: Request) -> bytes | Resource:
        """Take a batch in."""
        token = self._admit(request, "submit")
        self._check_stopping()
        body, size = _body(request)
        if size < SMALL:
            order = read_order(body, self._max_urls)
        else:
            order = await self._reading.run(deferToThread, read_order, body, self._max_urls)
        ticket = await self._intake.submit(order, token.name)
        where = f"/v1/batches/{ticket.task_id}"
        request.setHeader("Location", where)
        if not ticket.new:
            return _json(request, ticket.shown | {"self": where})
        # A worker may have taken it already; what was accepted was queued.
        answer = {"task_id": ticket.task_id, "status": "queued", "total": len(order)}
        answer |= {"position": ticket.shown["position"], "self": where}
        return _json(request, answer, HTTPStatus.ACCEPTED)

    @app.route("/v1/batches", methods=["GET"])
    async def batches(self, request: Request) -> bytes | Resource:
        """List batches, newest first."""
        token = self._admit(request, "read")
        limit = _argument(request, "limit", "50")
        status, cursor = _argument(request, "status"), _argument(request, "cursor")
        callback = _argument(request, "callback")
        return _json(request, await self._intake.page(status, limit, cursor, callback, token.owner))

    @app.route("/v1/batches", methods=["DELETE"])
    async def cancel_all(self, request: Request) -> bytes | Resource:
        """Cancel all that are queued or running: those of the token, or everybody's."""
        token = self._admit(request, "submit")
        states, confirm = _argument(request, "status"), _argument(request, "confirm")
        return _json(request, await self._intake.cancel_all(states, confirm, token.owner))

    @app.route("/v1/batches/<task_id>", methods=["GET"])
    async def batch(self, request: Request, task_id: str) -> bytes | Resource:
        """Show one batch."""
        key = await self._admit_to(request, "read", task_id)
        return _json(request, await self._intake.show(key))

    @app.route("/v1/batches/<task_id>", methods=["DELETE"])
    async def delete(self, request: Request, task_id: str) -> bytes | Resource:
        """Cancel a batch, or remove one that has ended."""
        key = await self._admit_to(request, "submit", task_id)
        return _json(request, await self._intake.remove(key))

    @app.route("/v1/batches/<task_id>/retry", methods=["POST"])
    async def retry(self, request: Request, task_id: str) -> bytes | Resource:
        """Fetch what failed once more."""
        key = await self._admit_to(request, "submit", task_id)
        self._check_stopping()
        return _json(request, await self._intake.retry(key), HTTPStatus.ACCEPTED)

    @app.route("/v1/batches/<task_id>/notify", methods=["POST"])
    async def notify(self, request: Request, task_id: str) -> bytes | Resource:
        """Send a last callback that was given up once more."""
        key = await self._admit_to(request, "submit", task_id)
        return _json(request, await self._intake.notify(key), HTTPStatus.ACCEPTED)

    @app.route("/v1/batches/<task_id>/manifest", methods=["GET"])
    async def manifest(self, request: Request, task_id: str) -> Resource:
        """What became of each member, a line for each."""
        key = await self._admit_to(request, "read", task_id)
        pieces = await self._intake.manifest(key, _argument(request, "part"))
        request.setHeader("Content-Type", "application/jsonl")
        return StreamedBody(pieces)

    @app.route("/v1/batches/<task_id>", methods=["PATCH"])
    async def change(self, request: Request, task_id: str) -> bytes | Resource:
        """Another priority for a batch that waits."""
        key = await self._admit_to(request, "submit", task_id)
        change = _read(request, Change)
        return _json(request, await self._intake.prioritise(key, change.priority))

    @app.route("/v1/stats", methods=["GET"])
    async def stats(self, request: Request) -> bytes | Resource:
        """Counts, rates, how long it will take, and who works."""
        self._admit(request, "admin")
        return _json(request, await self._intake.stats())

    @app.route("/v1/queue", methods=["PATCH"])
    async def control(self, request: Request) -> bytes | Resource:
        """Change the live settings of the queue of parts."""
        self._admit(request, "admin")
        control = _read(request, Control)
        return _json(request, await self._intake.control(control.given))

    @app.route("/v1/files", methods=["GET"])
    async def files(self, request: Request) -> bytes | Resource:
        """Who is served how fast by this node's file port."""
        self._admit(request, "admin")
        return _json(request, self._file_port.shown())

    @app.route("/v1/files", methods=["PATCH"])
    async def rates(self, request: Request) -> bytes | Resource:
        """Change its limits."""
        self._admit(request, "admin")
        rates: Rates = _read(request, Rates)
        self._file_port.change(rates.rate, rates.total_rate)
        return _json(request, self._file_port.shown())

    @property
    def _file_port(self) -> FilePort:
        if self._port is None:
            raise NoFilePort("this node has no file port (see --roles)")
        return self._port

    @app.route("/v1/secret", methods=["GET"])
    def secret(self, request: Request) -> bytes | Resource:
        """With what the callbacks of this token's batches are signed."""
        token = self._admit(request, "submit")
        return _json(request, {"secrets": self._secrets(token.name)})

    @app.route("/metrics", methods=["GET"])
    def metrics(self, request: Request) -> bytes:
        """Everything that is counted, as Prometheus reads it."""
        self._admit(request, "read")
        request.setHeader("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        return generate_latest(self._metrics)

    @app.route("/openapi.json", methods=["GET"])
    def openapi(self, request: Request) -> bytes | Resource:
        """Describe the API."""
        self._count(request, self._quota)
        return _json(request, document())

    @app.route("/healthz", methods=["GET"])
    def healthz(self, request: Request) -> bytes | Resource:
        """Say that the process lives."""
        self._count(request, self._health)
        return _json(request, {"status": "ok"})

    @app.route("/readyz", methods=["GET"])
    async def readyz(self, request: Request) -> bytes | Resource:
        """Say whether a batch would be taken in and begun now, and what would keep it waiting."""
        self._count(request, self._health)
        self._check_stopping()
        return _json(request, {"status": "ready", "waits_for": await self._intake.ready()})

    def _failed(self, request: Request, error: Exception) -> bytes:
        if isinstance(error, HTTPException | BadRequest):
            error = self._not_routed(request, error)
        if not isinstance(error, BulkError):
            log.failure("{path} broke", Failure(error), path=request.path.decode("latin-1"))
            release(error)
            return problem(request, BulkError("an internal error; the log tells more"))
        if isinstance(error, Unavailable):
            log.warn("{path}: {error}", path=request.path.decode("latin-1"), error=str(error))
        release(error)
        if isinstance(error, QueueUnavailable):  # where the server is concerns nobody else
            error = QueueUnavailable("the queue does not answer", error.retry_after)
        return problem(request, error)

    def _not_routed(self, request: Request, error: HTTPException | BadRequest) -> BulkError:
        """What is said of a path or a method that there is not."""
        try:
            self._count(request, self._quota)
        except TooManyRequests as often:
            return often
        if isinstance(error, BadRequest):
            return error
        for name, value in error.get_headers():
            if name.lower() in ("allow", "location"):
                request.setHeader(name, value)
        said = f"{request.method.decode('latin-1')} is not possible here"
        return (MethodNotAllowed if error.code == 405 else NotFound)(said)
