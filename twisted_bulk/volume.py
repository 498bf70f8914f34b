"""One zip file: written, read again after a crash, and read as a source for another."""

import hashlib
import os
import struct
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
from isal import isal_zlib

from twisted_bulk.packer import write_at
from twisted_bulk.zipformat import DEFLATED, Entry, central_header, end_records, local_header

BLOCK = 1 << 20
IsalError = cast(type[Exception], isal_zlib.error)


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


class Volume:
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
                for data in _inflated(inflate, block) if inflate else [block]:
                    crc, size = isal_zlib.crc32(data, crc), size + len(data)
            except IsalError:
                return False
        if inflate:
            data = inflate.flush()
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


def _inflated(inflate: Any, block: bytes) -> Iterator[bytes]:
    """In pieces: a block of zeros may have been a thousand times as long."""
    while block:
        yield inflate.decompress(block, BLOCK)
        block = inflate.unconsumed_tail


def packed_data(file: BinaryIO, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """A member's data as it stands in a zip of ours."""
    file.seek(info.header_offset + 26)
    name, extra = struct.unpack("<2H", file.read(4))
    file.seek(name + extra, os.SEEK_CUR)
    left = info.compress_size
    while left:
        block = file.read(min(left, BLOCK))
        if not block:
            raise ValueError(f"{info.filename} is cut off")
        left -= len(block)
        yield block
