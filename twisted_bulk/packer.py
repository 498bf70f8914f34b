"""Threads that pack: checksums, deflate and file writes."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from isal import igzip_lib, isal_zlib
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_bulk.turns import Turns
from twisted_bulk.zipformat import DEFLATED, STORED

R = TypeVar("R")

AT_ONCE = 64  # small pieces of work that one turn of a thread takes
WRITE = 256 << 10  # bytes of one write: a larger one takes larger pages, which have to be found
SAMPLE = 64 << 10
WORTH = 0.97  # `auto` deflates when a sample shrinks to less than this
_RAW = -15  # deflate without zlib's frame


def _deflated(data: bytes) -> bytes:
    """All of ``data`` at once: a stream's pieces have to take the interpreter's lock more often.

    The largest buffers, half a megabyte, are an eighth faster than the usual ones.
    """
    room = igzip_lib.MEM_LEVEL_DEFAULT if len(data) <= SAMPLE else igzip_lib.MEM_LEVEL_EXTRA_LARGE
    packed: bytes = igzip_lib.compress(data, 1, igzip_lib.COMP_DEFLATE, room)
    return packed


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
        # Lighter than Twisted's, by a twentieth of the time for a batch of recordings.
        self._threads = ThreadPoolExecutor(threads, "pack")
        self._copying = ThreadPoolExecutor(threads, "copy")
        self._following = ThreadPoolExecutor(threads, "follow")
        self.held = 0
        self._turns: Turns[tuple[Callable[[], Any], Deferred[Any]]] = Turns()
        self._small: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()
        self._busy = False
        self._results: deque[tuple[Deferred[Any], Any]] = deque()
        self._told = False

    def stopService(self) -> None:
        super().stopService()
        self._threads.shutdown()
        self._copying.shutdown()
        self._following.shutdown()

    def run(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """Do ``work`` on one of the threads."""
        return self._run_on(self._threads, work, *arguments)

    def run_in_turn(
        self, owner: Hashable, rank: int, work: Callable[..., R], *arguments: Any
    ) -> Deferred[R]:
        """The same; owners take turns, and of each the lowest rank is first."""
        done: Deferred[R] = Deferred()
        self._turns.add(owner, rank, (partial(work, *arguments), done))
        self._submit(self._threads, self._take_turn)
        return done

    def _take_turn(self) -> None:
        self._do(*self._turns.take())

    def run_long(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """The same for what may take minutes: it has threads of its own."""
        return self._run_on(self._copying, work, *arguments)

    def run_aside(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """The same for what nobody waits for."""
        return self._run_on(self._following, work, *arguments)

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
            self.run(self._work).addCallback(self._worked)

    def _work(self) -> list[tuple[Deferred[Any], Any]]:
        results: list[tuple[Deferred[Any], Any]] = []
        while self._small and len(results) < AT_ONCE:
            work, done = self._small.popleft()
            results.append((done, _outcome(work)))
        return results

    def _worked(self, results: list[tuple[Deferred[Any], Any]]) -> None:
        self._busy = False
        self._begin()
        for done, result in results:
            done.callback(result)

    def _run_on(
        self, threads: ThreadPoolExecutor, work: Callable[..., R], *arguments: Any
    ) -> Deferred[R]:
        done: Deferred[R] = Deferred()
        self._submit(threads, self._do, partial(work, *arguments), done)
        return done

    def _submit(
        self, threads: ThreadPoolExecutor, work: Callable[..., Any], *arguments: Any
    ) -> None:
        if self.running:  # when it stops, nobody is there any more who waits
            threads.submit(work, *arguments)

    def _do(self, work: Callable[[], Any], done: Deferred[Any]) -> None:
        """Do ``work`` on this thread, and let the reactor's thread know.

        Waking that takes a call of the system, and with it a fight for the interpreter's lock:
        while it is on its way to the results nobody wakes it again.
        """
        self._results.append((done, _outcome(work)))
        if not self._told:
            self._told = True
            self._reactor.callFromThread(self._tell)

    def _tell(self) -> None:
        self._told = False  # first: what comes from now on may be too late for this turn
        while self._results:
            done, result = self._results.popleft()
            done.callback(result)


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

    def whole(self, data: bytes) -> bytes:
        """The encoded form of a member that is there whole."""
        return _deflated(data) if self._begin(data) == DEFLATED else data

    def update(self, piece: bytes) -> bytes:
        """The encoded form of the next piece; may come in part with a later one."""
        if self._begin(piece) == STORED:
            return piece
        if self._deflate is None:
            self._deflate = isal_zlib.compressobj(1, isal_zlib.DEFLATED, _RAW)
        packed: bytes = self._deflate.compress(piece)
        return packed

    def _begin(self, piece: bytes) -> int:
        self._sha256.update(piece)
        self.crc = isal_zlib.crc32(piece, self.crc)
        self.size += len(piece)
        if self.method is None:
            self.method = DEFLATED if self._pays(piece) else STORED
        return self.method

    def flush(self) -> bytes:
        """The rest of the encoded form."""
        deflate, self._deflate = self._deflate, None  # its state takes hundreds of KB
        return b"" if deflate is None else deflate.flush()

    def _pays(self, piece: bytes) -> bool:
        if self._mode != "auto":
            return self._mode == "deflate"
        sample = piece[:SAMPLE]
        return len(_deflated(sample)) < WORTH * len(sample)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()


def write_at(file: Any, data: bytes, offset: int, head: bytes = b"") -> int:
    """Write ``head`` and ``data`` at ``offset``; a file may take them in parts.

    :returns: where they end
    """
    view = memoryview(data)
    while head or view:
        written = os.pwritev(file.fileno(), [head, view[:WRITE]], offset)
        view, head = view[max(0, written - len(head)) :], head[written:]
        offset += written
    return offset
