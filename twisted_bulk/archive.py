"""The zip writer: members in, one file out.

Small members pass through memory, large ones through a file of their own beside
the archive; either way a member is whole and checked before its first byte is
written, so nothing truncated gets in. Checksums, deflate and file writes run on a
few threads; :class:`Packer` owns them.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from isal import isal_zlib
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from twisted_bulk.errors import MemberError
from twisted_bulk.zipformat import (
    DEFLATED,
    STORED,
    Entry,
    central_header,
    end_records,
    local_header,
)

R = TypeVar("R")

SMALL = 1 << 20  # larger members go through a file
MEMORY = 48 << 20  # bytes of members in memory on this node, beyond which small ones do, too
SAMPLE = 64 << 10
WORTH = 0.97  # `auto` deflates when a sample shrinks to less than this
_RAW = -15  # deflate without zlib's frame


class Packer(Service):
    """The threads that pack, and the memory that members may use before they do."""

    def __init__(self, reactor: Any, threads: int) -> None:
        self._reactor = reactor
        self._threads = ThreadPool(0, threads, name="pack")
        self.held = 0

    def startService(self) -> None:
        super().startService()
        self._threads.start()

    def stopService(self) -> None:
        super().stopService()
        self._threads.stop()

    def run(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """Do ``work`` on one of the threads."""
        return deferToThreadPool(self._reactor, self._threads, work, *arguments)


class Encoder:
    """Checksums and, if that pays, deflate, over one member's pieces.

    :param mode: ``store``, ``deflate``, or ``auto``: by how a sample shrinks
    """

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._sha256 = hashlib.sha256()
        self._deflate: Any = None
        self.method: int | None = None
        self.crc = 0
        self.size = 0

    def update(self, piece: bytes) -> bytes:
        """The encoded form of the next piece; may come in part with a later one."""
        self._sha256.update(piece)
        self.crc = isal_zlib.crc32(piece, self.crc)
        self.size += len(piece)
        if self.method is None:
            self.method = DEFLATED if self._pays(piece) else STORED
            if self.method == DEFLATED:
                self._deflate = isal_zlib.compressobj(1, isal_zlib.DEFLATED, _RAW)
        return piece if self._deflate is None else self._deflate.compress(piece)

    def flush(self) -> bytes:
        """The rest of the encoded form."""
        deflate, self._deflate = self._deflate, None  # its state takes 100 KB
        return b"" if deflate is None else deflate.flush()

    def _pays(self, piece: bytes) -> bool:
        if self._mode != "auto":
            return self._mode == "deflate"
        sample = piece[:SAMPLE]
        return len(isal_zlib.compress(sample, 1, _RAW)) < WORTH * len(sample)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()


def _write_all(file: Any, data: bytes) -> None:
    """Write everything to an unbuffered file, which may take it in parts."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


class Archive:
    """One zip being written into ``folder``. Its methods block: call them on the packer.

    :param mode: how members are compressed, see :class:`Encoder`
    """

    def __init__(self, folder: Path, name: str, mode: str) -> None:
        self.folder = folder
        self.path = folder / name
        self.mode = mode
        self.offset = 0
        self._entries: list[Entry] = []
        self._sha256 = hashlib.sha256()
        self._lock = threading.Lock()
        self._file = open(self.path, "xb", buffering=0)  # noqa: SIM115

    def _write(self, data: bytes) -> None:
        self._sha256.update(data)
        self.offset += len(data)
        _write_all(self._file, data)

    def add(
        self, name: str, encoder: Encoder, packed: int, pieces: Iterable[bytes], modified: float
    ) -> None:
        """Append one whole member.

        :param pieces: its encoded form, ``packed`` bytes in all
        """
        with self._lock:
            if self._file.closed:
                raise ValueError("the archive has been given up")
            method = STORED if encoder.method is None else encoder.method
            entry = Entry(
                name.encode(), method, encoder.crc, encoder.size, packed, modified, self.offset
            )
            self._write(local_header(entry))
            for piece in pieces:
                self._write(piece)
            assert self.offset - entry.offset == len(local_header(entry)) + packed
            self._entries.append(entry)

    def add_bytes(self, name: str, data: bytes, modified: float) -> None:
        """Append a member that is at hand."""
        encoder = Encoder("deflate")
        packed = encoder.update(data) + encoder.flush()
        self.add(name, encoder, len(packed), [packed], modified)

    def close(self) -> tuple[int, str]:
        """Write the directory and make all durable.

        :returns: the file's size and SHA-256
        """
        with self._lock:
            start = self.offset
            self._write(b"".join(map(central_header, self._entries)))
            self._write(end_records(self._entries, start, self.offset - start))
            os.fsync(self._file.fileno())
            self._file.close()
        return self.offset, self._sha256.hexdigest()

    def abandon(self) -> None:
        """Give up; writes that are on their way end with an error."""
        with self._lock:
            self._file.close()


