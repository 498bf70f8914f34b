"""The journal of an archive: a file beside it, so that a crash loses no member."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from twisted_bulk.archive.zip_member import ZipMember
from twisted_bulk.storage.names import JOURNAL
from twisted_bulk.system.disk import write_at


class Journal:
    """A JSON line for each member that stands in the archive; the last line of a member counts.

    Its methods block.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL
        self._path.touch()
        self._open()

    def _open(self) -> None:
        self._file = open(self._path, "r+b", buffering=0)  # noqa: SIM115
        there = self._path.read_bytes()
        self._end = len(there)
        if there and not there.endswith(b"\n"):  # a crash cut the last line off
            self._end = write_at(self._file, b"\n", self._end)

    def read(self) -> dict[int, dict[str, ZipMember]]:
        """The members of each volume by name."""
        noted: dict[int, dict[str, ZipMember]] = {}
        for line in self._path.read_bytes().splitlines():
            with contextlib.suppress(msgspec.DecodeError):  # a crash cut this line off
                placed = msgspec.json.decode(line, type=ZipMember)
                noted.setdefault(placed.volume, {})[placed.name] = placed
        return noted

    def note(self, placed: ZipMember) -> None:
        """Append the line of a member."""
        line = msgspec.json.encode(placed) + b"\n"
        self._end = write_at(self._file, line, self._end)

    def restart(self, members: Iterable[ZipMember]) -> None:
        """Replace all lines by those of ``members``, in one step."""
        new = self._path.with_suffix(".new")
        new.write_bytes(b"".join(msgspec.json.encode(placed) + b"\n" for placed in members))
        new.rename(self._path)
        self._file.close()
        self._open()

    def close(self) -> None:
        """Close the file; it stays."""
        self._file.close()

    def remove(self) -> None:
        """Remove the file: the archive is complete."""
        self._path.unlink()
