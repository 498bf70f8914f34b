"""The zip writer: members in, one file out, or several where one would grow too large.

A member gets its header, and its line in the directory, once it is whole and checked, so nothing
truncated gets in; several may be written at once, each to a place of its own. What is whole is
noted in a journal beside the files: after a crash an archive is read again, and goes on
behind its members that are right.
"""

import contextlib
import sys
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from twisted_bulk.archive.encoder import Data, Encoded, encode
from twisted_bulk.archive.journal import Journal
from twisted_bulk.archive.spool import ReservedPlace
from twisted_bulk.archive.volume import Volume, ZipMember, packed_data
from twisted_bulk.archive.zip_records import MARK, STORED
from twisted_bulk.system.disk import begin_writing

FOLLOW = 8 << 20  # bytes between two times that what was written is hashed
SYNC = 64 << 20  # bytes between two times that the disk is asked to keep up


class Archive:
    """The zips of one part, being written into ``folder``. Its methods block.

    :param mode: how members are compressed, see :func:`encode`
    :param limit: bytes beyond which the next member begins another file
    :param claim: asked for room before each write
    """

    def __init__(
        self,
        folder: Path,
        mode: str,
        limit: int,
        claim: Callable[[int], object] = lambda size: None,
    ) -> None:
        self.claimed = 0
        self._room = claim
        self.folder = folder
        self.mode = mode
        self._limit = limit
        self._lock = threading.Lock()
        self._left = threading.Condition(self._lock)
        self._at_work = 0  # threads that use the files
        self._volumes: list[Volume] = []
        self._closed = self._abandoned = False
        self._whole = self._followed = 0
        self._synced = 0
        self.following = self.syncing = False
        self._journal = Journal(folder)

    def claim(self, size: int) -> None:
        """Before ``size`` bytes are written.

        :raises OSError: there is no room for them
        """
        self.claimed += size
        self._room(size)

    def resume(self) -> list[ZipMember]:
        """What an attempt before this one had put in, as far as it is right."""
        with self._work():
            return self._resume(self._journal.read())

    def _resume(self, noted: dict[int, dict[str, ZipMember]]) -> list[ZipMember]:
        right: list[ZipMember] = []
        for number in sorted(noted):
            if self._path(number).exists():
                right += self._resume_volume(self._path(number), noted[number].values())
        for path in self.folder.glob("*.zip"):
            if path not in [volume.path for volume in self._volumes]:
                path.unlink()
        self._journal.restart(right)
        return right

    def _resume_volume(self, path: Path, noted: Iterable[ZipMember]) -> list[ZipMember]:
        """What is right in one file; those without anything do not count."""
        volume = Volume(path, "r+b")
        try:
            right = volume.accept(noted, self._wanted, self._journal.note)
        except BaseException:
            volume.file.close()
            raise
        if not right:
            volume.file.close()
            return []
        self._volumes.append(volume)
        self._whole += volume.offset
        number = len(self._volumes)
        right = [msgspec.structs.replace(one, volume=number) for one in right]
        if path != self._path(number):
            for one in right:  # first: after a crash between the two, the old lines still hold
                self._journal.note(one)
            volume.path = path.rename(self._path(number))
        return right

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.zip"

    def reserve(self, name: str, size: int, modified: float) -> ReservedPlace:
        """Room for a member that shall be stored, of ``size`` bytes."""
        blank = ZipMember(
            name=name, volume=0, offset=0, method=STORED, crc=0, size=size, packed=size,
            modified=modified, sha256="",
        )  # fmt: skip
        with self._work():
            return ReservedPlace(*self._take(blank), self._work)

    def add(
        self,
        names: Sequence[str],
        encoded: Encoded,
        pieces: Callable[[], Iterable[Data]],
        modified: float,
        *,
        verified: bool = True,
        attempts: int = 1,
        place: ReservedPlace | None = None,
    ) -> list[ZipMember]:
        """Put one whole member in, under each of its names.

        :param pieces: its encoded form
        :param place: where it stands already, for its first name
        """
        new = ZipMember(
            name="", volume=0, offset=0, method=encoded.method, crc=encoded.crc,
            size=encoded.size, packed=encoded.packed, modified=modified,
            sha256=encoded.sha256, verified=verified, attempts=attempts,
        )  # fmt: skip
        placed: list[ZipMember] = []
        for name in names:
            one = msgspec.structs.replace(new, name=name)
            here = place if not placed else None
            placed.append(self._append(one, pieces()) if here is None else self._settle(one, here))
        return placed

    def copy(self, path: Path, about: Callable[[str], ZipMember | None]) -> list[ZipMember]:
        """Append members of another zip as they are, without decompressing.

        :param about: what to note of a member by its name; None leaves it out
        """
        copied = []
        with zipfile.ZipFile(path) as found, open(path, "rb") as file:
            for info in found.infolist():
                wanted = about(info.filename)
                if wanted is not None:
                    new = msgspec.structs.replace(
                        wanted, method=info.compress_type, crc=info.CRC, size=info.file_size,
                        packed=info.compress_size,
                    )  # fmt: skip
                    copied.append(self._append(new, packed_data(file, info)))
        return copied

    @contextlib.contextmanager
    def _work(self) -> Iterator[None]:
        """While a thread uses the files they are not closed under it.

        :raises ValueError: they are closed
        """
        with self._lock:
            if self._closed:
                raise ValueError("the archive has been given up")
            self._at_work += 1
        try:
            yield
        finally:
            with self._left:
                self._at_work -= 1
                self._left.notify_all()

    def _append(self, new: ZipMember, pieces: Iterable[Data]) -> ZipMember:
        self.claim(new.packed)
        with self._work():
            volume, placed = self._take(new)
            try:
                volume.fill(placed, self._wanted(pieces))
                self._done(volume, placed)
            except BaseException:
                volume.free(placed.offset)
                raise
        return placed

    def _settle(self, new: ZipMember, place: ReservedPlace) -> ZipMember:
        blank = place.blank
        placed = msgspec.structs.replace(new, volume=blank.volume, offset=blank.offset)
        with self._work():
            self._done(place.complete(placed), placed)
        return placed

    def _take(self, new: ZipMember) -> tuple[Volume, ZipMember]:
        size = new.end
        # In a file's first 4 GiB every reader finds a member whose size is the mark of zip64.
        # Behind these unzip 6.00 does not, though its header is as APPNOTE 4.5.3 says.
        before = MARK if MARK in (new.size, new.packed) else sys.maxsize
        with self._lock:
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

    def _done(self, volume: Volume, placed: ZipMember) -> None:
        with self._lock:
            self._journal.note(placed)
            self._whole += placed.packed
        volume.settle(placed)

    def asides(self) -> list[Callable[[], None]]:
        """What shall be called now, on other threads, as so much was written since."""
        due: list[Callable[[], None]] = []
        if self._whole - self._followed >= FOLLOW and not self.following:
            self.following = True
            due.append(self._follow)
        if self.claimed - self._synced >= SYNC and not self.syncing:
            self.syncing = True
            due.append(self._sync)
        return due

    def _follow(self) -> None:
        """Hash what was written, so that closing need not."""
        # Given up meanwhile; or closing will meet the same error.
        with contextlib.suppress(ValueError, OSError), self._work():
            self._followed = self._whole
            for volume in self._volumes[-2:]:
                while not self._closed and volume.follow():
                    pass
        self.following = False

    def _sync(self) -> None:
        """Let what was written begin its way to the disk; closing has to wait for the rest."""
        with contextlib.suppress(ValueError), self._work():
            self._synced = self.claimed
            for volume in self._volumes[-2:]:
                begin_writing(volume.file.fileno())
        self.syncing = False

    def _wanted(self, pieces: Iterable[Data]) -> Iterator[Data]:
        for piece in pieces:
            if self._abandoned:
                raise ValueError("the archive has been given up")
            yield piece

    def used(self) -> list[int]:
        """The numbers of the files that have members; all but these go when it is closed."""
        return [number for number, volume in enumerate(self._volumes, 1) if volume.members]

    def close(self, last: str, content: bytes, modified: float) -> list[tuple[Path, int, str, int]]:
        """Append one more member to each file, write the directories, make all durable.

        :returns: of each file: where it is, its size, its SHA-256, and how many members it has
        """
        encoded, packed = encode("deflate", content)
        closed = []
        with self._alone():
            for volume in self._volumes:
                if not volume.members:
                    volume.file.close()
                    volume.path.unlink()
                    continue
                volume.join(self._journal.note)
                members = len(volume.members)
                note = ZipMember(
                    name=last, volume=0, offset=volume.offset, method=encoded.method,
                    crc=encoded.crc, size=encoded.size, packed=encoded.packed, modified=modified,
                    sha256="",
                )  # fmt: skip
                volume.take(note.end - note.offset, sys.maxsize)
                volume.fill(note, [packed])
                volume.settle(note)
                closed.append((volume.path, *volume.close(), members))
            self._journal.close()
            self._journal.remove()
        return closed

    def drop(self) -> list[tuple[Path, int, str, int]]:
        """Nothing of it is wanted.

        :returns: the files that are left: none
        """
        self.abandon()
        for path in self.folder.iterdir():
            path.unlink()
        return []

    def abandon(self) -> None:
        """Give up; writes that are on their way end with an error. The files stay."""
        self._abandoned = True
        with self._left:
            self._closed = True
            self._left.wait_for(lambda: not self._at_work)
            self._journal.close()
            for volume in self._volumes:
                volume.file.close()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """From now on nobody else uses the files.

        :raises ValueError: they are closed
        """
        with self._work():
            with self._left:
                self._closed = True
                self._left.wait_for(lambda: self._at_work == 1)
            yield
