"""Answers the requests of the file port: a zip, its ranges, or an error."""

import errno
import re
from base64 import b64encode
from secrets import token_hex
from urllib.parse import quote

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request, datetimeToString, stringToDatetime

from twisted_bulk.errors import (
    BulkError,
    Gone,
    MethodNotAllowed,
    NoSuchFile,
    PreconditionFailed,
    RangeNotSatisfiable,
    Unavailable,
)
from twisted_bulk.files.open_zips import OpenZip, Zips, parse_link
from twisted_bulk.files.timer import ThrottleTimer
from twisted_bulk.files.transfer import Piece, Transfer, Transfers
from twisted_bulk.http_server.client_address import Clients
from twisted_bulk.http_server.connection_limits import RETRY_AFTER
from twisted_bulk.http_server.preconditions import Answer, Conditions, Span, evaluate
from twisted_bulk.http_server.problem import problem
from twisted_bulk.http_server.request import BoundedRequest, CoroutineResource, abort, header
from twisted_bulk.storage.folders import DataFolders

log = Logger()

METHODS = b"GET, HEAD, OPTIONS"


class Files(CoroutineResource):
    """The resource of ``/<folder>/<file>.zip``: the finished zips of ``folders``.

    ``transfers``: those under way.
    """

    def __init__(self, folders: DataFolders, timer: ThrottleTimer, clients: Clients) -> None:
        super().__init__()
        self._zips = Zips(folders)
        self._timer = timer
        self._clients = clients
        self.transfers = Transfers(timer)

    def broken(self, failure: Failure, request: BoundedRequest) -> None:
        if not failure.check(CancelledError):
            log.failure("serving {path} failed", failure, path=request.path)
            abort(request)

    async def answer(self, request: BoundedRequest) -> None:
        key = self._clients.key(request.client_address)
        await self._timer.admit(key)  # answers that are small and many wait here
        if request.method == b"OPTIONS":
            request.setHeader("Allow", METHODS)
            self._short(request, key, 204)
        elif request.method not in (b"GET", b"HEAD"):
            request.setHeader("Allow", METHODS)
            self._refuse(request, key, MethodNotAllowed("GET and HEAD only"))
        else:
            try:
                found = self._zips.open(request.path.decode("ascii", "replace"))
            except FileNotFoundError as missing:
                gone = missing.args and missing.args[0] == "gone"
                error = (Gone if gone else NoSuchFile)("there is no file under this link")
                self._refuse(request, key, error)
            except OSError as failed:
                if failed.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                self._refuse(request, key, Unavailable("too many files are open", RETRY_AFTER))
            else:
                try:
                    self._send(request, key, found)
                finally:
                    found.release()

    def _refuse(self, request: Request, key: str, error: BulkError) -> None:
        body = problem(request, error)
        request.setHeader("Cache-Control", "no-store")
        request.setHeader("Content-Length", str(len(body)))
        self._short(request, key, error.status, body)

    def _short(self, request: Request, key: str, status: int, body: bytes = b"") -> None:
        """Send an answer without a file."""
        request.setResponseCode(status)
        self._timer.charge(key, _weight(request) + len(body))
        if request.method != b"HEAD":
            request.write(body)
        request.finish()

    def _send(self, request: BoundedRequest, key: str, found: OpenZip) -> None:
        zip_file = found.representation
        answer = evaluate(request.method.decode("latin-1"), _conditions(request), zip_file)
        request.setHeader("Accept-Ranges", "bytes")
        if answer.status in (200, 206, 304):
            request.setHeader("ETag", zip_file.etag)
            request.setHeader("Last-Modified", datetimeToString(zip_file.modified))
            request.setHeader("Cache-Control", "private, no-transform, max-age=86400, immutable")
        elif answer.status == 416:
            request.setHeader("Content-Range", f"bytes */{zip_file.size}")
        if answer.status == 304:  # Twisted sends no body with it
            self._short(request, key, 304)
            return
        if answer.status not in (200, 206):
            error = PreconditionFailed if answer.status == 412 else RangeNotSatisfiable
            self._refuse(request, key, error("see the request's conditions"))
            return
        pieces = self._describe(request, found, answer)
        self._timer.charge(key, _weight(request))
        if request.method == b"HEAD" or not pieces:
            request.write(b"")
            request.finish()
        else:
            Transfer(request, self.transfers, key, found, pieces)

    def _describe(self, request: Request, found: OpenZip, answer: Answer) -> list[Piece]:
        """Set the headers of an answer with a file; returns the pieces of its body."""
        request.setResponseCode(answer.status)
        _, name = parse_link(request.path.decode("ascii", "replace"))
        request.setHeader("Content-Disposition", disposition(name))
        digest = b64encode(found.sha256).decode()
        request.setHeader("Digest", f"SHA-256={digest}")
        request.setHeader("Repr-Digest", f"sha-256=:{digest}:")
        kind, pieces = "application/zip", [span for span in answer.spans if span[0] < span[1]]
        body: list[Piece] = list(pieces)
        if answer.status == 206 and len(pieces) == 1:
            request.setHeader("Content-Range", _span(pieces[0], found.representation.size))
        elif answer.status == 206:
            kind, body = multipart(pieces, kind, found.representation.size, token_hex(16))
        request.setHeader("Content-Type", kind)
        length = sum(len(p) if isinstance(p, bytes) else p[1] - p[0] for p in body)
        request.setHeader("Content-Length", str(length))
        return body


def disposition(name: str) -> str:
    """The value of Content-Disposition for any file name (RFC 6266, RFC 8187)."""
    plain = re.sub(r"[^ !#-\[\]-~]", "_", name)
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='!#$&+.^_`|~-')}"
    return f'attachment; filename="{plain}"{extended}'


def _span(span: Span, size: int) -> str:
    return f"bytes {span[0]}-{span[1] - 1}/{size}"


def multipart(spans: list[Span], kind: str, size: int, boundary: str) -> tuple[str, list[Piece]]:
    """The Content-Type and the pieces of an answer with several ranges (RFC 9110, 14.6)."""
    body: list[Piece] = []
    for span in spans:
        head = f"--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {_span(span, size)}\r\n\r\n"
        body += [(head if not body else f"\r\n{head}").encode("ascii"), span]
    body.append(f"\r\n--{boundary}--\r\n".encode("ascii"))
    return f"multipart/byteranges; boundary={boundary}", body


def _weight(request: Request) -> int:
    """The bytes of the answer's head."""
    headers = request.responseHeaders.getAllRawHeaders()
    lines = (len(name) + len(value) + 4 for name, values in headers for value in values)
    return len(b"HTTP/1.1 200 \r\n\r\n") + len(request.code_message) + sum(lines)


def _conditions(request: Request) -> Conditions:
    def text(name: str) -> str | None:
        return header(request, name)

    def date(name: str) -> int | None:
        try:
            return int(stringToDatetime((text(name) or "").encode()))
        except (ValueError, IndexError, OverflowError):
            return None

    return Conditions(
        match=text("If-Match"),
        none_match=text("If-None-Match"),
        modified_since=date("If-Modified-Since"),
        unmodified_since=date("If-Unmodified-Since"),
        range=text("Range"),
        if_range=text("If-Range"),
        if_range_date=date("If-Range"),
    )
