"""Takes a POST's body apart in pieces, so that a large one costs neither memory nor a long pause.

The result is where the entries of ``download`` stand, and all other fields as one small text. A few
regular expressions go through each piece, as fast as the body comes from the disk. Entries are not
decoded here, but in :mod:`twisted_bulk.orders.order`.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

from twisted_bulk.errors import InvalidRequest

BOM = b"\xef\xbb\xbf"  # with which some editors begin a text in UTF-8
PIECE_BYTES = 256 * 1024  # that are read at once
MAX_ENTRIES = 1000  # in one chunk; then another one begins
CHUNK_BYTES = 256 * 1024  # of a chunk; then another one begins
#: Bytes of one entry: a URL, its name and its headers, however they are escaped; more is 400.
MAX_ENTRY_BYTES = 512 * 1024
MAX_REST_BYTES = 512 * 1024  # of a body without the entries of its `download`; more is 400
MAX_DEPTH = 32  # objects and arrays within each other; more is 400

_SPACE = rb"[ \t\r\n]*+"
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_INNER = rb'(?:[^{}\[\]"]++|%b)*+' % _STRING
_NESTED = rb'(?:[^{}\[\]"]++|%b|\{%b\}|\[%b\])*+' % (_STRING, _INNER, _INNER)
_OBJECT = rb'\{(?:[^{}\[\]"]++|%b|\{%b\}|\[%b\])*+\}' % (_STRING, _NESTED, _NESTED)
_TOKEN = re.compile(rb'%b(?:%b|[{}\[\],:]|[^ \t\r\n{}\[\],:"]++)' % (_SPACE, _STRING), re.DOTALL)
_ENTRY = re.compile(rb"%b(?:%b|%b)%b[,\]]" % (_SPACE, _STRING, _OBJECT, _SPACE), re.DOTALL)
_ONE = re.compile(rb"%b|%b" % (_STRING, _OBJECT), re.DOTALL)
_END = re.compile(rb"%b\]" % _SPACE)
_OTHER = re.compile(rb"%b([^ \t\r\n,\]{\"]{1,100})" % _SPACE)
_CLOSING = 0x5D  # ]


@dataclass(frozen=True)
class Chunk:
    """Entries that follow each other.

    :param first: the number of the first one, from 0
    :param begin: the offset of its first byte in the body
    :param end: the offset behind the last entry
    """

    first: int
    begin: int
    end: int


@dataclass(frozen=True)
class Outline:
    """A body, taken apart.

    :param tokens: of the body with an empty ``download``
    :param ends: the offset behind each of these in the body
    :param total: entries of ``download``
    """

    tokens: list[bytes]
    ends: list[int]
    chunks: list[Chunk]
    total: int

    @property
    def rest(self) -> bytes:
        """JSON: the body with an empty ``download``."""
        return b" ".join(self.tokens)

    def place(self, at: int) -> int:
        """The offset in the body of the byte at ``at`` in ``rest``."""
        begin = 0
        for token, end in zip(self.tokens, self.ends, strict=True):
            if at <= begin + len(token):
                return end - (begin + len(token) - at)
            begin += len(token) + 1
        return at


class _Window:
    """The part of a file that is in memory: it moves on, and grows for a longer token."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.data = b""
        self.at = 0
        self.begin = file.tell()  # of ``data`` in the file

    def grow(self) -> bool:
        """Read the next piece; False: the file has ended."""
        piece = self._file.read(PIECE_BYTES)
        self.begin += self.at
        self.data, self.at = self.data[self.at :] + piece, 0
        return bool(piece)

    @property
    def left(self) -> int:
        """Bytes behind the present position."""
        return len(self.data) - self.at

    def token(self) -> bytes:
        """The next token; empty at the end.

        :raises InvalidRequest: it is not a token of JSON
        """
        while True:
            found = _TOKEN.match(self.data, self.at)
            # A token at the very end may go on in the next piece.
            if found and found.end() < len(self.data):
                break
            if self.left > MAX_REST_BYTES:
                raise _too_much()
            if not self.grow():
                found = _TOKEN.match(self.data, self.at)
                break
        if found is None:
            if self.data[self.at :].strip(b" \t\r\n"):
                raise InvalidRequest("not JSON: a string that does not end")
            return b""
        self.at = found.end()
        return found[0].strip(b" \t\r\n")


