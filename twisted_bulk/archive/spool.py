"""Where a large member waits until it is whole and checked."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Protocol

from twisted_bulk.archive.volume import BLOCK, Volume, ZipMember
from twisted_bulk.archive.zip_records import local_header
from twisted_bulk.system.disk import write_at


class Spool(Protocol):
    """A member's bytes as they come. Its methods block."""

    def write(self, data: bytes) -> None:
        """Append a piece."""

    def read(self) -> Iterator[bytes]:
        """All pieces."""

    def close(self) -> None:
        """They are not needed any more."""


class Scratch:
    """A file of its own, in ``folder``: gone with its descriptor, whatever happens."""

    def __init__(self, folder: Path) -> None:
        path = folder / f"{id(self):x}.member"
        self.file: Any = open(path, "w+b", buffering=0)  # noqa: SIM115
        path.unlink()
        self._end = 0

    def write(self, data: bytes) -> None:
        self._end = write_at(self.file, data, self._end)

    def read(self) -> Iterator[bytes]:
        self.file.seek(0)
        while block := self.file.read(BLOCK):
            yield block

    def close(self) -> None:
        self.file.close()


class ReservedPlace:
    """Its place in the archive, for one that is stored as it comes and whose size is known.

    :param blank: what it will be, but for its checksums
    :param work: held while the volume's file is used
    """

    def __init__(
        self, volume: Volume, blank: ZipMember, work: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self.blank = blank
        self._volume = volume
        self._work = work
        self._begin = self._end = blank.end - blank.size
        self._open = True

    def write(self, data: bytes) -> None:
        if self._end + len(data) > self.blank.end:
            raise ValueError("more bytes than there is room for")
        with self._work():
            self._end = self._volume.write(data, self._end)

    def read(self) -> Iterator[bytes]:
        return self._volume.blocks(self._begin, self._end)

    def complete(self, placed: ZipMember) -> Volume:
        """Write what stands before its data, now that the checksum is known.

        :returns: where it stands; :meth:`Volume.settle` is next
        """
        if not self._end == self.blank.end == placed.end:
            raise ValueError("fewer bytes than there is room for")
        self._open = False
        self._volume.write(local_header(placed.entry), placed.offset)
        return self._volume

    def close(self) -> None:
        if self._open:  # a second time the place may be another's
            self._open = False
            # Where all is complete without it, or was given up, there is nothing to give back.
            with suppress(ValueError), self._work():
                self._volume.free(self.blank.offset)
