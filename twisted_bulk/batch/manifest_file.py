"""The files with the results of one part's members.

A part that has ended has left a JSON array in its public folder. Each entry is a line of its own,
so that it can be read a line at a time. A part that runs adds a line for each member that has ended
to :data:`RUNNING`, in its folder of ``spool/``. All functions block.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from twisted_bulk.batch.masks import mask
from twisted_bulk.batch.model import Outcome

RUNNING = "outcomes.jsonl"


def encode(outcomes: Sequence[Outcome | None]) -> bytes:
    """The bytes of the file that a part leaves."""
    return b"[\n" + b",\n".join(map(msgspec.json.encode, outcomes)) + b"\n]\n"


def note(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Add the results of members of a part that runs. When the disk is full, they are left out."""
    with suppress(OSError), open(path, "ab") as file:
        file.write(b"".join(msgspec.json.encode(one) + b"\n" for one in outcomes))


def read_whole(path: Path) -> Iterator[bytes]:
    """The entries of a file that a part has left, without their line ends."""
    with open(path, "rb") as file:
        first = file.readline()
        if first != b"[\n":  # an older version of the program wrote it, with unmasked URLs
            for one in msgspec.json.decode(first, type=list[Outcome]):
                line = msgspec.to_builtins(msgspec.structs.replace(one, url=mask(one.url)))
                del line["member"]  # that version did not write it
                yield msgspec.json.encode(line)
            return
        for line in file:
            if line != b"]\n":
                yield line.removesuffix(b"\n").removesuffix(b",")


def read_so_far(path: Path) -> Iterator[bytes]:
    """The entries of a part that runs, without one that is only half written."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line[:-1]
