"""What is in an archive, noted beside it, so that a crash loses none of it."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from twisted_bulk.archive.folders import JOURNAL
from twisted_bulk.archive.volume import ZipMember
from twisted_bulk.system.disk import write_at


class Journal:
    """A line for each member that is in; of several for one member the last holds."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL
        self._path.touch()
        self._open()

    def _open(self) -> None:
        self._file = open(self._path, "r+b", buffering=0)  # noqa: SIM115
        there = self._path.read_bytes()
        self._end = len(there)
        if there and not there.endswith(b"\n"):  # a crash broke the last line off
            self._end = write_at(self._file, b"\n", self._end)

    def read(self) -> dict[int, dict[str, ZipMember]]:
        """The members of each volume by name."""
        noted: dict[int, dict[str, ZipMember]] = {}
        for line in self._path.read_bytes().splitlines():
            with contextlib.suppress(msgspec.DecodeError):  # one half-written
                placed = msgspec.json.decode(line, type=ZipMember)
                noted.setdefault(placed.volume, {})[placed.name] = placed
        return noted

    def note(self, placed: ZipMember) -> None:
        """Append a line."""
        line = msgspec.json.encode(placed) + b"\n"
        self._end = write_at(self._file, line, self._end)

    def restart(self, members: Iterable[ZipMember]) -> None:
        """Have lines of ``members`` only, from one moment to the next."""
        new = self._path.with_suffix(".new")
        new.write_bytes(b"".join(msgspec.json.encode(placed) + b"\n" for placed in members))
        new.rename(self._path)
        self._file.close()
        self._open()

    def close(self) -> None:
        """No more lines."""
        self._file.close()

    def remove(self) -> None:
        """What it told of is complete."""
        self._path.unlink()
