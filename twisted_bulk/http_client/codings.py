"""Content codings (RFC 9110, 8.4): which ones are decoded, and decoding as the bytes come. Pure.

Requests ask for none. Some servers compress all the same, and some name what is no coding.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
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


class _Inflating:
    """Decodes one coding. A body that is not encoded at all passes as it is, as with curl.

    ``passes``: its bytes are passed on as they are.

    :param gzip: gzip (RFC 1952), else deflate (RFC 1950, or 1951 as some servers send)
    """

    def __init__(self, gzip: bool) -> None:
        self._gzip = gzip
        self._head = b""
        self._inflate: Any = None
        self.passes = self._ended = self._may_pass = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """The decoded bytes of ``data``, in pieces of :data:`PIECE_BYTES` at most."""
        while data and not self.passes:
            if self._inflate is None:
                self._head += data
                if len(self._head) < 2:
                    return
                data, self._head = self._head, b""
                self._begin(data)
                continue
            yield from self._some(data)
            if not self._inflate.eof:
                return
            data, self._inflate, self._ended = self._inflate.unused_data, None, True
        if data and not self._ended:
            yield data

    def _begin(self, data: bytes) -> None:
        """Look at the first two bytes, which tell how the rest is encoded."""
        if self._gzip:
            self.passes = data[:2] != b"\x1f\x8b"  # behind a whole gzip it is waste
            bits = 31
        else:
            self.passes = self._ended
            bits = 15 if data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0 else -15
        self._inflate = zlib.decompressobj(bits)
        self._may_pass = bits < 0  # raw deflate has no mark by which it is known

    def _some(self, data: bytes) -> Iterator[bytes]:
        while True:
            try:
                piece = self._inflate.decompress(data, PIECE_BYTES)
            except zlib.error:
                if self._may_pass:
                    self.passes = True
                    yield data
                    return
                what = "the body is not what its Content-Encoding says"
                raise MemberError("content_encoded", what) from None
            self._may_pass = False
            if piece:
                yield piece
            data = self._inflate.unconsumed_tail
            if self._inflate.eof or (not data and len(piece) < PIECE_BYTES):
                return

    @property
    def is_encoded(self) -> bool:
        """Whether the body was encoded; waste may stand behind it."""
        return self._ended or not self.passes

    @property
    def is_whole(self) -> bool:
        """Whether no byte is missing."""
        return self.passes or (self._inflate is None and not (self._head and not self._ended))


def _through(step: _Inflating, data: Iterable[bytes]) -> Iterator[bytes]:
    for one in data:
        yield from step.pieces(one)


class Decoder:
    """Decodes a body as it comes. :param codings: see :func:`to_decode`"""

    def __init__(self, codings: Sequence[str]) -> None:
        self._steps = [_Inflating(one in GZIP) for one in reversed(codings)]
        self._taken = self._given = 0

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """The decoded bytes of the next bytes of the body.

        :raises MemberError: they are not encoded so, or they grow beyond the limit
        """
        self._taken += len(data)
        found: Iterable[bytes] = (data,)
        for step in self._steps:
            found = _through(step, found)
        for piece in found:
            self._given += len(piece)
            if self._given > FREE_BYTES and self._given > MAX_GROWTH * self._taken:
                what = f"decoded, the body is more than {MAX_GROWTH} times as long"
                raise MemberError("content_encoded", what)
            yield piece

    @property
    def is_certain(self) -> bool:
        """Whether the body was encoded, so that its end is certain."""
        return all(step.is_encoded for step in self._steps)

    def finish(self) -> None:
        """The body has ended. :raises MemberError: bytes are missing"""
        if not all(step.is_whole for step in self._steps):
            raise MemberError("body_short", "the body ends within its compression")
