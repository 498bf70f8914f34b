"""The file port: finished zips, at the rate that each client address may have."""

import errno
import os
import stat
from base64 import b64encode
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request, datetimeToString, stringToDatetime
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from twisted_bulk.conditional import Answer, Conditions, Representation, evaluate
from twisted_bulk.shelf import DIGEST, FILE, FOLDER, Shelf
from twisted_bulk.site import abort, header, problem_body
from twisted_bulk.throttle import Ticker, key_of

log = Logger()

METHODS = b"GET, HEAD, OPTIONS"
STALL = 60  # seconds that a client may take nothing


class _Zip:
    """An open file of the shelf; its bytes stay readable even if it is deleted."""

    def __init__(self, descriptor: int, sha256: bytes) -> None:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise FileNotFoundError
        self.descriptor = descriptor
        self.sha256 = sha256
        self.what = Representation(about.st_size, f'"{sha256.hex()}"', int(about.st_mtime))


def _read(path: Any, folder: int) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    return os.open(path, flags, dir_fd=folder)


class Files(Resource):
    """``/<folder>/<file>.zip`` of the shelf."""

    isLeaf = True

    def __init__(self, shelf: Shelf, ticker: Ticker) -> None:
        super().__init__()
        self._shelf = shelf
        self._ticker = ticker

    def render(self, request: Request) -> int:
        serving = Deferred.fromCoroutine(self._serve(request))
        request.notifyFinish().addErrback(lambda _: serving.cancel())
        serving.addErrback(self._broken, request)
        return NOT_DONE_YET

    def _broken(self, failure: Failure, request: Request) -> None:
        if not failure.check(CancelledError):
            log.failure("serving {path} failed", failure, path=request.path)
            abort(request)

    async def _serve(self, request: Request) -> None:
        key = key_of(getattr(request.getClientAddress(), "host", ""))
        # A flood of small answers runs into debt; then they have to wait.
        while wait := self._ticker.throttle.wait(key, self._ticker.now()):
            await deferLater(self._ticker.clock, wait)
        if request.method == b"OPTIONS":
            request.setHeader("Allow", METHODS)
            self._short(request, key, 204, "", "")
        elif request.method not in (b"GET", b"HEAD"):
            request.setHeader("Allow", METHODS)
            self._short(request, key, 405, "method_not_allowed", "GET and HEAD only")
        else:
            try:
                found = self._open(request.path.decode("ascii", "replace"))
            except FileNotFoundError as missing:
                gone = bool(missing.args and missing.args[0] == "gone")
                code, status = ("gone", 410) if gone else ("no_such_file", 404)
                self._short(request, key, status, code, "there is no file under this link")
            else:
                taken = False
                try:
                    taken = self._answer(request, key, found)
                finally:
                    if not taken:
                        os.close(found.descriptor)

    def _open(self, path: str) -> _Zip:
        """:raises FileNotFoundError: with the argument ``gone`` if it once was there"""
        folder, _, name = path.removeprefix("/").partition("/")
        if not FOLDER.fullmatch(folder) or not FILE.fullmatch(name):
            raise FileNotFoundError
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        directory = os.open(self._shelf.public / folder, flags)
        try:
            if not os.listdir(directory):
                raise FileNotFoundError("gone")
            digest = _read(name + DIGEST, directory)
            try:
                sha256 = bytes.fromhex(os.read(digest, 64).decode("ascii"))
            finally:
                os.close(digest)
            descriptor = _read(name, directory)
            try:
                return _Zip(descriptor, sha256)
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as problem:
            if problem.errno in (errno.ELOOP, errno.ENOTDIR):
                raise FileNotFoundError from None
            raise
        finally:
            os.close(directory)

    def _short(self, request: Request, key: str, status: int, code: str, detail: str) -> None:
        """An answer without a file."""
        body = problem_body(status, code, detail) if code else b""
        request.setResponseCode(status)
        if body:
            request.setHeader("Content-Type", "application/problem+json")
            request.setHeader("Content-Length", str(len(body)))
        self._ticker.charge(key, _weight(request) + len(body))
        if request.method != b"HEAD":
            request.write(body)
        request.finish()

    def _answer(self, request: Request, key: str, found: _Zip) -> bool:
        """Answer; returns whether a transfer has taken the descriptor over."""
        what = found.what
        answer = evaluate(request.method.decode(), _conditions(request), what)
        request.setHeader("ETag", what.etag)
        request.setHeader("Last-Modified", datetimeToString(what.modified))
        request.setHeader("Accept-Ranges", "bytes")
        request.setHeader("Cache-Control", "private, no-transform")
        if answer.status == 416:
            request.setHeader("Content-Range", f"bytes */{what.size}")
        if answer.status not in (200, 206):
            # Twisted knows of 304 by itself that it has no body.
            code = {412: "precondition_failed", 416: "range_not_satisfiable"}.get(answer.status, "")
            self._short(request, key, answer.status, code, "see the request's conditions")
            return False
        self._describe(request, found, answer)
        self._ticker.charge(key, _weight(request))
        if request.method == b"HEAD" or answer.start == answer.end:
            request.write(b"")
            request.finish()
            return False
        _Transfer(request, self._ticker, key, found.descriptor, answer.start, answer.end)
        return True

    def _describe(self, request: Request, found: _Zip, answer: Answer) -> None:
        request.setResponseCode(answer.status)
        request.setHeader("Content-Type", "application/zip")
        request.setHeader("Content-Length", str(answer.end - answer.start))
        name = quote(request.path.decode("ascii").rsplit("/", 1)[1], safe="~")
        request.setHeader("Content-Disposition", f'attachment; filename="{name}"')
        digest = b64encode(found.sha256).decode()
        request.setHeader("Digest", f"SHA-256={digest}")
        request.setHeader("Repr-Digest", f"sha-256=:{digest}:")
        if answer.status == 206:
            span = f"bytes {answer.start}-{answer.end - 1}/{found.what.size}"
            request.setHeader("Content-Range", span)


