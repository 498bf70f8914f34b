"""Threads that pack: checksums, deflate and file writes."""

import hashlib
import os
from collections.abc import Callable
from typing import Any, TypeVar

from isal import isal_zlib
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from twisted_bulk.zipformat import DEFLATED, STORED

R = TypeVar("R")

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


def write_at(file: Any, data: bytes, offset: int) -> int:
    """Write everything at ``offset``; a file may take it in parts.

    :returns: where it ends
    """
    view = memoryview(data)
    while view:
        written = os.pwrite(file.fileno(), view, offset)
        view, offset = view[written:], offset + written
    return offset
