"""The threads that pack: they write, and encode the members that no process encodes."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any, TypeVar

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_bulk.archive.encoder import Encoded
from twisted_bulk.archive.encoder_processes import Encoders
from twisted_bulk.archive.fair_queue import FairQueue

R = TypeVar("R")

BATCH_SIZE = 64  # small pieces of work that one turn of a thread takes


def _outcome(work: Callable[[], Any]) -> Any:
    """The result of ``work``, or a Failure."""
    try:
        return work()
    except BaseException:  # its Deferred gets it
        return Failure()


class PackThreads(MultiService):
    """Runs functions on threads, for all archives of this process.

    ``held``: bytes of members in memory that wait for these threads.

    :param threads: threads of each kind, and processes that encode
    """

    def __init__(self, reactor: Any, threads: int) -> None:
        super().__init__()
        self._reactor = reactor
        self._count = threads
        self._encoders = Encoders(reactor, threads)
        self._encoders.setServiceParent(self)
        # Twisted's pool would take a twentieth more of the time for a batch of recordings.
        self._threads = ThreadPoolExecutor(threads, "pack")
        self._copying = ThreadPoolExecutor(threads, "copy")
        self._background = ThreadPoolExecutor(threads, "background")
        self.held = 0
        self._turns: FairQueue[tuple[Callable[[], Any], Deferred[Any]]] = FairQueue()
        self._small: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()
        self._busy = False
        self._results: deque[tuple[Deferred[Any], Any]] = deque()
        self._waking = False

    def startService(self) -> None:
        super().startService()
        # Start all threads now: later a start could fail, and its work would be done all the same.
        together = Barrier(self._count)
        for _ in range(self._count):
            self._threads.submit(together.wait)

    def stopService(self) -> Deferred[Any]:
        stopped: Deferred[Any] = super().stopService()
        self._threads.shutdown()
        self._copying.shutdown()
        self._background.shutdown()
        return stopped

    def run(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """Run ``work`` on one of the threads; fires with its result."""
        return self._run_on(self._threads, work, *arguments)

    def run_in_turn(
        self, owner: Hashable, rank: int, work: Callable[..., R], *arguments: Any
    ) -> Deferred[R]:
        """As :meth:`run`; owners take turns, and the lowest rank of each is first."""
        done: Deferred[R] = Deferred()
        self._turns.add(owner, rank, (partial(work, *arguments), done))
        self._submit(self._threads, self._take_turn)
        return done

    def _take_turn(self) -> None:
        self._do(*self._turns.take())

    def run_long(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """As :meth:`run`, for work that may take minutes: it has threads of its own."""
        return self._run_on(self._copying, work, *arguments)

    def run_in_background(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """As :meth:`run`, for work that nobody waits for: it has threads of its own."""
        return self._run_on(self._background, work, *arguments)

    def run_encoded(
        self, mode: str, pieces: Iterable[bytes], work: Callable[[Encoded, memoryview], R]
    ) -> Deferred[R]:
        """As :meth:`run`, with ``pieces`` encoded by a process, see :class:`Encoders`."""
        return self._encoders.encode(mode, pieces, partial(self.run, work))

    def run_small(self, work: Callable[..., R], *arguments: Any) -> Deferred[R]:
        """As :meth:`run`, for work that takes less time than the way to a thread and back.

        One thread does many pieces of such work, and returns their results together.
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
        while self._small and len(results) < BATCH_SIZE:
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
        if self.running:  # after a stop nobody waits for a result
            threads.submit(work, *arguments)

    def _do(self, work: Callable[[], Any], done: Deferred[Any]) -> None:
        """Do ``work`` on this thread, and wake the reactor's thread.

        That takes a system call, and the threads compete for the interpreter's lock. So the
        reactor's thread is not woken again before it has taken the results.
        """
        self._results.append((done, _outcome(work)))
        if not self._waking:
            self._waking = True
            self._reactor.callFromThread(self._tell)

    def _tell(self) -> None:
        self._waking = False  # first: a result that comes from now on may be too late for this turn
        while self._results:
            done, result = self._results.popleft()
            done.callback(result)
