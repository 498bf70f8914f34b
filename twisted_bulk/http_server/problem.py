"""Errors as RFC 9457 problems, on both ports."""

from http import HTTPStatus

import msgspec
from twisted.web.http import Request

from twisted_bulk.errors import BulkError, Unauthorized, Unavailable

BEARER = 'Bearer realm="bulkwav"'


def problem_body(status: int, code: str, detail: str) -> bytes:
    """An RFC 9457 object, with our ``code``."""
    about = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": int(status)}
    return msgspec.json.encode(about | {"code": code, "detail": detail}) + b"\n"


def problem_headers(error: BulkError) -> dict[str, str]:
    """The headers of a problem, but for Content-Length."""
    headers = {"Content-Type": "application/problem+json"}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = BEARER
    return headers


def last_answer(error: BulkError) -> bytes:
    """The whole answer to a request that is refused before Twisted has read it; none follows."""
    body = problem_body(error.status, error.code, str(error))
    headers = problem_headers(error) | {"Connection": "close", "Content-Length": str(len(body))}
    lines = [f"HTTP/1.1 {error.status.value} {error.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def problem(request: Request, error: BulkError) -> bytes:
    """Set the status and the headers of an answer for ``error``; returns the body."""
    body = problem_body(error.status, error.code, str(error))
    request.setResponseCode(error.status)
    for name, value in problem_headers(error).items():
        request.setHeader(name, value)
    request.setHeader("Content-Length", str(len(body)))
    return body
