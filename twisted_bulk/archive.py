"""The zip writer: members in, one file out, or several where one would grow too large.

A member is whole and checked before its first byte is written, so nothing truncated gets
in. What has been written is noted in a journal beside the files: after a crash an archive
is read again, and goes on behind its last member that is right.
"""

import contextlib
import os
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
from twisted.internet.defer import DeferredLock

from twisted_bulk.packer import Encoder, write_at
from twisted_bulk.volume import Placed, Volume, packed_data
from twisted_bulk.zipformat import STORED, Entry

JOURNAL = "journal"
SYNC = 64 << 20  # bytes between two times that the disk is asked to keep up


class Archive:
    """The zips of one part, being written into ``folder``. Its methods block.

    :param mode: how members are compressed, see :class:`Encoder`
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
        self._volumes: list[Volume] = []
        self._closed = self._abandoned = False
        #: Held, in the reactor, while a large member is copied in: no thread shall wait for that.
        self.copying = DeferredLock()
        self._written = self._synced = 0
        self.syncing = False
        (folder / JOURNAL).touch()
        self._journal = open(folder / JOURNAL, "r+b", buffering=0)  # noqa: SIM115
        self._noted = 0

    def claim(self, size: int) -> None:
        """Before ``size`` bytes are written.

        :raises OSError: there is no room for them
        """
        self.claimed += size
        self._room(size)

    def resume(self) -> list[Placed]:
        """What an attempt before this one had put in, as far as it is right."""
        noted: dict[int, list[Placed]] = {}
        for line in (self.folder / JOURNAL).read_bytes().splitlines():
            with contextlib.suppress(msgspec.DecodeError):  # the last one, half-written
                placed = msgspec.json.decode(line, type=Placed)
                noted.setdefault(placed.volume, []).append(placed)
        right: list[Placed] = []
        for number in range(1, len(noted) + 1):
            path = self._path(number)
            if number not in noted or not path.exists():
                break
            volume = Volume(path, "r+b")
            self._volumes.append(volume)
            right += volume.accept(noted[number])
        for path in self.folder.glob("*.zip"):
            if path not in [volume.path for volume in self._volumes]:
                path.unlink()
        self._journal.truncate(0)
        for one in right:
            self._note(one)
        return right

    def _note(self, placed: Placed) -> None:
        line = msgspec.json.encode(placed) + b"\n"
        self._noted = write_at(self._journal, line, self._noted)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.zip"

    def add(
        self,
        names: Sequence[str],
        encoder: Encoder,
        packed: int,
        pieces: Callable[[], Iterable[bytes]],
        modified: float,
        *,
        verified: bool = True,
        attempts: int = 1,
    ) -> list[Placed]:
        """Append one whole member, under each of its names.

        :param pieces: its encoded form, ``packed`` bytes in all
        """
        method = STORED if encoder.method is None else encoder.method
        with self._lock:
            if self._closed:
                raise ValueError("the archive has been given up")
            return [
                self._append(
                    Placed(
                        name=name, volume=0, offset=0, method=method, crc=encoder.crc,
                        size=encoder.size, packed=packed, modified=modified,
                        sha256=encoder.sha256, verified=verified, attempts=attempts,
                    ),
                    pieces(),
                )
                for name in names
            ]  # fmt: skip

    def copy(self, path: Path, about: Callable[[str], Placed | None]) -> list[Placed]:
        """Append members of another zip as they are, without decompressing.

        :param about: what to note of a member by its name; None leaves it out
        """
        copied = []
        with zipfile.ZipFile(path) as found, open(path, "rb") as file, self._lock:
            for info in found.infolist():
                wanted = about(info.filename)
                if wanted is not None:
                    new = msgspec.structs.replace(
                        wanted, method=info.compress_type, crc=info.CRC, size=info.file_size,
                        packed=info.compress_size,
                    )  # fmt: skip
                    copied.append(self._append(new, packed_data(file, info)))
        return copied

    def _append(self, new: Placed, pieces: Iterable[bytes]) -> Placed:
        self.claim(new.packed)
        volume = self._volumes[-1] if self._volumes else None
        if volume is None or (volume.entries and volume.offset + new.packed > self._limit):
            volume = Volume(self._path(len(self._volumes) + 1), "xb")
            self._volumes.append(volume)
        number = len(self._volumes)
        placed = msgspec.structs.replace(new, volume=number, offset=volume.offset)
        try:
            volume.add(placed.entry, self._wanted(pieces))
            self._note(placed)
        except BaseException:
            self._end()  # nothing may follow half a member
            raise
        self._written += placed.packed
        return placed

    def sync_due(self) -> bool:
        """Whether so much was written that :meth:`sync` shall be called, now and once."""
        if self.syncing or self._written - self._synced < SYNC:
            return False
        self.syncing = True
        return True

    def sync(self) -> None:
        """Let what was written begin its way to the disk; closing has to wait for the rest."""
        written, volume = self._written, self._volumes[-1]
        end = volume.offset
        begin = max(0, end - (written - self._synced))
        # By a descriptor of its own: the other may be closed meanwhile. Not fdatasync: writers
        # would wait for its commits. What is dirty is written by this, and stays in memory.
        with contextlib.suppress(OSError), open(volume.path, "rb") as file:
            os.posix_fadvise(file.fileno(), begin, end - begin, os.POSIX_FADV_DONTNEED)
        self._synced = written
        self.syncing = False

    def _wanted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if self._abandoned:
                raise ValueError("the archive has been given up")
            yield piece

    def close(self, last: str, content: bytes, modified: float) -> list[tuple[Path, int, str, int]]:
        """Append one more member to each file, write the directories, make all durable.

        :returns: of each file: where it is, its size, its SHA-256, and how many members it has
        """
        encoder = Encoder("deflate")
        packed = encoder.update(content) + encoder.flush()
        closed = []
        with self._lock:
            if self._closed:
                raise ValueError("the archive has been given up")
            for volume in self._volumes:
                members = len(volume.entries)
                entry = Entry(
                    last.encode(), encoder.method or STORED, encoder.crc, encoder.size,
                    len(packed), modified, volume.offset,
                )  # fmt: skip
                volume.add(entry, [packed])
                closed.append((volume.path, *volume.close(), members))
            self._end()
        (self.folder / JOURNAL).unlink()
        return closed

    def drop(self) -> list[tuple[Path, int, str, int]]:
        """Nothing of it is wanted.

        :returns: the files that are left: none
        """
        with self._lock:
            self._end()
        for path in self.folder.iterdir():
            path.unlink()
        return []

    def abandon(self) -> None:
        """Give up; writes that are on their way end with an error. The files stay."""
        self._abandoned = True
        with self._lock:
            self._end()

    def _end(self) -> None:
        self._closed = True
        self._journal.close()
        for volume in self._volumes:
            volume.file.close()
