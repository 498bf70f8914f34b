"""The manifest of a batch: a line for each member, as JSON.

A part that has ended has left one in its folder: a JSON array with a line for each entry, so that
it can be read a line at a time. A part that runs notes what has ended in :data:`RUNNING`, in its
folder of ``spool/``.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import msgspec

from twisted_bulk.batch import Outcome, PartProgress, PartResult
from twisted_bulk.errors import Elsewhere, Gone
from twisted_bulk.jobs import GroupRecord, PartRecord
from twisted_bulk.masks import mask
from twisted_bulk.names import MANIFEST
from twisted_bulk.shelf import Shelf

AT_ONCE = 200  # lines in one piece
RUNNING = "outcomes.jsonl"


def encode(outcomes: Sequence[Outcome | None]) -> bytes:
    """The file that a part leaves."""
    return b"[\n" + b",\n".join(map(msgspec.json.encode, outcomes)) + b"\n]\n"


def note(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Add what has ended in a part that runs. Blocks; a full disk loses no more than these."""
    with suppress(OSError), open(path, "ab") as file:
        file.write(b"".join(msgspec.json.encode(one) + b"\n" for one in outcomes))


def _whole(path: Path) -> Iterator[bytes]:
    """The lines of a file that a part has left."""
    with open(path, "rb") as file:
        first = file.readline()
        if first != b"[\n":  # a program before this one wrote it, with its URLs as they were
            for one in msgspec.json.decode(first, type=list[Outcome]):
                line = msgspec.to_builtins(msgspec.structs.replace(one, url=mask(one.url)))
                del line["member"]  # it was not known
                yield msgspec.json.encode(line)
            return
        for line in file:
            if line != b"]\n":
                yield line.removesuffix(b"\n").removesuffix(b",")


def _so_far(path: Path) -> Iterator[bytes]:
    """The lines of a part that runs, without one that is being written."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line[:-1]


class Manifests:
    """Those of the batches whose files are on this node."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._node = shelf.node

    def lines(self, record: GroupRecord, only: int = 0) -> Iterator[bytes]:
        """JSON lines, in pieces: what became of each member, as far as that is known.

        A part that ended without looking at its members has one line.

        :param only: of this part, from 1; 0: of all
        :raises Elsewhere: another node has it
        :raises Gone: nobody has it
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
        """Where a part's lines are, and the lines if that is here."""
        if part.result:
            result = msgspec.json.decode(part.result, type=PartResult)
            path = self._shelf.public / result.folder / MANIFEST
            return result.node, _whole(path) if path.exists() else None
        if part.state == "doing":
            told = msgspec.json.decode(part.progress or b"{}", type=PartProgress)
            if told.node in ("", self._node):
                nonce = record.run.partition("+")[0]
                folder = self._shelf.folder_of(f"{record.id}@{nonce}/{number}")
                return told.node, _so_far(folder / RUNNING) if folder else iter(())
            return told.node, None
        if part.state == "dead":
            line = {"part": number, "members": part.size, "status": "failed"}
            return "", iter([msgspec.json.encode(line | {"code": part.why, "detail": part.error})])
        return "", iter(())


def _pieces(sources: Sequence[Iterator[bytes]]) -> Iterator[bytes]:
    for source in sources:
        while lines := list(islice(source, AT_ONCE)):
            yield b"".join(line + b"\n" for line in lines)


def _missing(parts: dict[int, str], here: str) -> Elsewhere | Gone:
    others = {number: node or "another" for number, node in parts.items() if node != here}
    if not others:
        numbers = ", ".join(map(str, sorted(parts)[:10]))
        return Gone(f"the manifest of part {numbers} is on no node any more")
    places = ", ".join(f"part {number} on {node}" for number, node in sorted(others.items())[:10])
    return Elsewhere(f"this is {here}: ask for {places} (?part=N)")
