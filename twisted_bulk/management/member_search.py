"""The members of a batch, searched in the files of its parts. The functions block."""

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import msgspec

from twisted_bulk.batch.manifest_file import RUNNING
from twisted_bulk.batch.member_index import MemberIndex
from twisted_bulk.batch.model import Outcome, PartProgress, PartResult
from twisted_bulk.batch.names import MANIFEST
from twisted_bulk.batch.selection import Selection
from twisted_bulk.jobs.group_model import GroupRecord, PartRecord
from twisted_bulk.management.result_files import (
    MIN_LINES,
    ResultFile,
    TextSearch,
    index_of,
    text_of,
)
from twisted_bulk.storage.folders import DataFolders

MAX_INDEX_BYTES = 64_000_000  # of indexes that are kept in memory; then the oldest goes


@dataclass
class Found:
    """What a search has found.

    :param outcomes: of members, in order
    :param count: how many there are, where only that was asked
    :param cursor: the number of the member after which it goes on; 0: at the end
    :param missing: numbers of parts whose results are not on this node, with the node that has them
        or an empty name
    """

    outcomes: list[Outcome] = field(default_factory=list)
    count: int = 0
    cursor: int = 0
    missing: dict[int, str] = field(default_factory=dict)


class MemberSearch:
    """Searches the results of members that are on this node."""

    def __init__(self, folders: DataFolders) -> None:
        self._folders = folders
        self._indexes: OrderedDict[tuple[Path, int], MemberIndex] = OrderedDict()
        self._kept_bytes = 0  # of these
        self._lock = threading.Lock()  # of both: several threads search

    def find(
        self, record: GroupRecord, wanted: Selection, after: int, most: int, *, only: int = 0
    ) -> Found:
        """Find members that have ended.

        :param after: the number of a member: those with higher numbers are searched
        :param most: how many; beyond them the cursor leads on
        :param only: the number of a part, from 1; 0: all parts
        """
        found = Found()
        for member, outcome in self._matching(record, wanted, after, only, found):
            if len(found.outcomes) == most:
                found.cursor = member - 1
                break
            found.outcomes.append(_with_number(outcome, member))
        return found

    def count(
        self, record: GroupRecord, wanted: Selection, after: int = 0, *, only: int = 0
    ) -> Found:
        """Count members that have ended; of those with a text some, and the cursor leads on.

        :param after: the number of a member, which a selection with a text goes on behind
        :param only: as for :meth:`find`
        """
        found = Found()
        if wanted.text:
            found.count = sum(1 for _ in self._matching(record, wanted, after, only, found))
            return found
        for number, first, part in parts_after(record, 0, only):
            place = self._place(record, number, first, part, found)
            found.count += place.index.count(wanted) if place else 0
        return found

    def _matching(
        self, record: GroupRecord, wanted: Selection, after: int, only: int, found: Found
    ) -> Iterator[tuple[int, Outcome]]:
        """Members that match, with their numbers, for as long as this call may look for a text.

        When it may not any more, ``found.cursor`` leads on.
        """
        looked = TextSearch(wanted)
        for number, first, part in parts_after(record, after, only):
            place = self._place(record, number, first, part, found)
            if place is None:
                continue
            if looked.enough and first > after:
                found.cursor = first
                return
            for position in looked.through(place, _from(place.index, wanted, after)):
                member = place.index.numbers[position]
                if looked.enough and looked.lines >= MIN_LINES:
                    found.cursor = member - 1
                    return
                outcome = looked.match(place.line(position))
                if outcome is not None:
                    yield member, outcome

    def ended(self, record: GroupRecord, number: int, first: int) -> frozenset[int]:
        """The numbers of the members of a part that have ended.

        :param number: of the part, from 1
        :param first: how many members are before it
        """
        place = self._place(record, number, first, record.parts[number - 1], Found())
        return frozenset(place.index.numbers if place else ())

    def _place(
        self, record: GroupRecord, number: int, first: int, part: PartRecord, found: Found
    ) -> ResultFile | None:
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

    def _opened(self, path: Path, first: int) -> ResultFile:
        text = text_of(path)
        key = (path, len(text))
        with self._lock:
            index = self._indexes.get(key)
            if index is not None:
                self._indexes.move_to_end(key)
                return ResultFile(text, index)
        index = index_of(path, text, first)
        with self._lock:
            if key not in self._indexes:  # another thread may have made it, too
                self._indexes[key] = index
                self._kept_bytes += index.size
            while self._kept_bytes > MAX_INDEX_BYTES:
                self._kept_bytes -= self._indexes.popitem(last=False)[1].size
        return ResultFile(text, index)


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
