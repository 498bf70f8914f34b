"""The members of a batch, searched in the files of its parts. The functions block."""

import mmap
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import msgspec

from twisted_bulk.batch.manifest_file import RUNNING, read_whole
from twisted_bulk.batch.member_index import INDEX_FILE, MemberIndex, lines_of
from twisted_bulk.batch.model import Outcome, PartProgress, PartResult
from twisted_bulk.batch.names import MANIFEST
from twisted_bulk.batch.selection import Selection
from twisted_bulk.jobs.group_model import GroupRecord, PartRecord
from twisted_bulk.storage.folders import DataFolders

MAX_INDEXES = 256  # that are kept in memory, of about 80 KB each; then the oldest goes
#: Bytes of results that one call looks through for a text; then its cursor leads on.
MAX_SEARCHED_BYTES = 16_000_000
LINE_BYTES = 1024  # that most lines have at most

_outcome = msgspec.json.Decoder(Outcome)


@dataclass
class Found:
    """What a search has found.

    :param outcomes: of members, in order
    :param count: how many they are; more than ``outcomes`` where these were not wanted
    :param cursor: the number of the member after which it goes on; 0: at the end
    :param missing: numbers of parts whose results are not on this node, with the node that has them
        or an empty name
    """

    outcomes: list[Outcome] = field(default_factory=list)
    count: int = 0
    cursor: int = 0
    missing: dict[int, str] = field(default_factory=dict)


class _Place:
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


class _Looked:
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

    def through(self, place: _Place, positions: Sequence[int]) -> Sequence[int]:
        """``positions``, or none if the file has the text nowhere."""
        if self._needle and 4 * len(positions) > len(place.index.numbers):
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
        outcome = _outcome.decode(line)
        texts = outcome.url, outcome.name, outcome.code, outcome.detail
        return outcome if self._wanted.has_text(*texts) else None


class MemberSearch:
    """Searches the results of members that are on this node."""

    def __init__(self, folders: DataFolders) -> None:
        self._folders = folders
        self._indexes: OrderedDict[tuple[Path, int], MemberIndex] = OrderedDict()
        self._lock = threading.Lock()  # of these: several threads search

    def find(
        self, record: GroupRecord, wanted: Selection, after: int, most: int, *, only: int = 0
    ) -> Found:
        """Find members that have ended.

        :param after: the number of a member: those with higher numbers are searched
        :param most: how many; beyond them the cursor leads on
        :param only: the number of a part, from 1; 0: all parts
        """
        found, looked = Found(), _Looked(wanted)
        for number, first, part in parts_after(record, after, only):
            place = self._place(record, number, first, part, found)
            if place is None:
                continue
            if looked.enough and first > after:
                found.cursor = first
                return found
            for position in looked.through(place, _from(place.index, wanted, after)):
                member = place.index.numbers[position]
                if len(found.outcomes) == most or (looked.enough and looked.lines):
                    found.cursor = member - 1
                    return found
                outcome = looked.match(place.line(position))
                if outcome is not None:
                    found.outcomes.append(_with_number(outcome, member))
        found.count = len(found.outcomes)
        return found

    def count(self, record: GroupRecord, wanted: Selection, after: int = 0) -> Found:
        """Count members that have ended; of those with a text some, and the cursor leads on.

        :param after: as the cursor of the call before
        """
        found, looked = Found(), _Looked(wanted)
        for number, first, part in parts_after(record, after):
            place = self._place(record, number, first, part, found)
            if place is None:
                continue
            if not wanted.text:
                found.count += place.index.count(wanted)
                continue
            if looked.enough:
                found.cursor = first
                return found
            positions = looked.through(place, place.index.select(wanted))
            found.count += sum(looked.match(place.line(at)) is not None for at in positions)
        return found

    def count_part(self, record: GroupRecord, wanted: Selection, number: int) -> int | None:
        """How many members of part ``number`` are meant; None: its results are not here."""
        first = sum(part.size for part in record.parts[: number - 1])
        place = self._place(record, number, first, record.parts[number - 1], Found())
        if place is None:
            return None
        looked = _Looked(wanted)
        positions = looked.through(place, place.index.select(wanted))
        if not wanted.text:
            return len(positions)
        return sum(looked.match(place.line(at)) is not None for at in positions)

    def ended(self, record: GroupRecord, number: int, first: int) -> frozenset[int]:
        """The numbers of the members of a part that have ended.

        :param number: of the part, from 1
        :param first: how many members are before it
        """
        place = self._place(record, number, first, record.parts[number - 1], Found())
        return frozenset(place.index.numbers if place else ())

    def _place(
        self, record: GroupRecord, number: int, first: int, part: PartRecord, found: Found
    ) -> _Place | None:
        """The results of a part; None: there are none yet, or they are elsewhere."""
        node, path = self._path(record, number, part)
        if path is not None:
            with suppress(FileNotFoundError):
                return self._opened(path, first)
            if path.name == RUNNING:
                return None
        elif not part.result and node in ("", self._folders.node):
            return None
        found.missing[number] = node
        return None

    def _path(self, record: GroupRecord, number: int, part: PartRecord) -> tuple[str, Path | None]:
        """The node that has a part's results, and the file with them; None: it is not here."""
        if part.result:
            result = msgspec.json.decode(part.result, type=PartResult)
            folder = self._folders.public / result.folder
            return result.node, folder / MANIFEST if (folder / MANIFEST).exists() else None
        if part.state == "doing":
            told = msgspec.json.decode(part.progress or b"{}", type=PartProgress)
            attempt = self._folders.folder_of(record.job_id(number))
            return told.node, attempt / RUNNING if attempt else None
        return "", None

    def _opened(self, path: Path, first: int) -> _Place:
        text = _text(path)
        key = (path, len(text))
        with self._lock:
            index = self._indexes.pop(key, None)
        if index is None:
            index = _index(path, text, first)
        with self._lock:
            self._indexes[key] = index
            while len(self._indexes) > MAX_INDEXES:
                self._indexes.popitem(last=False)
        return _Place(text, index)


def _text(path: Path) -> "mmap.mmap | bytes":
    """The text of a file of results, in which each result has a line."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        text = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""
    if path.name == MANIFEST and text[:2] != b"[\n":  # of an older version, and with secrets
        return b"[\n" + b",\n".join(read_whole(path)) + b"\n]\n"
    return text


def _index(path: Path, text: "mmap.mmap | bytes", first: int) -> MemberIndex:
    """Read from the file beside the results; made of their lines where there is none."""
    with suppress(OSError, ValueError):
        if path.name == MANIFEST:
            return MemberIndex.decode(path.with_name(INDEX_FILE).read_bytes())
    return MemberIndex.of(lines_of(text[:]), first)


def parts_after(
    record: GroupRecord, after: int, only: int = 0
) -> Iterator[tuple[int, int, PartRecord]]:
    """The parts with members behind ``after``: number, how many members are before it, the part."""
    ends = list(accumulate(part.size for part in record.parts))
    for number, (part, end) in enumerate(zip(record.parts, ends, strict=True), 1):
        if end > after and only in (0, number):
            yield number, end - part.size, part


def _from(index: MemberIndex, wanted: Selection, after: int) -> Sequence[int]:
    """The selected positions of members with higher numbers than ``after``."""
    positions: Sequence[int] = index.select(wanted)
    return positions[bisect_right(positions, after, key=index.numbers.__getitem__) :]


def _with_number(outcome: Outcome, member: int) -> Outcome:
    """As it is; with its number, if an older version of the program wrote it."""
    return outcome if outcome.member else msgspec.structs.replace(outcome, member=member)