def _weight(request: Request) -> int:
    """Bytes of the response's head."""
    headers = request.responseHeaders.getAllRawHeaders()
    return 64 + sum(len(name) + len(value) + 4 for name, values in headers for value in values)


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


@implementer(IPushProducer)
class _Transfer:
    """One file on its way to one client, whenever the throttle says so."""

    def __init__(
        self, request: Request, ticker: Ticker, key: str, descriptor: int, start: int, end: int
    ) -> None:
        self._request = request
        self._ticker = ticker
        self._key = key
        self._descriptor: int | None = descriptor
        self._at = start
        self._end = end
        self._stalled: IDelayedCall | None = None
        request.notifyFinish().addErrback(lambda _: self.stopProducing())
        request.registerProducer(self, True)
        ticker.join(key, self)

    def send(self, most: int) -> int:
        """As :class:`throttle.Flow` says."""
        if self._descriptor is None:
            return 0
        data = os.pread(self._descriptor, min(most, self._end - self._at), self._at)
        if not data:
            # The file shrank. Ending short would pass for the whole.
            self.stopProducing()
            abort(self._request)
            return 0
        self._at += len(data)
        self._request.write(data)
        if self._at == self._end:
            self.stopProducing()
            self._request.unregisterProducer()
            self._request.finish()
        return len(data)

    def pauseProducing(self) -> None:
        """The client takes nothing; if that lasts, it is cut off."""
        self._ticker.leave(self._key, self)
        self._stalled = self._ticker.clock.callLater(STALL, abort, self._request)

    def resumeProducing(self) -> None:
        self._moves()
        if self._descriptor is not None:
            self._ticker.join(self._key, self)

    def _moves(self) -> None:
        if self._stalled is not None and self._stalled.active():
            self._stalled.cancel()

    def stopProducing(self) -> None:
        self._moves()
        self._ticker.leave(self._key, self)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
