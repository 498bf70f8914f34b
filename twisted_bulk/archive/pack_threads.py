"""Threads that pack: they write, and encode what ``encoder_processes.py`` does not."""

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

AT_ONCE = 64  # small pieces of work that one turn of a thread takes


def _outcome(work: Callable[[], Any]) -> Any:
    """What ``work`` returned, or a Failure."""
    try:
        return work()
    except BaseException:  # whatever it is, it is told to whom it concerns
        return Failure()


class PackThreads(MultiService):
    """The threads that pack, and the memory that members may use before they do.

    :param threads: of each kind; and processes that encode
    """

    def __init__(self, reactor: Any, threads: int) -> None:
        super().__init__()
        self._reactor = reactor
        self._count = threads
        self._encoders = Encoders(reactor, threads)
        self._encoders.setServiceParent(self)
        # Lighter than Twisted's, by a twentieth of the time for a batch of recordings.
        self._threads = ThreadPoolExecutor(threads, "pack")
        self._copying = ThreadPoolExecutor(threads, "copy")
        self._following = ThreadPoolExecutor(threads, "follow")
        self.held = 0
        self._turns: FairQueue[tuple[Callable[[], Any], Deferred[Any]]] = FairQueue()
        self._small: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()
        self._busy = False
        self._results: deque[tuple[Deferred[Any], Any]] = deque()
        self._told = False

    def startService(self) -> None:
        super().startService()
        # All of them now: later it could fail, and what was submitted would be done all the same.
        together = Barrier(self._count)
        for _ in range(self._count):
            self._threads.submit(together.wait)

    def stopService(self) -> Deferred[Any]:
        stopped: Deferred[Any] = super().stopService()
        self._threads.shutdown()
        self._copying.shutdown()
        self._following.shutdown()
        return stopped

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

    def run_encoded(
        self, mode: str, pieces: Iterable[bytes], work: Callable[[Encoded, memoryview], R]
    ) -> Deferred[R]:
        """The same with what a process of its own made of ``pieces``, see :class:`Encoders`."""
        return self._encoders.encode(mode, pieces, partial(self.run, work))

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
