"""What became of the members of one part, as files have it.

A part that has ended has left a JSON array with a line for each entry in its folder, so that it is
read a line at a time. A part that runs notes what has ended in :data:`RUNNING`, in its folder of
``spool/``. The functions block.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from twisted_bulk.batch.masks import mask
from twisted_bulk.batch.model import Outcome

RUNNING = "outcomes.jsonl"


def encode(outcomes: Sequence[Outcome | None]) -> bytes:
    """The file that a part leaves."""
    return b"[\n" + b",\n".join(map(msgspec.json.encode, outcomes)) + b"\n]\n"


def note(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Add what has ended in a part that runs. Blocks; a full disk loses no more than these."""
    with suppress(OSError), open(path, "ab") as file:
        file.write(b"".join(msgspec.json.encode(one) + b"\n" for one in outcomes))


def read_whole(path: Path) -> Iterator[bytes]:
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


def read_so_far(path: Path) -> Iterator[bytes]:
    """The lines of a part that runs, without one that is being written."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line[:-1]
