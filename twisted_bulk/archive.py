"""The zip writer: members in, one file out, or several where one would grow too large.

A member is whole and checked before its first byte is written, so nothing truncated gets
in. What has been written is noted in a journal beside the files: after a crash an archive
is read again, and goes on behind its last member that is right.
"""

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import msgspec
from isal import isal_zlib

from twisted_bulk.packer import Encoder, write_at
from twisted_bulk.zipformat import (
    DEFLATED,
    STORED,
    Entry,
    central_header,
    end_records,
    local_header,
)

JOURNAL = "journal"
IsalError = cast(type[Exception], isal_zlib.error)
BLOCK = 1 << 20


class Placed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A member that is in: a line of the journal.

    :param volume: the file that has it, from 1
    :param verified: its end was certain
    """

    name: str
    volume: int
    offset: int
    method: int
    crc: int
    size: int
    packed: int
    modified: float
    sha256: str
    verified: bool = True
    attempts: int = 1

    @property
    def entry(self) -> Entry:
        """Its line in the directory."""
        return Entry(
            self.name.encode(), self.method, self.crc, self.size, self.packed, self.modified,
            self.offset,
        )  # fmt: skip


class _Volume:
    """One zip file."""

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        self.offset = 0
        self.entries: list[Entry] = []
        self._sha256 = hashlib.sha256()
        self.file: BinaryIO = cast(BinaryIO, open(path, mode, buffering=0))  # noqa: SIM115

    def write(self, data: bytes) -> None:
        self._sha256.update(data)
        self.offset = write_at(self.file, data, self.offset)

    def add(self, entry: Entry, pieces: Iterable[bytes]) -> None:
        self.write(local_header(entry))
        for piece in pieces:
            self.write(piece)
        assert self.offset == entry.end
        self.entries.append(entry)

    def accept(self, placed: Sequence[Placed]) -> list[Placed]:
        """Of what was written before, what is whole and right; the rest is cut off."""
        right = []
        for one in placed:
            header = local_header(one.entry)
            if one.offset != self.offset or self.file.read(len(header)) != header:
                break
            seen = self._sha256.copy()
            seen.update(header)
            if not self._check(one, seen):
                break
            self._sha256, self.offset = seen, one.entry.end
            self.entries.append(one.entry)
            right.append(one)
        self.file.truncate(self.offset)
        return right

    def _check(self, one: Placed, seen: "hashlib._Hash") -> bool:
        inflate = isal_zlib.decompressobj(-15) if one.method == DEFLATED else None
        crc, size, left = 0, 0, one.packed
        while left:
            block = self.file.read(min(left, BLOCK))
            if not block:
                return False
            left -= len(block)
            seen.update(block)
            try:
                data = inflate.decompress(block) if inflate else block
            except IsalError:
                return False
            crc, size = isal_zlib.crc32(data, crc), size + len(data)
        return (crc, size) == (one.crc, one.size)

    def close(self) -> tuple[int, str]:
        """Write the directory and make all durable.

        :returns: the file's size and SHA-256
        """
        start = self.offset
        self.write(b"".join(map(central_header, self.entries)))
        self.write(end_records(self.entries, start, self.offset - start))
        os.fsync(self.file.fileno())
        self.file.close()
        return self.offset, self._sha256.hexdigest()


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
        self.claim = claim
        self.folder = folder
        self.mode = mode
        self._limit = limit
        self._lock = threading.Lock()
        self._volumes: list[_Volume] = []
        self._closed = False
        (folder / JOURNAL).touch()
        self._journal = open(folder / JOURNAL, "r+b", buffering=0)  # noqa: SIM115
        self._noted = 0

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
            volume = _Volume(path, "r+b")
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

    def copy(self, placed: Placed, pieces: Iterable[bytes]) -> Placed:
        """Append a member of another archive as it is."""
        with self._lock:
            return self._append(placed, pieces)

    def _append(self, new: Placed, pieces: Iterable[bytes]) -> Placed:
        self.claim(new.packed)
        volume = self._volumes[-1] if self._volumes else None
        if volume is None or (volume.entries and volume.offset + new.packed > self._limit):
            volume = _Volume(self._path(len(self._volumes) + 1), "xb")
            self._volumes.append(volume)
        number = len(self._volumes)
        placed = msgspec.structs.replace(new, volume=number, offset=volume.offset)
        try:
            volume.add(placed.entry, pieces)
            self._note(placed)
        except BaseException:
            self._end()  # nothing may follow half a member
            raise
        return placed

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

    def abandon(self) -> None:
        """Give up; writes that are on their way end with an error. The files stay."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        self._closed = True
        self._journal.close()
        for volume in self._volumes:
            volume.file.close()
