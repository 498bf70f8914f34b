"""The bodies of requests and answers: JSON with entity tags, and errors as problems."""

import hashlib
import os
import re
import zlib
from collections.abc import Callable
from http import HTTPStatus
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, TypeVar

import msgspec
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from werkzeug.exceptions import HTTPException

from twisted_bulk.errors import (
    BadRequest,
    BulkError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    QueueUnavailable,
    TooLarge,
    TooManyRequests,
    Unavailable,
    UnsupportedMedia,
)
from twisted_bulk.http_server.klein_resource import release
from twisted_bulk.http_server.preconditions import matches
from twisted_bulk.http_server.problem import problem
from twisted_bulk.http_server.request import header
from twisted_bulk.http_server.streamed_body import StreamedBody
from twisted_bulk.orders.decoding import read
from twisted_bulk.orders.order import Order, read_order
from twisted_bulk.orders.outline import BOM
from twisted_bulk.orders.submission import Retry

log = Logger()

_Query = TypeVar("_Query", bound=msgspec.Struct)

#: Bytes of the body of a call other than a POST of a batch (more is 413), and of an answer that is
#: sent at once.
MAX_AT_ONCE = 64 * 1024
MAX_RETRY_BYTES = 1 << 20  # of the body of a retry; more is 413
MAX_BULK_BYTES = 256 * 1024  # of the body of a plan for many batches; more is 413
_GZIP = 31  # zlib's number for gzip
THREAD_BYTES = 16 * 1024  # of a batch, from which it is read on a thread


#: May be a number that JavaScript rounds, as it is beyond 2^53.
_LONG_NUMBER = re.compile(rb"[:\[,]-?[0-9]{16,}")
MAX_EXACT = 2**53


