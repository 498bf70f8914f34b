"""The API's description, as ``GET /openapi.json`` has it (OpenAPI 3.1).

Made from the types of requests and answers. Pure.
"""

import functools
import inspect
import re
from types import UnionType
from typing import Any, NamedTuple, get_args

import msgspec

from twisted_bulk import __version__
from twisted_bulk.api.answers import (
    Accepted,
    Answer,
    Batch,
    Known,
    MembersPage,
    Page,
    Problem,
    Session,
)
from twisted_bulk.api.plans import BulkAction, BulkActions, Preflight, RetryPlan
from twisted_bulk.errors import BulkError, catalogue
from twisted_bulk.orders.queries import BatchFilter, MembersQuery
from twisted_bulk.orders.submission import (
    BulkOrder,
    Change,
    Control,
    NamedMember,
    Rates,
    Retry,
    Submission,
)

REF = "#/components/schemas/{name}"
JSON = "application/json"


class Call(NamedTuple):
    """One call: what it takes, and what it answers by status."""

    method: str
    path: str
    does: str
    body: Any = None
    answers: dict[int, Any] = {200: dict}
    query: tuple[str, ...] = ()


class Events:
    """An answer of server-sent events."""


class Html:
    """An answer for a browser."""


FILTER = BatchFilter.__struct_fields__
MEMBERS = MembersQuery.__struct_fields__


ONE = "/v1/batches/{task_id}"
BULK = "/v1/bulk/{bulk}"
CALLS = (
    Call("get", "/", "The page for people", None, {200: Html}),
    Call("get", "/page/{name}", "Its files", None, {200: Html}),
    Call("post", "/v1/batches", "Take a batch in", Submission,
         {202: Accepted, 200: Known | Preflight}, ("check", "probe")),
    Call("post", "/", "The same", Submission, {202: Accepted, 200: Known | Preflight},
         ("check", "probe")),
    Call("get", "/v1/batches", "List batches, newest first", None, {200: Page},
         (*FILTER, "limit", "cursor", "count")),
    Call("delete", "/v1/batches", "Cancel all that are queued or running; to be called twice", None,
         {200: dict}, ("status", "confirm")),
    Call("get", ONE, "Show a batch", None, {200: Batch}),
    Call("get", f"{ONE}/events", "A batch at every change, as server-sent events", None,
         {200: Events, 204: None}),
    Call("get", "/v1/events", "All batches at every change, as server-sent events", None,
         {200: Events}, FILTER),
    Call("get", f"{ONE}/members", "A batch's members", None, {200: MembersPage}, MEMBERS),
    Call("delete", ONE, "Cancel a batch, or remove one that has ended", None, {200: Batch},
         ("only",)),
    Call("patch", ONE, "Another priority", Change, {200: Batch}),
    Call("post", f"{ONE}/retry", "Fetch what failed once more", Retry, {202: Batch, 200: RetryPlan},
         ("check",)),
    Call("post", f"{ONE}/notify", "Send a last callback that was given up once more", None,
         {202: Batch}),
    Call("get", f"{ONE}/manifest", "What became of each member, as JSON lines", None, {200: bytes},
         ("part",)),
    Call("get", "/v1/secret", "With what the callbacks of this token's batches are signed"),
    Call("post", "/v1/bulk", "Plan one action on many batches", BulkOrder, {201: BulkAction}),
    Call("get", "/v1/bulk", "List the latest bulk actions", None, {200: BulkActions}),
    Call("get", BULK, "Show a bulk action", None, {200: BulkAction}),
    Call("post", f"{BULK}/start", "Start a bulk action that was planned", None, {202: BulkAction}),
    Call("post", f"{BULK}/stop", "Stop a bulk action", None, {200: BulkAction}),
    Call("get", "/v1/session", "What this client may do", None, {200: Session}),
    Call("get", "/v1/stats", "Counts, rates, who works", None, {200: dict}, ("minutes",)),
    Call("patch", "/v1/queue", "Live settings of the queue", Control),
    Call("get", "/v1/files", "Who is served how fast by this node"),
    Call("patch", "/v1/files", "This node's limits", Rates),
    Call("get", "/metrics", "For Prometheus", None, {200: str}),
    Call("get", "/healthz", "Whether the process lives"),
    Call("get", "/readyz", "Whether a batch would be taken in now"),
    Call("get", "/openapi.json", "This description"),
)  # fmt: skip
OPEN = ("/healthz", "/readyz", "/openapi.json", "/", "/page/{name}")  # need no token
MEDIA = {
    bytes: "application/jsonl",
    str: "text/plain",
    Events: "text/event-stream",
    Html: "text/html",
}


