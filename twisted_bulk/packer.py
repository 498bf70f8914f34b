"""Threads that pack: checksums, deflate and file writes."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeVar

from isal import isal_zlib
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from twisted_bulk.turns import Turns
from twisted_bulk.zipformat import DEFLATED, STORED

R = TypeVar("R")

AT_ONCE = 64  # small pieces of work that one turn of a thread takes
WRITE = 128 << 10  # bytes of one write: a larger one takes larger pages, which have to be found
SAMPLE = 64 << 10
WORTH = 0.97  # `auto` deflates when a sample shrinks to less than this
_RAW = -15  # deflate without zlib's frame
_ROOMY = 9  # isal's largest buffers, half a megabyte: an eighth faster than with its usual ones


def _outcome(work: Callable[[], Any]) -> Any:
    """What ``work`` returned, or a Failure."""
    try:
        return work()
    except BaseException:  # whatever it is, it is told to whom it concerns
        return Failure()


class Packer(Service):
    """The threads that pack, and the memory that members may use before they do."""

    def __init__(self, reactor: Any, threads: int) -> None:
        self._reactor = reactor
        self._threads = ThreadPool(0, threads, name="pack")
        self._copying = ThreadPool(0, threads, name="copy")
        self._following = ThreadPool(0, threads, name="follow")
        self.held = 0
        self._turns: Turns[tuple[Callable[[], Any], Deferred[Any]]] = Turns()
        self._small: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()
        self._busy = False

    def startService(self) -> None:
        super().startService()
        self._threads.start()
        self._copying.start()
        self._following.start()

    def stopService(self) -> None:
        super().stopService()
        self._threads.stop()
        self._copying.stop()
        self._following.stop()

    def run(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """Do ``work`` on one of the threads."""
        return deferToThreadPool(self._reactor, self._threads, work, *arguments)

    def run_in_turn(
        self, owner: Hashable, rank: int, work: Callable[..., R], *arguments: Any
    ) -> Deferred[R]:
        """The same; owners take turns, and of each the lowest rank is first."""
        done: Deferred[R] = Deferred()
        self._turns.add(owner, rank, (partial(work, *arguments), done))
        self._threads.callInThread(self._take_turn)
        return done

    def _take_turn(self) -> None:
        work, done = self._turns.take()
        self._reactor.callFromThread(done.callback, _outcome(work))

    def run_long(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """The same for what may take minutes: it has threads of its own."""
        return deferToThreadPool(self._reactor, self._copying, work, *arguments)

    def run_aside(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """The same for what nobody waits for."""
        return deferToThreadPool(self._reactor, self._following, work, *arguments)

    def run_small(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """The same for what takes less time than the way to a thread and back.

        One thread does many such, one after the other, and answers for them together.
        """
        done: Deferred[R] = Deferred()
        self._small.append((partial(work, *arguments), done))
        self._begin()
        return done

    def _begin(self) -> None:
        if self._small and not self._busy:
            self._busy = True
            self._threads.callInThread(self._work)

    def _work(self) -> None:
        results: list[tuple[Deferred[Any], Any]] = []
        while self._small and len(results) < AT_ONCE:
            work, done = self._small.popleft()
            results.append((done, _outcome(work)))
        self._reactor.callFromThread(self._worked, results)

    def _worked(self, results: list[tuple[Deferred[Any], Any]]) -> None:
        self._busy = False
        self._begin()
        for done, result in results:
            done.callback(result)


class Encoder:
    """Checksums and, if that pays, deflate, over one member's pieces.

    :param mode: ``store``, ``deflate``, or ``auto``: by how a sample shrinks
    """

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._sha256 = hashlib.sha256()
        self._deflate: Any = None
        self._buffers = isal_zlib.DEF_MEM_LEVEL
        self.method: int | None = None
        self.crc = 0
        self.size = 0

    def whole(self, data: bytes) -> bytes:
        """The encoded form of a member that is there whole."""
        if len(data) > SAMPLE:
            self._buffers = _ROOMY
        return self.update(data) + self.flush()

    def begin(self, method: int) -> None:
        """Use ``method``, whatever a sample would say."""
        self.method = method
        if method == DEFLATED:
            self._deflate = isal_zlib.compressobj(1, isal_zlib.DEFLATED, _RAW, self._buffers)

    def update(self, piece: bytes) -> bytes:
        """The encoded form of the next piece; may come in part with a later one."""
        self._sha256.update(piece)
        self.crc = isal_zlib.crc32(piece, self.crc)
        self.size += len(piece)
        if self.method is None:
            self.begin(DEFLATED if self._pays(piece) else STORED)
        return piece if self._deflate is None else self._deflate.compress(piece)

    def flush(self) -> bytes:
        """The rest of the encoded form."""
        deflate, self._deflate = self._deflate, None  # its state takes hundreds of KB
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
        written = os.pwrite(file.fileno(), view[:WRITE], offset)
        view, offset = view[written:], offset + written
    return offset
