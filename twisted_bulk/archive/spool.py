"""Where a large member waits until it is whole and checked."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Protocol

from twisted_bulk.archive.volume import Volume
from twisted_bulk.archive.zip_member import BLOCK_BYTES, ZipMember
from twisted_bulk.archive.zip_records import local_header
from twisted_bulk.system.disk import write_at


class Spool(Protocol):
    """Keeps a member's bytes as they come. Its methods block."""

    def write(self, data: bytes) -> None:
        """Append a piece."""

    def read(self) -> Iterator[bytes]:
        """All pieces."""

    def close(self) -> None:
        """The bytes are not needed any more."""


class Scratch:
    """A file without a name, in ``folder``: it is gone when its descriptor is closed."""

    def __init__(self, folder: Path) -> None:
        path = folder / f"{id(self):x}.member"
        self.file: Any = open(path, "w+b", buffering=0)  # noqa: SIM115
        path.unlink()
        self._end = 0

    def write(self, data: bytes) -> None:
        self._end = write_at(self.file, data, self._end)

    def read(self) -> Iterator[bytes]:
        self.file.seek(0)
        while block := self.file.read(BLOCK_BYTES):
            yield block

    def close(self) -> None:
        self.file.close()


class ReservedPlace:
    """The member's place in the zip, for a stored one of known size.

    :param blank: the member, without its checksums
    :param work: a context manager in which the volume's file is used
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
        """Write its local header, now that the checksum is known.

        :returns: the volume that has it; :meth:`Volume.settle` is next
        """
        if not self._end == self.blank.end == placed.end:
            raise ValueError("fewer bytes than there is room for")
        self._open = False
        self._volume.write(local_header(placed.entry), placed.offset)
        return self._volume

    def close(self) -> None:
        if self._open:  # after a second call the place may be another member's
            self._open = False
            # In an archive that is complete, or was given up, nothing is given back.
            with suppress(ValueError), self._work():
                self._volume.free(self.blank.offset)