def _too_much() -> InvalidRequest:
    return InvalidRequest(f"$: more than {MAX_REST_BYTES} bytes beside the entries of download")


def outline(file: BinaryIO, most: int, known: Collection[bytes]) -> Outline:
    """Take a body apart. Blocks; lets other threads run between pieces.

    :param most: entries that ``download`` may have
    :param known: the keys that a body may have
    :raises InvalidRequest: it is not JSON, or larger in some way than a request may be
    """
    file.seek(0)
    begin = len(BOM) if file.read(len(BOM)) == BOM else 0
    file.seek(begin)
    window, chunks = _Window(file), list[Chunk]()
    rest, ends = list[bytes](), list[int]()
    size = depth = total = 0
    key = before = b""
    while token := window.token():
        size += len(token) + 1
        if size > MAX_REST_BYTES:
            raise _too_much()
        rest.append(token)
        ends.append(window.begin + window.at)
        if token in (b"{", b"["):
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidRequest("not JSON that is read: nested too deeply")
            if token == b"[" and depth == 2 and before == b":" and _is_download(key):
                total = _entries(window, chunks, total, most)
                rest.append(b"]")
                ends.append(window.begin + window.at)
                depth -= 1
        elif token in (b"}", b"]"):
            depth -= 1
        elif depth == 1 and before in (b"{", b","):
            key = token
            if b"\\" not in key and key[:1] == b'"' and key[1:-1] not in known:
                name = key[1:-1].decode("utf-8", "replace")[:100]
                raise InvalidRequest(f"Object contains unknown field `{name}`")
        before = token
    return Outline(rest, ends, chunks, total)


def _is_download(key: bytes) -> bool:
    if b"\\" not in key:
        return key == b'"download"'
    try:
        return bool(msgspec.json.decode(key) == "download")
    except msgspec.DecodeError:
        return False  # decoding the rest will raise the error


def _entries(window: _Window, chunks: list[Chunk], total: int, most: int) -> int:
    """Go through ``download`` to its end; returns the number of entries so far."""
    while not (empty := _END.match(window.data, window.at)) and not window.left:
        if not window.grow():
            return total
    if empty:
        window.at = empty.end()
        return total
    first, begin = total, window.begin + window.at
    while True:
        found = _ENTRY.match(window.data, window.at)
        if found is None:
            if window.left > MAX_ENTRY_BYTES or not window.grow():
                raise _not_an_entry(window, total)
            continue
        if found.end() - window.at > MAX_ENTRY_BYTES:
            raise InvalidRequest(f"$.download[{total}]: more than {MAX_ENTRY_BYTES} bytes")
        total += 1
        if total > most:
            raise InvalidRequest(f"$.download: more than {most} URLs")
        window.at = end = found.end()
        last = window.data[end - 1] == _CLOSING
        if last or total - first >= MAX_ENTRIES or window.begin + end - begin >= CHUNK_BYTES:
            chunks.append(Chunk(first, begin, window.begin + end - 1))
            first, begin = total, window.begin + end
        if last:
            return total


def _not_an_entry(window: _Window, number: int) -> InvalidRequest:
    """The error for text that is not an entry."""
    where, begin = f"$.download[{number}]", window.begin + window.at
    text = window.data[window.at :].lstrip(b" \t\r\n")
    if not text:
        return InvalidRequest("not JSON: it ends within download")
    if text[:1] == b"]":
        return InvalidRequest(f"not JSON: a comma before the end of download (byte {begin})")
    is_one = _ONE.match(text)
    if not is_one and len(text) > MAX_ENTRY_BYTES - PIECE_BYTES:
        return InvalidRequest(f"{where}: more than {MAX_ENTRY_BYTES} bytes, or it does not end")
    if not is_one and text[:1] == b'"':
        return InvalidRequest(f"not JSON: {where} does not end")
    if is_one:
        return InvalidRequest(f"not JSON: no comma, and no end of download, behind {where}")
    other = _OTHER.match(text)
    if other is None:
        return InvalidRequest(f"{where}: not JSON, or more in each other than an entry has")
    kind = "array"
    if other[1][:1] != b"[":
        try:
            value = msgspec.json.decode(other[1])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return InvalidRequest(f"{where}: not JSON")
        kind = {"NoneType": "null"}.get(type(value).__name__, type(value).__name__)
    return InvalidRequest(f"Expected `str | object`, got `{kind}` - at `{where}`")
