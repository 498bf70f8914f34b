"""The zip writer: members in, one zip out, or several if one would grow too large.

A member gets its header, and its entry in the directory, once it is whole and checked, so nothing
truncated gets in. Several members may be written at once, each to a place of its own. A journal
beside the files has the members that are whole: after a crash an archive is read again, and goes on
behind those of them that are right.
"""

import contextlib
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from twisted_bulk.archive.encoder import Data, Encoded
from twisted_bulk.archive.journal import Journal
from twisted_bulk.archive.spool import ReservedPlace
from twisted_bulk.archive.volume import Volume
from twisted_bulk.archive.volumes import ClosedZip, Volumes
from twisted_bulk.archive.zip_member import UNKNOWN, Source, ZipMember, packed_data
from twisted_bulk.archive.zip_records import modified_of
from twisted_bulk.system.disk import begin_writing

HASH_BYTES = 8 << 20  # that are written before the zips are hashed again
SYNC_BYTES = 64 << 20  # that are written before the kernel is told again to write to the disk


class Archive:
    """The zips of one part, in ``folder``. Its methods block; threads may share it.

    ``claimed``: bytes for which room was asked.

    :param mode: how members are compressed, see :func:`~twisted_bulk.archive.encoder.encode`
    :param limit: bytes beyond which the next member begins another file
    :param claim: asked for room before each write; raises OSError where there is none
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
        self._lock = threading.Lock()
        self._left = threading.Condition(self._lock)
        self._at_work = 0  # threads that use the files
        self._closed = self._abandoned = False
        self._written = self._hashed = self._synced = 0  # bytes
        self.hashing = self.syncing = False
        self._journal = Journal(folder)
        self._volumes = Volumes(folder, limit, self._journal, self._while_open)

    def claim(self, size: int) -> None:
        """Ask for room before ``size`` bytes are written. :raises OSError: there is none"""
        self.claimed += size
        self._room(size)

    def resume(self, wanted: Callable[[ZipMember], bool] = bool) -> list[ZipMember]:
        """The members that an earlier attempt had put in, as far as they are right and wanted."""
        with self._work():
            right = self._volumes.resume(self._journal.read(), wanted)
            self._written += sum(volume.offset for volume in self._volumes)
        return right

    def reserve(self, name: str, size: int, modified: float) -> ReservedPlace:
        """A place for a member of ``size`` bytes that is stored."""
        blank = ZipMember.blank(name, modified, size=size, packed=size)
        with self._work():
            return ReservedPlace(*self._take(blank), self._work)

    def add(
        self,
        names: Mapping[int, str],
        encoded: Encoded,
        pieces: Callable[[], Iterable[Data]],
        modified: float,
        source: Source = UNKNOWN,
        place: ReservedPlace | None = None,
    ) -> list[ZipMember]:
        """Put one whole member in, under each of its names.

        :param names: by their numbers within the part
        :param pieces: returns its encoded form
        :param modified: seconds since 1970
        :param place: where its data stands already, for its first name
        :raises ValueError: the archive was given up
        """
        new = ZipMember.blank(
            "", modified, method=encoded.method, crc=encoded.crc, size=encoded.size,
            packed=encoded.packed, sha256=encoded.sha256, **msgspec.structs.asdict(source),
        )  # fmt: skip
        placed: list[ZipMember] = []
        for number, name in names.items():
            one = msgspec.structs.replace(new, name=name, number=number)
            here = place if not placed else None
            placed.append(self._append(one, pieces()) if here is None else self._settle(one, here))
        return placed

    def copy(self, path: Path, about: Callable[[str], ZipMember | None]) -> list[ZipMember]:
        """Add members of another zip, without decompressing them.

        :param about: what the journal notes of a member, by its name; None leaves it out
        """
        copied = []
        with zipfile.ZipFile(path) as found, open(path, "rb") as file:
            for info in found.infolist():
                if (wanted := about(info.filename)) is not None:
                    new = msgspec.structs.replace(
                        wanted, method=info.compress_type, crc=info.CRC, size=info.file_size,
                        packed=info.compress_size, modified=modified_of(info),
                    )  # fmt: skip
                    copied.append(self._append(new, packed_data(file, info)))
        return copied

    @contextlib.contextmanager
    def _work(self) -> Iterator[None]:
        """A thread uses the files: they are not closed meanwhile.

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
                volume.fill(placed, self._while_open(pieces))
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
        with self._lock:
            return self._volumes.take(new)

    def _done(self, volume: Volume, placed: ZipMember) -> None:
        with self._lock:
            self._journal.note(placed)
            self._written += placed.packed
        volume.settle(placed)

    def background_work(self) -> list[Callable[[], None]]:
        """Functions to call now on other threads, as so much was written since the last call."""
        due: list[Callable[[], None]] = []
        if self._written - self._hashed >= HASH_BYTES and not self.hashing:
            self.hashing = True
            due.append(self._hash)
        if self.claimed - self._synced >= SYNC_BYTES and not self.syncing:
            self.syncing = True
            due.append(self._sync)
        return due

    def _hash(self) -> None:
        """Hash the bytes that were written, so that closing need not."""
        # ValueError: the archive was given up meanwhile. OSError: closing will meet it, too.
        with contextlib.suppress(ValueError, OSError), self._work():
            self._hashed = self._written
            for volume in self._volumes.latest:
                while not self._closed and volume.follow():
                    pass
        self.hashing = False

    def _sync(self) -> None:
        """Let the kernel begin to write to the disk: closing waits for the rest only."""
        with contextlib.suppress(ValueError), self._work():
            self._synced = self.claimed
            for volume in self._volumes.latest:
                begin_writing(volume.file.fileno())
        self.syncing = False

    def _while_open(self, pieces: Iterable[Data]) -> Iterator[Data]:
        """Pass pieces on.

        :raises ValueError: the archive is given up
        """
        for piece in pieces:
            if self._abandoned:
                raise ValueError("the archive has been given up")
            yield piece

    def used(self) -> list[int]:
        """The numbers of the files that have members; :meth:`close` removes the others."""
        return self._volumes.used

    def close(
        self, last: Callable[[int, int], str], content: bytes, modified: float
    ) -> list[ClosedZip]:
        """Add one more member to each file, write the directories, make all durable.

        :param last: returns its name, of a file's number and how many they are; empty: no member
        :param modified: its date, in seconds since 1970
        """
        with self._alone():
            closed = self._volumes.close(last, content, modified)
            self._journal.close()
            self._journal.remove()
        return closed

    def drop(self) -> list[ClosedZip]:
        """Give up, and remove all files; returns the files that are left: none."""
        self.abandon()
        for path in self.folder.iterdir():
            path.unlink()
        return []

    def abandon(self) -> None:
        """Give up; writes that are under way end with an error. The files stay."""
        self._abandoned = True
        with self._left:
            self._closed = True
            self._left.wait_for(lambda: not self._at_work)
            self._journal.close()
            self._volumes.close_files()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other thread uses the files from now on. :raises ValueError: they are closed"""
        with self._work():
            with self._left:
                self._closed = True
                self._left.wait_for(lambda: self._at_work == 1)
            yield
