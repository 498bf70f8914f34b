"""The manifest of a batch: a JSON line for each member, out of the files of its parts."""

from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from twisted_bulk.batch.manifest_file import RUNNING, read_so_far, read_whole
from twisted_bulk.batch.model import PartProgress, PartResult
from twisted_bulk.batch.names import MANIFEST
from twisted_bulk.errors import Elsewhere, Gone, InvalidRequest
from twisted_bulk.jobs.group_model import GroupRecord, PartRecord
from twisted_bulk.storage.folders import DataFolders

MAX_PART_DIGITS = 8  # of the number of a part in a query; more is 400
PIECE_LINES = 200  # lines that are sent at once


class Manifests:
    """The manifests of batches whose files are on this node."""

    def __init__(self, folders: DataFolders) -> None:
        self._folders = folders
        self._node = folders.node

    def lines(self, record: GroupRecord, only: int = 0) -> Iterator[bytes]:
        """The JSON lines, in pieces: how each member ended, as far as that is known.

        A part that ended before it looked at its members has one line.

        :param only: the number of a part, from 1; 0: all parts
        :raises Elsewhere: another node has the lines of a part
        :raises Gone: no node has them any more
        """
        sources, elsewhere = list[Iterator[bytes]](), dict[int, str]()
        for number, part in enumerate(record.parts, 1):
            if only in (0, number):
                node, source = self._source(record, number, part)
                if source is None:
                    elsewhere[number] = node
                else:
                    sources.append(source)
        if elsewhere:
            raise _missing(elsewhere, self._node)
        return _pieces(sources)

    def _source(
        self, record: GroupRecord, number: int, part: PartRecord
    ) -> tuple[str, Iterator[bytes] | None]:
        """The node that has a part's lines, and the lines; None: they are not here."""
        if part.result:
            result = msgspec.json.decode(part.result, type=PartResult)
            path = self._folders.public / result.folder / MANIFEST
            return result.node, read_whole(path) if path.exists() else None
        if part.state == "doing":
            told = msgspec.json.decode(part.progress or b"{}", type=PartProgress)
            if told.node in ("", self._node):
                folder = self._folders.folder_of(record.job_id(number))
                return told.node, read_so_far(folder / RUNNING) if folder else iter(())
            return told.node, None
        if part.state == "dead":
            line = {"part": number, "members": part.size, "status": "failed"}
            return "", iter([msgspec.json.encode(line | {"code": part.why, "detail": part.error})])
        return "", iter(())


def part_number(record: GroupRecord, text: str) -> int:
    """The number of a part in a query; 0: all parts.

    :raises InvalidRequest: there is no such part
    """
    parts = len(record.parts)
    is_number = text.isdecimal() and len(text) <= MAX_PART_DIGITS
    if text and not (is_number and 0 < int(text) <= parts):
        raise InvalidRequest(f"part: expected 1 to {parts}")
    return int(text or 0)


def _pieces(sources: Sequence[Iterator[bytes]]) -> Iterator[bytes]:
    for source in sources:
        while lines := list(islice(source, PIECE_LINES)):
            yield b"".join(line + b"\n" for line in lines)


def _missing(parts: dict[int, str], here: str) -> Elsewhere | Gone:
    others = {number: node or "another" for number, node in parts.items() if node != here}
    if not others:
        numbers = ", ".join(map(str, sorted(parts)[:10]))
        return Gone(f"the manifest of part {numbers} is on no node any more")
    places = ", ".join(f"part {number} on {node}" for number, node in sorted(others.items())[:10])
    return Elsewhere(f"this is {here}: ask for {places} (?part=N)")
