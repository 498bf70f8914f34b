"""The zip files of one archive: which one a member goes into, and their end."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from twisted_bulk.archive.encoder import Data, encode
from twisted_bulk.archive.journal import Journal
from twisted_bulk.archive.volume import Volume
from twisted_bulk.archive.zip_member import ZipMember
from twisted_bulk.archive.zip_records import MARK

WhileOpen = Callable[[Iterable[Data]], Iterator[Data]]


class ClosedZip(NamedTuple):
    """A finished zip.

    :param members: without its manifest
    """

    path: Path
    size: int
    sha256: str
    members: int


class Volumes:
    """The zip files in ``folder``, in their order. Its methods block; none locks.

    :param limit: bytes beyond which the next member begins another file
    :param while_open: wraps an iterator; raises ValueError once the archive is given up
    """

    def __init__(self, folder: Path, limit: int, journal: Journal, while_open: WhileOpen) -> None:
        self._folder = folder
        self._limit = limit
        self._journal = journal
        self._while_open = while_open
        self._volumes: list[Volume] = []

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.zip"

    def __iter__(self) -> Iterator[Volume]:
        return iter(self._volumes)

    @property
    def latest(self) -> list[Volume]:
        """The files that may still grow: a member may be on its way to the last but one."""
        return self._volumes[-2:]

    @property
    def used(self) -> list[int]:
        """The numbers of the files that have members."""
        return [number for number, volume in enumerate(self._volumes, 1) if volume.members]

    def resume(
        self, noted: dict[int, dict[str, ZipMember]], wanted: Callable[[ZipMember], bool] = bool
    ) -> list[ZipMember]:
        """Open the files of an earlier attempt again; returns its members that are right.

        :param noted: the members of each file by name, by the journal
        :param wanted: whether a member stays; others are removed
        """
        right: list[ZipMember] = []
        for number in sorted(noted):
            if self._path(number).exists():
                right += self._resume_one(
                    self._path(number), filter(wanted, noted[number].values())
                )
        for path in self._folder.glob("*.zip"):
            if path not in [volume.path for volume in self._volumes]:
                path.unlink()
        self._journal.restart(right)
        return right

    def _resume_one(self, path: Path, noted: Iterable[ZipMember]) -> list[ZipMember]:
        """The right members of one file; a file without any does not count."""
        volume = Volume(path, "r+b")
        try:
            right = volume.accept(noted, self._while_open, self._journal.note)
        except BaseException:
            volume.file.close()
            raise
        if not right:
            volume.file.close()
            return []
        self._volumes.append(volume)
        number = len(self._volumes)
        right = [msgspec.structs.replace(one, volume=number) for one in right]
        if path != self._path(number):
            for one in right:  # first: after a crash between the two the old lines still hold
                self._journal.note(one)
            volume.path = path.rename(self._path(number))
        return right

    def take(self, new: ZipMember) -> tuple[Volume, ZipMember]:
        """A place for a member: the file, and the member with its number and offset."""
        size = new.end
        # In a file's first 4 GiB every reader finds a member whose size is the mark of zip64.
        # Behind these unzip 6.00 does not, though its header is as APPNOTE 4.5.3 says.
        before = MARK if MARK in (new.size, new.packed) else sys.maxsize
        for number, volume in enumerate(self._volumes, 1):
            limit = self._limit if number == len(self._volumes) else 0
            offset = volume.take(size, limit, before)
            if offset is not None:
                break
        else:
            number = len(self._volumes) + 1
            volume = Volume(self._path(number), "x+b")
            self._volumes.append(volume)
            offset = volume.take(size, self._limit)
        assert offset is not None
        return volume, msgspec.structs.replace(new, volume=number, offset=offset)

    def close(
        self, last: Callable[[int, int], str], content: bytes, modified: float
    ) -> list[ClosedZip]:
        """Add one more member to each file, and complete it; files without members go.

        :param last: returns the name of that member, see :meth:`Archive.close`
        :param modified: its date, in seconds since 1970
        """
        encoded, packed = encode("deflate", content)
        closed: list[ClosedZip] = []
        count = len(self.used)
        for volume in self._volumes:
            if not volume.members:
                volume.file.close()
                volume.path.unlink()
                continue
            volume.join(self._journal.note)
            members = len(volume.members)
            name = last(len(closed) + 1, count)
            if name:
                note = ZipMember.blank(
                    name, modified, offset=volume.offset, method=encoded.method, crc=encoded.crc,
                    size=encoded.size, packed=encoded.packed,
                )  # fmt: skip
                volume.take(note.end - note.offset, sys.maxsize)
                volume.fill(note, [packed])
                volume.settle(note)
            closed.append(ClosedZip(volume.path, *volume.close(), members))
        return closed

    def close_files(self) -> None:
        """Close the files as they are; they stay."""
        for volume in self._volumes:
            volume.file.close()
