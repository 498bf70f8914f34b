"""One zip file: written, read again after a crash, and read as a source for another."""

import hashlib
import os
import struct
import sys
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
from isal import isal_zlib

from twisted_bulk.archive.encoder import Data
from twisted_bulk.archive.zip_records import (
    DEFLATED,
    Entry,
    central_header,
    end_records,
    local_header,
)
from twisted_bulk.system.disk import write_at

BLOCK = 1 << 20
LOOK_AT = 16  # gaps that are looked at for one that fits
IsalError = cast(type[Exception], isal_zlib.error)


class ZipMember(msgspec.Struct, frozen=True, omit_defaults=True):
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
    def end(self) -> int:
        """Where its data ends."""
        return self.entry.end

    @property
    def entry(self) -> Entry:
        """Its line in the directory."""
        return Entry(
            self.name.encode(), self.method, self.crc, self.size, self.packed, self.modified,
            self.offset,
        )  # fmt: skip


class Volume:
    """One zip file. Places in it are given out, and filled by several threads at once.

    One that is given back leaves a gap, for the next that fits; what is left of gaps in the end
    is closed by moving what stands behind them. The SHA-256 follows in the order of the file,
    as far as it has no gap: a local header has the checksum of what comes after it.
    """

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        self.offset = 0
        self.members: dict[int, ZipMember] = {}
        self._taken: dict[int, int] = {}
        self._gaps: dict[int, int] = {}
        self._places = threading.Lock()
        self._writing = threading.Lock()
        self._sha256 = hashlib.sha256()
        self._hashing = threading.Lock()
        self.hashed = 0
        self.file: BinaryIO = cast(BinaryIO, open(path, mode, buffering=0))  # noqa: SIM115

    def take(self, size: int, limit: int, before: int = sys.maxsize) -> int | None:
        """Give out a place of ``size`` bytes, in a gap or at the end.

        :param limit: bytes beyond which the file shall not grow, unless it is empty
        :param before: the place has to begin before that
        :returns: where it begins, or None
        """
        with self._places:
            for begin, end in islice(self._gaps.items(), LOOK_AT):
                if end - begin >= size and begin < before:
                    del self._gaps[begin]
                    if end - begin > size:
                        self._gaps[begin + size] = end
                    break
            else:
                begin = self.offset
                if begin and (begin + size > limit or begin >= before):
                    return None
                self.offset += size
            self._taken[begin] = begin + size
            return begin

    def free(self, begin: int) -> None:
        """A place is given back: what was to stand there does not come."""
        with self._places:
            end = self._taken.pop(begin)
            end = self._gaps.pop(end, end)
            for before in [start for start, stop in self._gaps.items() if stop == begin]:
                del self._gaps[before]
                begin = before
            if end == self.offset:
                self.offset = begin
            else:
                self._gaps[begin] = end

    def settle(self, placed: ZipMember) -> None:
        """A place is filled."""
        with self._places:
            end = self._taken.pop(placed.offset)
            assert end == placed.end
            self.members[placed.offset] = placed

    def fill(self, placed: ZipMember, pieces: Iterable[Data]) -> None:
        """Write what belongs into a place. Blocks, as do those that follow."""
        at, head = placed.offset, local_header(placed.entry)
        for piece in pieces:
            at, head = self.write(piece, at, head), b""
        if head:  # an empty member may come without a piece
            at = self.write(head, at)
        assert at == placed.end

    def write(self, data: Data, at: int, head: bytes = b"") -> int:
        """Write ``data`` there, behind ``head``; returns where it ends."""
        with self._writing:  # the system would let one writer in at a time, and the others spin
            return write_at(self.file, data, at, head)

    @property
    def whole(self) -> int:
        """Where what is there without a gap ends."""
        with self._places:
            return min(chain(self._taken, self._gaps), default=self.offset)

    def follow(self) -> bool:
        """Hash the next piece of what is there without a gap, if there is one."""
        with self._hashing:
            block = os.pread(self.file.fileno(), min(BLOCK, self.whole - self.hashed), self.hashed)
            self._sha256.update(block)
            self.hashed += len(block)
            return bool(block)

    def accept(
        self,
        noted: Iterable[ZipMember],
        wanted: Callable[[Iterable[Data]], Iterable[Data]],
        moved: Callable[[ZipMember], object],
    ) -> list[ZipMember]:
        """Of what was written before, what is whole and right, joined; the rest goes.

        :param wanted: passes pieces on for as long as they are
        :param moved: see :meth:`join`
        """
        for one in sorted(noted, key=lambda one: one.offset):
            header = local_header(one.entry)
            found = os.pread(self.file.fileno(), len(header), one.offset)
            if one.offset >= self.offset and found == header and self._check(one, wanted):
                self.members[one.offset] = one
                self.offset = one.end
        self.join(moved)
        self.file.truncate(self.offset)
        return list(self.members.values())

    def join(self, moved: Callable[[ZipMember], object]) -> None:
        """Close the gaps; nobody writes any more.

        A crash costs the one member that is being moved, where it moves over itself.

        :param moved: told of each member that stands elsewhere now
        """
        at, joined = 0, dict[int, ZipMember]()
        for begin, one in sorted(self.members.items()):
            joined[at] = here = msgspec.structs.replace(one, offset=at)
            if at != begin:
                to = at
                for block in self.blocks(begin, one.end):
                    to = write_at(self.file, block, to)
                moved(here)
            at = here.end
        with self._places:
            self.members, self.offset = joined, at
            self._gaps.clear()
            self._taken.clear()

    def blocks(self, begin: int, end: int) -> Iterator[bytes]:
        """What stands there, as far as it goes."""
        while begin < end:
            block = os.pread(self.file.fileno(), min(BLOCK, end - begin), begin)
            if not block:
                return
            begin += len(block)
            yield block

    def _check(self, one: ZipMember, wanted: Callable[[Iterable[Data]], Iterable[Data]]) -> bool:
        inflate = isal_zlib.decompressobj(-15) if one.method == DEFLATED else None
        crc, size, end = 0, 0, one.end
        for block in wanted(self.blocks(end - one.packed, end)):
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
        entries = [self.members[begin].entry for begin in sorted(self.members)]
        directory = b"".join(map(central_header, entries))
        for data in (directory, end_records(entries, start, len(directory))):
            self.offset = write_at(self.file, data, self.offset)
        while self.follow():
            pass
        self.file.truncate(self.offset)
        os.fsync(self.file.fileno())
        self.file.close()
        return self.offset, self._sha256.hexdigest()


def _inflated(inflate: Any, block: Data) -> Iterator[bytes]:
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