class MemberSink:
    """One attempt's bytes on their way into an archive.

    :param length: what the server said, if it did
    :param sha256: what the content must hash to, or empty
    """

    def __init__(
        self,
        packer: Packer,
        archive: Archive,
        name: str,
        *,
        length: int | None,
        modified: float,
        sha256: str = "",
    ) -> None:
        self._packer = packer
        self._archive = archive
        self._name = name
        self._modified = modified
        self._wanted = sha256.lower()
        self._encoder = Encoder(archive.mode)
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._spooling = length is not None and length > SMALL
        self._spool: Any = None
        self._flushing: Deferred[None] | None = None

    def write(self, data: bytes) -> Deferred[None] | None:
        self._pieces.append(data)
        self._hold(len(data))
        if self._buffered < SMALL and self._packer.held < MEMORY:
            return None
        self._spooling = True
        if self._flushing is None:
            self._flush()
            return None
        # One piece is being written and the next is full: wait for the first.
        resumed: Deferred[None] = Deferred()

        def passed(result: Any) -> Any:
            if isinstance(result, Failure):
                resumed.errback(result)
            else:
                resumed.callback(None)
            return result

        self._flushing.addBoth(passed)
        return resumed

    def _hold(self, count: int) -> None:
        self._buffered += count
        self._packer.held += count

    def _take(self) -> list[bytes]:
        pieces, self._pieces = self._pieces, []
        return pieces

    def _flush(self) -> None:
        count = self._buffered
        self._buffered = 0
        self._flushing = flushing = self._packer.run(self._to_spool, self._take())

        def flushed(result: Any) -> Any:
            self._packer.held -= count
            if self._flushing is flushing and result is None:
                self._flushing = None
            return result

        flushing.addBoth(flushed)

    async def finish(self) -> None:
        """Put the member into the archive.

        :raises MemberError: its content is not what was asked for
        """
        if self._flushing is not None:
            await self._flushing
        try:
            work = self._finish_spool if self._spooling else self._finish_memory
            await self._packer.run(work, self._take())
        finally:
            self._hold(-self._buffered)

    def discard(self) -> None:
        """Nothing of this attempt stays; a thread still at work on it ends in vain."""
        self._pieces = []
        self._hold(-self._buffered)
        if self._spooling:
            if self._flushing is not None:
                self._flushing.addErrback(lambda _: None)
            self._packer.run(self._close_spool).addErrback(lambda _: None)

    @property
    def sha256(self) -> str:
        return self._encoder.sha256

    @property
    def size(self) -> int:
        return self._encoder.size

    # What follows runs on the packer's threads, one call at a time.

    def _check(self) -> None:
        if self._wanted and self._wanted != self.sha256:
            raise MemberError("checksum_mismatch", f"its SHA-256 is {self.sha256}")

    def _finish_memory(self, pieces: list[bytes]) -> None:
        encoder = self._encoder
        packed = [*map(encoder.update, pieces), encoder.flush()]
        self._check()
        count = sum(map(len, packed))
        if count >= encoder.size and self._archive.mode == "auto":
            encoder.method, packed, count = STORED, pieces, encoder.size
        self._archive.add(self._name, encoder, count, packed, self._modified)

    def _to_spool(self, pieces: list[bytes]) -> None:
        if self._spool is None:
            path = self._archive.folder / f"{id(self):x}.member"
            self._spool = open(path, "w+b", buffering=0)  # noqa: SIM115
            path.unlink()  # gone with its descriptor, whatever happens
        for piece in pieces:
            _write_all(self._spool, self._encoder.update(piece))

    def _finish_spool(self, pieces: list[bytes]) -> None:
        try:
            self._to_spool(pieces)
            _write_all(self._spool, self._encoder.flush())
            self._check()
            packed = self._spool.tell()
            self._spool.seek(0)
            blocks = self._blocks()
            self._archive.add(self._name, self._encoder, packed, blocks, self._modified)
        finally:
            self._close_spool()

    def _blocks(self) -> Iterator[bytes]:
        while block := self._spool.read(SMALL):
            yield block

    def _close_spool(self) -> None:
        if self._spool is not None:
            self._spool.close()
