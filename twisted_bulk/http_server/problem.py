"""Errors as RFC 9457 problems, on both ports."""

from http import HTTPStatus

import msgspec
from twisted.web.http import Request

from twisted_bulk.errors import BulkError, Unauthorized, Unavailable

BEARER = 'Bearer realm="bulkwav"'
SMALL = 100_000  # bytes of a body that are kept in memory, and for nobody a reason to ask


def problem_body(status: int, code: str, detail: str) -> bytes:
    """An RFC 9457 object, with our ``code``."""
    about = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": int(status)}
    return msgspec.json.encode(about | {"code": code, "detail": detail}) + b"\n"


def problem(request: Request, error: BulkError) -> bytes:
    """Set the status and headers for ``error``; returns the body."""
    request.setResponseCode(error.status)
    request.setHeader("Content-Type", "application/problem+json")
    if isinstance(error, Unavailable):
        request.setHeader("Retry-After", str(error.retry_after))
    if isinstance(error, Unauthorized):
        request.setHeader("WWW-Authenticate", BEARER)
    body = problem_body(error.status, error.code, str(error))
    request.setHeader("Content-Length", str(len(body)))
    return body