def _exact(value: Any) -> Any:
    """A value with texts in place of numbers beyond 2^53."""
    if isinstance(value, dict):
        return {key: _exact(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_exact(one) for one in value]
    return str(value) if isinstance(value, int) and abs(value) > MAX_EXACT else value


def answer_json(
    request: Request, value: Any, status: int = HTTPStatus.OK, *, texts: bool = True
) -> bytes | Resource:
    """The answer to a request, as JSON; 304 if the client has it already.

    :param texts: numbers beyond 2^53 are sent as texts
    """
    body = msgspec.json.encode(value) + b"\n"
    if texts and _LONG_NUMBER.search(body):
        body = msgspec.json.encode(_exact(value)) + b"\n"
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
    is_large = len(body) > MAX_AT_ONCE and request.method != b"HEAD"
    return StreamedBody.of(body) if is_large else body


def json_body(request: Request) -> tuple[BinaryIO, int]:
    """The file of a request's body, and its size in bytes.

    A program may call it anything: PHP sends what it posts as a form. A browser may not, as another
    site's page could send a form without being asked (CSRF).

    :raises UnsupportedMedia: a browser sends it, and does not say that it is JSON; or it is encoded
        in another way than gzip
    """
    media = (header(request, "Content-Type") or "").partition(";")[0].strip().lower()
    from_browser = header(request, "Origin") is not None or header(request, "Sec-Fetch-Site")
    is_json = media == "application/json" or re.fullmatch(r"application/[\w.-]+\+json", media)
    if from_browser and not is_json:
        raise UnsupportedMedia(f"Content-Type is {media or 'absent'}, not application/json")
    if _coding(request) not in ("", "identity", "gzip", "x-gzip"):
        raise UnsupportedMedia(f"Content-Encoding is {_coding(request)[:20]}, not gzip")
    assert request.content is not None
    size = request.content.seek(0, os.SEEK_END)
    request.content.seek(0)
    return request.content, size


def _coding(request: Request) -> str:
    return (header(request, "Content-Encoding") or "").strip().lower()


def is_packed(request: Request) -> bool:
    """Whether the body is a gzip of what it says."""
    return _coding(request).endswith("gzip")


def unpacked(body: BinaryIO, most: int) -> BinaryIO:
    """A gzip's content, in a file that is gone when it is closed. Blocks.

    :param most: bytes that it may have
    :raises TooLarge: it has more
    :raises InvalidRequest: it is no gzip
    """
    # It is closed when nothing refers to it any more, as the request's own body is.
    found: BinaryIO = SpooledTemporaryFile(MAX_AT_ONCE)  # type: ignore[assignment]  # noqa: SIM115
    unpack = zlib.decompressobj(_GZIP)
    try:
        while not unpack.eof and (data := unpack.unconsumed_tail or body.read(MAX_AT_ONCE)):
            found.write(unpack.decompress(data, MAX_AT_ONCE))
            if found.tell() > most:
                raise TooLarge(f"unpacked, the body is larger than {most} bytes")
        found.write(unpack.flush())
    except zlib.error:
        raise InvalidRequest("Content-Encoding is gzip, and the body is no gzip") from None
    if not unpack.eof or unpack.unused_data or body.read(1):
        raise InvalidRequest("Content-Encoding is gzip, and the body is not one whole gzip")
    found.seek(0)
    return found


def read_body(request: Request, kind: Any, most: int = MAX_AT_ONCE) -> Any:
    """Decode a small body.

    :param kind: the type of the result
    :raises TooLarge: it is larger than ``most``
    :raises InvalidRequest: it is not of this type
    """
    body, size = json_body(request)
    if size > most:
        raise TooLarge(f"the body of this call has at most {most} bytes")
    if is_packed(request):
        body = unpacked(body, most)
    return read(body.read().removeprefix(BOM), kind)


def posted_order(
    request: Request, max_urls: int, max_body: int
) -> tuple[bool, Callable[[], Order]]:
    """Whether a posted batch can be read without a thread, and the function that reads it.

    :param max_urls: URLs that it may have
    :param max_body: bytes that it may have when it is unpacked
    """
    body, size = json_body(request)
    packed = is_packed(request)

    def read_it() -> Order:
        return read_order(unpacked(body, max_body) if packed else body, max_urls)

    return size < THREAD_BYTES and not packed, read_it


def posted_retry(request: Request) -> tuple[bool, Callable[[], Retry]]:
    """As :func:`posted_order`, of a retry; its body may be empty."""
    size = json_body(request)[1]
    if not size:
        return True, Retry
    is_small = size < THREAD_BYTES and not is_packed(request)
    return is_small, lambda: read_body(request, Retry, MAX_RETRY_BYTES)


def argument(request: Request, name: str, default: str = "") -> str:
    """The last value of a query parameter."""
    values: list[bytes] = (request.args or {}).get(name.encode(), [])
    return values[-1].decode("utf-8", "replace") if values else default


def read_query(request: Request, kind: type[_Query]) -> _Query:
    """The query parameters that a type of structs has as fields of text."""
    known = msgspec.structs.fields(kind)
    return kind(**{one.name: argument(request, one.name, one.default) for one in known})


def answer_error(request: Request, error: Exception, count: Callable[[Request], object]) -> bytes:
    """The answer for an error of a handler, or of the search for one.

    :param count: counts a request for an unknown path; may raise TooManyRequests
    """
    path = request.path.decode("latin-1")
    if isinstance(error, HTTPException | BadRequest):
        error = _unknown_call(request, error, count)
    if not isinstance(error, BulkError):
        log.failure("{path} broke", Failure(error), path=path)
        release(error)
        return problem(request, BulkError("an internal error; the log tells more"))
    if isinstance(error, Unavailable):
        log.warn("{path}: {error}", path=path, error=str(error))
    release(error)
    if isinstance(error, QueueUnavailable):  # the server's address is for the operator
        error = QueueUnavailable("the queue does not answer", error.retry_after)
    return problem(request, error)


def _unknown_call(
    request: Request, error: HTTPException | BadRequest, count: Callable[[Request], object]
) -> BulkError:
    """The error for an unknown path, or a method that the path does not have."""
    try:
        count(request)
    except TooManyRequests as often:
        return often
    if isinstance(error, BadRequest):
        return error
    for name, value in error.get_headers():
        if name.lower() in ("allow", "location"):
            request.setHeader(name, value)
    said = f"{request.method.decode('latin-1')} is not possible here"
    return (MethodNotAllowed if error.code == 405 else NotFound)(said)
