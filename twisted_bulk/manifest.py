"""The manifest of a batch, as its parts left it: a line for each member."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from twisted_bulk.jobs import GroupRecord
from twisted_bulk.names import MANIFEST
from twisted_bulk.report import part_results

AT_ONCE = 200  # lines in one piece


def lines(public: Path, record: GroupRecord) -> Iterator[bytes]:
    """JSON lines of all parts that have ended and whose files are on this node, in pieces."""
    for result in part_results(record):
        if result is None:
            continue
        try:
            outcomes = msgspec.json.decode(
                (public / result.folder / MANIFEST).read_bytes(), type=list[msgspec.Raw]
            )
        except FileNotFoundError:
            continue
        for begin in range(0, len(outcomes), AT_ONCE):
            yield b"".join(bytes(line) + b"\n" for line in outcomes[begin : begin + AT_ONCE])
