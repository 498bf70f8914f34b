"""The files with the results of parts, with their indexes, searched for a text. Blocks."""

import mmap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from twisted_bulk.batch.manifest_file import read_whole
from twisted_bulk.batch.member_index import INDEX_FILE, MemberIndex, lines_of
from twisted_bulk.batch.model import Outcome
from twisted_bulk.batch.names import MANIFEST
from twisted_bulk.batch.selection import Selection

#: Bytes of results that one call looks through for a text; then its cursor leads on.
MAX_SEARCHED_BYTES = 16_000_000
QUICK_BYTES = 8_000_000  # of a file that is looked at as a whole: larger ones take memory and time
MIN_LINES = 1000  # that a call looks at nevertheless, so that it gets on
LINE_BYTES = 1024  # that most lines have at most

outcome_decoder = msgspec.json.Decoder(Outcome)


class ResultFile:
    """A file of results: its text, and its index."""

    def __init__(self, text: "mmap.mmap | bytes", index: MemberIndex) -> None:
        self.text = text
        self.index = index

    def line(self, position: int) -> bytes:
        """The JSON of one member."""
        begin, size = self.index.offsets[position], LINE_BYTES
        while True:
            line, end, _ = self.text[begin : begin + size].partition(b"\n")
            if end or begin + size >= len(self.text):
                return line.removesuffix(b",")
            size *= 8


class TextSearch:
    """The look for a text in results, and how much has been looked through.

    ``lines``: how many were looked at one by one.
    """

    def __init__(self, wanted: Selection) -> None:
        self._wanted = wanted
        self._needle = wanted.needle
        self._bytes = 0
        self.lines = 0

    @property
    def enough(self) -> bool:
        """Whether this call must end."""
        return self._bytes > MAX_SEARCHED_BYTES

    def through(self, place: ResultFile, positions: Sequence[int]) -> Sequence[int]:
        """``positions``, or none if the file has the text nowhere."""
        is_quick = len(place.text) <= QUICK_BYTES and 4 * len(positions) > len(place.index.numbers)
        if self._needle and is_quick:
            self._bytes += len(place.text) // 8  # so much faster than line by line
            if self._needle not in place.text[:].lower():
                return ()
        return positions

    def match(self, line: bytes) -> Outcome | None:
        """The outcome in a line, if it has the text."""
        self.lines += 1
        if self._needle:
            self._bytes += len(line)
            if self._needle not in line.lower():
                return None
        outcome = outcome_decoder.decode(line)
        texts = outcome.url, outcome.name, outcome.code, outcome.detail
        return outcome if self._wanted.has_text(*texts) else None


def text_of(path: Path) -> "mmap.mmap | bytes":
    """The text of a file of results, in which each result has a line."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        text = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""
    if path.name == MANIFEST and text[:2] != b"[\n":  # of an older version, and with secrets
        return b"[\n" + b",\n".join(read_whole(path)) + b"\n]\n"
    return text


def index_of(path: Path, text: "mmap.mmap | bytes", first: int) -> MemberIndex:
    """Read from the file beside the results; made of their lines where there is none."""
    with suppress(OSError, ValueError):
        if path.name == MANIFEST:
            return MemberIndex.decode(path.with_name(INDEX_FILE).read_bytes())
    return MemberIndex.of(lines_of(text), first)
