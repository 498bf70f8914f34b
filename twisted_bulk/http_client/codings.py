"""Content codings (RFC 9110, 8.4): which ones are decoded, and decoding as the bytes come. Pure.

Requests ask for none. Some servers compress all the same, and some name what is no coding.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from twisted_bulk.errors import MemberError

#: Codings that are decoded, and those that are kept as they came.
GZIP = ("gzip", "x-gzip")
DECODED = (*GZIP, "deflate")
KEPT = ("br", "zstd", "compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip")
#: What a file is that is gzip itself: its server names its packing as a coding by mistake.
PACKED_ENDINGS = (".gz", ".tgz", ".taz", ".svgz", ".emz", ".wmz", ".cpgz", ".bgz")
PACKED_TYPES = frozenset(
    ("application/gzip", "application/x-gzip", "application/x-tgz", "application/x-gtar-compressed")
)
MAX_CODINGS = 3  # one upon the other; a body with more is kept as it came
PIECE_BYTES = 256 * 1024  # of decoded bytes that are passed on at once
HEAD_BYTES = 16  # at the beginning of a body, by which its coding is known
MAX_KEPT = 64 * 1024  # bytes of a body that may turn out not to be encoded at all
MAX_MEMBERS = 10_000  # gzips one behind the other in one body; more is `content_encoded`
#: A body that grows beyond both is a bomb: it fails with `content_encoded`.
MAX_GROWTH, FREE_BYTES = 200, 64 << 20


def codings_of(values: Iterable[str]) -> list[str]:
    """The codings that the values of Content-Encoding name, in the order in which they were made.

    Words that name no coding (none, utf-8, binary, aws-chunked ...) are left out.
    """
    words = [word.strip().lower() for value in values for word in value.split(",")]
    return [word for word in words if word in DECODED or word in KEPT]


def to_decode(codings: list[str], path: str, media: str) -> tuple[str, ...]:
    """The codings of a body that is decoded; none: it is kept as it came.

    The file's own packing is no coding: it is removed from ``codings``.

    :param path: of the URL; ``media``: of Content-Type, without parameters
    """
    if not codings or len(codings) > MAX_CODINGS or any(one in KEPT for one in codings):
        return ()
    packed = path.lower().endswith(PACKED_ENDINGS) or media in PACKED_TYPES
    if len(codings) == 1 and codings[0] in GZIP and packed:
        codings.clear()
    return tuple(codings)


class _Step:
    """Decodes one coding. A body that is not encoded at all passes as it is, as with curl.

    ``passes``: its bytes are passed on as they are. ``ended``: its end was seen; what follows is
    another gzip, or waste.

    :param gzip: gzip (RFC 1952), else deflate (RFC 1950, or 1951 as some servers send)
    """

    def __init__(self, gzip: bool) -> None:
        self._gzip = gzip
        self._head = b""
        self._inflate: Any = None
        #: Raw deflate has no mark by which it is known: its bytes are kept until it is decoded to
        #: some. None: they are not kept.
        self._kept: bytes | None = None
        self._members = 0
        self._growth = _Growth()
        self.passes = self.ended = False

    def pieces(self, data: bytes, last: bool = False) -> Iterator[bytes]:
        """The decoded bytes of ``data``, in pieces of :data:`PIECE_BYTES` at most.

        An empty piece now and then lets the caller do something else between.

        :param last: no more follow
        """
        self._growth.taken += len(data)
        while (data or (last and self._head)) and not self.passes:
            if self._inflate is None:
                data, self._head = self._head + data, b""
                if len(data) < HEAD_BYTES and not last:
                    self._head = data
                    return
                self._begin(data)
                continue
            yield from self._some(data)
            if not self._inflate.eof:
                return
            data, self._inflate, self.ended = self._inflate.unused_data, None, True
        if data and not self.ended:
            yield data

    def _begin(self, data: bytes) -> None:
        """Look at the first bytes, which tell how the rest is encoded."""
        self._members += 1
        if self._members > MAX_MEMBERS:
            what = f"the body consists of more than {MAX_MEMBERS} compressed pieces"
            raise MemberError("content_encoded", what)
        if self._gzip:
            self.passes = data[:2] != b"\x1f\x8b"  # behind a whole gzip it is waste
            bits = 31
        else:
            self.passes = self.ended
            is_zlib = data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0
            bits = 15 if is_zlib else -15
        self._inflate = zlib.decompressobj(bits)
        self._kept = b"" if bits < 0 else None

    def _some(self, data: bytes) -> Iterator[bytes]:
        if self._kept is not None:
            self._kept = self._kept + data if len(self._kept) < MAX_KEPT else None
        while True:
            try:
                piece = self._inflate.decompress(data, PIECE_BYTES)
            except zlib.error:
                if self._kept is not None:
                    self.passes = True
                    yield self._kept
                    return
                what = "the body is not what its Content-Encoding says"
                raise MemberError("content_encoded", what) from None
            if piece:
                self._kept = None
            self._growth.give(len(piece))
            yield piece
            data = self._inflate.unconsumed_tail
            if self._inflate.eof or (not data and len(piece) < PIECE_BYTES):
                return

    @property
    def is_whole(self) -> bool:
        """Whether no byte is missing."""
        return self.passes or self._inflate is None


@dataclass
class _Growth:
    """How much bytes grow in one step. Each step of several is bounded by itself."""

    taken: int = 0
    given: int = 0

    def give(self, size: int) -> None:
        """:raises MemberError: they grow beyond the limit"""
        self.given += size
        if self.given > FREE_BYTES and self.given > MAX_GROWTH * self.taken:
            what = f"decoded, the body is more than {MAX_GROWTH} times as long"
            raise MemberError("content_encoded", what)


def _through(step: _Step, data: Iterable[bytes], last: bool) -> Iterator[bytes]:
    for one in data:
        yield from step.pieces(one) if one else (b"",)
    if last:
        yield from step.pieces(b"", last=True)


class Decoder:
    """Decodes a body as it comes. :param codings: see :func:`to_decode`"""

    def __init__(self, codings: Sequence[str]) -> None:
        self._steps = [_Step(one in GZIP) for one in reversed(codings)]

    def pieces(self, data: bytes, last: bool = False) -> Iterator[bytes]:
        """The decoded bytes of the next bytes of the body; some pieces are empty.

        :param last: the body ends with them
        :raises MemberError: they are not encoded so, they grow beyond the limit, or the body has
            ended and bytes are missing
        """
        found: Iterable[bytes] = (data,)
        for step in self._steps:
            found = _through(step, found, last)
        yield from found
        if last and not all(step.is_whole for step in self._steps):
            raise MemberError("body_short", "the body ends within its compression")