@functools.cache
def document() -> dict[str, Any]:
    """The whole of it."""
    kinds = [
        one for call in CALLS for kind in (call.body, *call.answers.values()) for one in _each(kind)
    ]
    types = [NamedMember, Problem, *(one for one in dict.fromkeys(kinds) if _is_named(one))]
    _, schemas = msgspec.json.schema_components(types, ref_template=REF)
    answers = {one.__name__ for one in Answer.__subclasses__()} | {Known.__name__}
    for name, schema in schemas.items():
        if name in answers:
            schema["additionalProperties"] = False
        schema["description"] = schema.get("description", "").partition("\n\n")[0]
    # A string that is no URL is a member that fails with bad_url, so a pattern would be wrong.
    url = {"type": "string"}
    fields = schemas["Submission"]["properties"]
    fields["download"] |= {
        "minItems": 1,
        "items": {"anyOf": [url, {"$ref": REF.format(name="NamedMember")}]},
    }
    fields["task_id"]["anyOf"][0] |= {"pattern": r"^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}$"}
    schemas["NamedMember"]["properties"]["url"] |= url
    schemas["NamedMember"]["properties"]["sha256"] |= {"pattern": "^([0-9a-fA-F]{64})?$"}
    paths: dict[str, dict[str, Any]] = {}
    for call in CALLS:
        paths.setdefault(call.path, {})[call.method] = _operation(call)
    return {
        "openapi": "3.1.0",
        "info": {"title": "bulkwav", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(call: Call) -> dict[str, Any]:
    found: dict[str, Any] = {"summary": call.does, "responses": _responses(call)}
    if call.path not in OPEN:
        found["security"] = [{"token": []}, {}]
    parameters = [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
        for name in call.query
    ]
    parameters += [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", call.path)
    ]
    if parameters:
        found["parameters"] = parameters
    if call.body is not None:
        schema = {"$ref": REF.format(name=call.body.__name__)}
        found["requestBody"] = {
            "required": call.body is not Retry,
            "content": {JSON: {"schema": schema}},
        }
    return found


def _each(kind: Any) -> tuple[Any, ...]:
    """A type, or those of which it is one."""
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def _is_named(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, msgspec.Struct)


def _responses(call: Call) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, kind in call.answers.items():
        if kind is None:
            found[str(status)] = {"description": "there is nothing to tell"}
            continue
        if kind in MEDIA:
            content: dict[str, Any] = {MEDIA[kind]: {"schema": {"type": "string"}}}
        else:
            some: list[dict[str, Any]] = [
                {"$ref": REF.format(name=one.__name__)} if _is_named(one) else {"type": "object"}
                for one in _each(kind)
            ]
            schema = {"anyOf": some} if len(some) > 1 else some[0]
            content = {JSON: {"schema": schema}}
        found[str(status)] = {"description": "done", "content": content}
    problem = {"schema": {"$ref": REF.format(name="Problem")}}
    codes: dict[int, list[str]] = {}
    for error in catalogue():
        codes.setdefault(error.status.value, []).append(error.code)
    for status, names in sorted(codes.items()):
        if error_of(call, status):
            text = ", ".join(sorted(names))
            content = {"application/problem+json": problem}
            found[str(status)] = {"description": text, "content": content}
    if call.method == "get":
        found["304"] = {"description": "as `If-None-Match` says, it has not changed"}
    return found


def error_of(call: Call, status: int) -> bool:
    """Whether ``call`` may answer with this error."""
    if status in (400, 404, 405, 408, 413, 429, BulkError.status, 503):
        return True
    if status in (401, 403):
        return call.path not in OPEN
    if status == 415:
        return call.body is not None
    if status == 421:
        return call.path.endswith("/manifest")
    if status == 507 and call.path == "/readyz":
        return True
    if status == 409 and call.method == "delete":
        return True
    return status in (409, 507) and call.method == "post"
