"""Reads a response: strictly where its length or our safety depends on it, else as curl does.

A header line that cannot be read is left out. A response whose length two readers might tell
differently (RFC 9112, 6.3) fails, and the error's detail has the line.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from twisted.web._newclient import STATUS, HTTPClientParser
from twisted.web.http import _ChunkedTransferDecoder, _MalformedChunkedDataError
from twisted.web.http_headers import InvalidHeaderName

from twisted_bulk.errors import MemberError

MAX_HEADER_LINE = 64 * 1024  # bytes of one line; a longer one is `headers_too_large`
#: Bytes of one response's headers, with responses 1xx before it; more is `headers_too_large`.
MAX_HEADER_BYTES = 2 * MAX_HEADER_LINE
MAX_CHUNK_LINE = 1024  # bytes of the line with a chunk's size; more is `bad_response`
MAX_SHOWN = 80  # bytes of a line in an error's detail

#: ``ICY`` is what SHOUTcast servers say instead of ``HTTP/1.0``.
_STATUS_LINE = re.compile(
    rb"(?:HTTP/([0-9])(?:\.([0-9]))?|ICY)[ \t]+([1-9][0-9]{2})(?![0-9])[ \t]*(.*)"
)
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_PACKINGS = {b"gzip", b"x-gzip", b"deflate"}  # transfer codings beside chunked
_CONTENT_ENCODING = b"content-encoding"


@dataclass
class Facts:
    """About a response, as far as Twisted does not tell it.

    :param broken: the connection was lost with an error, and not closed
    :param codings: those of Content-Encoding, and of Transfer-Encoding but for chunked
    """

    broken: bool = False
    codings: list[str] = field(default_factory=list)


def facts_of(response: Any) -> Facts:
    """The facts about a response, which treq may have wrapped. They are kept in the response."""
    original: Any = response
    while hasattr(original, "original"):
        original = original.original
    found: Facts | None = vars(original).get("facts")
    if found is None:
        found = vars(original)["facts"] = Facts()
    return found


def _shown(line: bytes) -> str:
    text = line[:MAX_SHOWN].decode("latin-1")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def too_large() -> MemberError:
    """The error for headers beyond a limit."""
    what = f"a line of more than {MAX_HEADER_LINE} bytes, or more than {MAX_HEADER_BYTES} in all"
    return MemberError("headers_too_large", what)


class ChunkedDecoder(_ChunkedTransferDecoder):
    """Decodes chunks. Blanks around a chunk's size, extensions and bare line feeds are ignored.

    Chunks that come together are passed on together: very small ones would cost much time.
    """

    def __init__(
        self, dataCallback: Callable[[bytes], None], finishCallback: Callable[[bytes], None]
    ) -> None:
        self._chunks: list[bytes] = []
        self._deliver, self._finish = dataCallback, finishCallback
        super().__init__(self._chunks.append, self._end)

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self._pass_on()

    def _pass_on(self) -> None:
        chunks = b"".join(self._chunks)
        self._chunks.clear()
        if chunks:
            self._deliver(chunks)

    def _end(self, rest: bytes) -> None:
        self._pass_on()
        self._finish(rest)

    def _line(self, most: int) -> bytes | None:
        """Take the next line; None: it has not come.

        :raises _MalformedChunkedDataError: it has more than ``most`` bytes
        """
        end = self._buffer.find(b"\n", 0, most + 1)
        if end < 0:
            if len(self._buffer) > most:
                raise _MalformedChunkedDataError
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.removesuffix(b"\r")

    def _dataReceived_CHUNK_LENGTH(self) -> bool:
        line = bytes(self._buffer[:MAX_SHOWN])
        try:
            found = self._line(MAX_CHUNK_LINE)
            line = line if found is None else found
            size = line.partition(b";")[0].strip(b" \t")
            if found is not None and not _CHUNK_SIZE.fullmatch(size):
                raise _MalformedChunkedDataError
        except _MalformedChunkedDataError:
            what = f"not the size of a chunk: {_shown(line)}"
            raise MemberError("bad_response", what) from None
        if found is None:
            return False
        self.length = int(size, 16)
        self.state = "BODY" if self.length else "TRAILER"
        return True

    def _dataReceived_CRLF(self) -> bool:
        if self._buffer == b"\r":
            return False
        end = 1 if self._buffer[:1] == b"\n" else 2
        if end == 2 and self._buffer[:2] != b"\r\n":
            what = f"a chunk is longer than its size: {_shown(bytes(self._buffer[:16]))}"
            raise MemberError("bad_response", what)
        self.state = "CHUNK_LENGTH"
        del self._buffer[:end]
        return True

    def _dataReceived_TRAILER(self) -> bool:
        try:
            line = self._line(MAX_HEADER_LINE - self._receivedTrailerHeadersSize)
        except _MalformedChunkedDataError:
            raise too_large() from None
        if line is None:
            return False
        self._receivedTrailerHeadersSize += len(line) + 2
        if line:
            return True
        rest = bytes(self._buffer)
        self._buffer.clear()
        self.state = "FINISHED"
        self.finishCallback(rest)
        return False


class ResponseParser(HTTPClientParser):
    """Twisted's parser, with our rules. Twisted calls the methods."""

    MAX_LENGTH = MAX_HEADER_LINE
    # treq would decode what it can, without a limit, if it saw this header.
    CONNECTION_CONTROL_HEADERS = HTTPClientParser.CONNECTION_CONTROL_HEADERS | {_CONTENT_ENCODING}
    _transferDecoders = {b"chunked": ChunkedDecoder}

    def lineLengthExceeded(self, line: bytes) -> None:
        raise too_large()

    def lineReceived(self, line: bytes) -> None:
        line = line.removesuffix(b"\r")
        if self.state == STATUS:
            super().lineReceived(line)
        elif line[:1] in (b" ", b"\t"):
            if self._partialHeader:  # else it continues nothing
                self._partialHeader.append(line)
        else:
            self._end_header(b"".join(self._partialHeader or []))
            self._partialHeader = [line]
            if not line:
                self._partialHeader = None
                self.allHeadersReceived()

    def _end_header(self, line: bytes) -> None:
        name, colon, value = line.partition(b":")
        if colon:
            with suppress(InvalidHeaderName):  # it is left out
                self.headerReceived(name.rstrip(b" \t"), value.strip())

    def statusReceived(self, status: bytes) -> None:
        found = _STATUS_LINE.fullmatch(status)
        if found is None:
            what = f"not the first line of an HTTP answer: {_shown(status)}"
            raise MemberError("bad_response", what)
        version = b"HTTP/%b.%b" % (found[1] or b"1", found[2] or b"0")
        super().statusReceived(b"%b %b %b" % (version, found[3], found[4]))

    def allHeadersReceived(self) -> None:
        if 100 <= self.response.code < 200:  # as Twisted, but for a line in the log
            self.connectionMade()
            del self.response
            return
        if self.response.code >= 200 and self.response.code not in self.NO_BODY_CODES:
            self._check_framing()
        super().allHeadersReceived()

    def _check_framing(self) -> None:
        """Leave one way to tell the body's length. :raises MemberError: there are two"""
        has, found = self.connHeaders.hasHeader, self.connHeaders.getRawHeaders(b"content-length")
        is_usual = found and len(found) == 1 and _LENGTH.fullmatch(found[0])
        if is_usual and not has(b"transfer-encoding") and not has(_CONTENT_ENCODING):
            return
        codings = [one.lower() for one in self._values(b"transfer-encoding")]
        lengths = self._values(b"content-length")
        codings = [one for one in codings if one != b"identity"]
        is_chunked = codings[-1:] == [b"chunked"]
        packed = codings[:-1] if is_chunked else codings  # it is decoded as a content coding is
        self.connHeaders.setRawHeaders(b"transfer-encoding", [b"chunked"] if is_chunked else [])
        self.connHeaders.setRawHeaders(b"content-length", lengths)
        wrong = ""
        if not set(packed) <= _PACKINGS:
            wrong = f"Transfer-Encoding: {_shown(b', '.join(codings))}"
        elif codings and lengths:
            wrong = f"Transfer-Encoding: {_shown(b', '.join(codings))}"
            wrong += f", and Content-Length: {_shown(lengths[0])}"
        elif not all(map(_LENGTH.fullmatch, lengths)) or len(set(map(int, lengths))) > 1:
            wrong = f"Content-Length: {_shown(b', '.join(lengths))}"
        if wrong and self.response.code in range(300, 400):  # its body is not needed
            self.connHeaders.setRawHeaders(b"transfer-encoding", [])
            self.connHeaders.setRawHeaders(b"content-length", [b"0"])
            request: Any = self.request
            request.persistent = False
        elif wrong:
            raise MemberError("bad_response", f"nobody can tell where the answer ends: {wrong}")
        facts_of(self.response).codings = [
            word.decode("latin-1") for word in (*self._values(_CONTENT_ENCODING), *packed)
        ]

    def _values(self, name: bytes) -> list[bytes]:
        """The words of a header that is a list."""
        joined = b",".join(self.connHeaders.getRawHeaders(name) or [])
        return [word for one in joined.split(b",") if (word := one.strip())]
