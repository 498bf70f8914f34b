"""One zip file: written, read again after a crash, and read as a source for another."""

import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
from isal import isal_zlib

from twisted_bulk.archive.encoder import Data
from twisted_bulk.archive.zip_member import BLOCK_BYTES, ZipMember
from twisted_bulk.archive.zip_records import (
    DEFLATED,
    central_header,
    end_records,
    local_header,
)
from twisted_bulk.system.disk import write_at

MAX_GAPS = 16  # that are tried for a member; when it fits in none, it is written at the end
IsalError = cast(type[Exception], isal_zlib.error)


class Volume:
    """One zip file. Several threads fill places in it at once.

    A place that is given back leaves a gap, which the next member that fits gets. Gaps that are
    left at the end are closed: the members behind them are moved. The SHA-256 of the file is
    computed while it grows, in its order, up to the first gap: a local header has the checksum of
    the data behind it, so it is written last.
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

        :param limit: bytes beyond which the file must not grow, unless it is empty
        :param before: the offset before which the place must begin
        :returns: the offset where it begins; None: there is no such place
        """
        with self._places:
            for begin, end in islice(self._gaps.items(), MAX_GAPS):
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
        """A place is given back: its member does not come."""
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
        """Write a member into its place. Blocks."""
        at, head = placed.offset, local_header(placed.entry)
        for piece in pieces:
            at, head = self.write(piece, at, head), b""
        if head:  # an empty member may come without a piece
            at = self.write(head, at)
        assert at == placed.end

    def write(self, data: Data, at: int, head: bytes = b"") -> int:
        """Write ``head`` and ``data`` at an offset; returns the offset behind them. Blocks."""
        with self._writing:  # the kernel lets one writer in at a time, and the others would spin
            return write_at(self.file, data, at, head)

    @property
    def whole(self) -> int:
        """The offset of the first gap, or the file's end."""
        with self._places:
            return min(chain(self._taken, self._gaps), default=self.offset)

    def follow(self) -> bool:
        """Hash the next block before the first gap; returns whether there was one. Blocks."""
        with self._hashing:
            block = os.pread(
                self.file.fileno(), min(BLOCK_BYTES, self.whole - self.hashed), self.hashed
            )
            self._sha256.update(block)
            self.hashed += len(block)
            return bool(block)

    def accept(
        self,
        noted: Iterable[ZipMember],
        while_open: Callable[[Iterable[Data]], Iterable[Data]],
        moved: Callable[[ZipMember], object],
    ) -> list[ZipMember]:
        """Keep the right members of an earlier attempt; the rest is removed. Blocks.

        :param noted: the members by the journal
        :param while_open: wraps an iterator; raises ValueError once the archive is given up
        :param moved: see :meth:`join`
        """
        for one in sorted(noted, key=lambda one: one.offset):
            header = local_header(one.entry)
            found = os.pread(self.file.fileno(), len(header), one.offset)
            if one.offset >= self.offset and found == header and self._check(one, while_open):
                self.members[one.offset] = one
                self.offset = one.end
        self.join(moved)
        self.file.truncate(self.offset)
        return list(self.members.values())

    def join(self, moved: Callable[[ZipMember], object]) -> None:
        """Close the gaps, when nobody writes any more. Blocks.

        A crash meanwhile costs one member: the one that is moved over a part of itself.

        :param moved: called with each member that has another offset now
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
        """The bytes from ``begin`` to ``end``, in blocks; fewer where the file is shorter."""
        while begin < end:
            block = os.pread(self.file.fileno(), min(BLOCK_BYTES, end - begin), begin)
            if not block:
                return
            begin += len(block)
            yield block

    def _check(
        self, one: ZipMember, while_open: Callable[[Iterable[Data]], Iterable[Data]]
    ) -> bool:
        inflate = isal_zlib.decompressobj(-15) if one.method == DEFLATED else None
        crc, size, end = 0, 0, one.end
        for block in while_open(self.blocks(end - one.packed, end)):
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
        """Write the directory, and make the file durable. Blocks.

        :returns: the file's size, and its SHA-256 in hexadecimal digits
        """
        start = self.offset
        # In the order of the request; what has no number there comes last.
        members = sorted(
            self.members.values(), key=lambda one: (one.number or sys.maxsize, one.offset)
        )
        entries = [one.entry for one in members]
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
    """Inflate a block in pieces: a block of deflated zeros becomes a thousand times as long."""
    while block:
        yield inflate.decompress(block, BLOCK_BYTES)
        block = inflate.unconsumed_tail
