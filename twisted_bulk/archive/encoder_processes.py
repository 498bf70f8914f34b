"""Processes that encode members, beside the one that fetches them.

In threads this work would have to wait for the interpreter's lock at each step, and the fetching
for it. A member's bytes are put into a slot of memory that all share; which slot, and what came
of it, goes through pipes. What a process keeps is nothing: it may end at any time, and costs the
attempts whose members it had.
"""

import mmap
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_bulk.archive.encoder import ANSWER, ASK, FAILED, MODES, SLOT, Encoded

log = Logger()

SLOTS = 16  # members that are encoded, or wait for that or for being written, at once
PATIENCE = 60.0  # seconds without an answer after which a process that was asked is ended
MEMORY, ASKS, ANSWERS = 3, 4, 5  # descriptors in a child

Then = Callable[[Encoded, memoryview], Deferred[Any]]


class EncodingFailed(Exception):
    """The process could not do it, or ended before it had answered."""


@dataclass
class _Member:
    """One that is to be encoded, and what is done with it then."""

    mode: str
    pieces: Iterable[bytes]
    then: Then
    done: Deferred[Any] = field(default_factory=Deferred)


class _Process(ProcessProtocol):
    """One process, from the parent's side.

    :param on_answer: told of each slot, and what came of its content: None if it failed
    :param on_end: told that it is gone, and why
    """

    def __init__(
        self,
        clock: IReactorTime,
        on_answer: Callable[[int, Encoded | None], object],
        on_end: Callable[["_Process", str], object],
    ) -> None:
        self.ended: Deferred[None] = Deferred()
        self.broken = False  # it will answer no more, but may be at work
        self.asked: set[int] = set()
        self._clock = clock
        self._alarm: IDelayedCall | None = None
        self._on_answer = on_answer
        self._on_end = on_end
        self._received = b""

    def ask(self, number: int, mode: str, size: int) -> None:
        """Have it encode what is in a slot."""
        assert self.transport is not None
        self.asked.add(number)
        if self._alarm is None:
            self._alarm = self._clock.callLater(PATIENCE, self.kill)
        try:
            self.transport.writeToChild(ASKS, ASK.pack(number, MODES.index(mode), size))
        except Exception:  # its end, where the pipe is closed already, tells who waits for it
            self.kill()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        data = self._received + data
        whole = len(data) - len(data) % ANSWER.size
        self._received = data[whole:]
        for number, method, crc, size, packed, sha256 in ANSWER.iter_unpack(data[:whole]):
            self.asked.remove(number)
            encoded = Encoded(method, crc, size, packed, sha256.hex())
            self._on_answer(number, None if method == FAILED else encoded)
        self._calm()
        if self.asked:
            self._alarm = self._clock.callLater(PATIENCE, self.kill)

    def _calm(self) -> None:
        alarm, self._alarm = self._alarm, None
        if alarm is not None and alarm.active():
            alarm.cancel()

    def childConnectionLost(self, childFD: int) -> None:
        if childFD == ANSWERS:
            self.kill()

    def processEnded(self, reason: Failure) -> None:
        self._calm()
        self._on_end(self, reason.getErrorMessage())
        self.ended.callback(None)

    def kill(self) -> None:
        """End it now. Until it has ended its slots are not another's: it may write to them."""
        assert self.transport is not None
        self.broken = True
        if self.transport.pid:
            self.transport.signalProcess("KILL")


class Encoders(Service):
    """Up to ``count`` such processes, begun when there is work for them, and kept."""

    def __init__(self, reactor: Any, count: int) -> None:
        self._reactor = reactor
        self._count = count
        self._free = list(range(SLOTS))
        self._under_way: dict[int, _Member] = {}
        self._waiting: deque[_Member] = deque()
        self._processes: list[_Process] = []

    def startService(self) -> None:
        super().startService()
        self._memory = _shared_memory(SLOTS * SLOT)
        self._slots = memoryview(mmap.mmap(self._memory.fileno(), SLOTS * SLOT))

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._memory.close()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        processes = list(self._processes)
        for process in processes:
            process.kill()
        for process in processes:
            await process.ended

    def encode(self, mode: str, pieces: Iterable[bytes], then: Then) -> Deferred[Any]:
        """Encode a member, call ``then`` with what came of it, and wait for what that returns.

        Until that fires its data is ``then``'s, also when nobody waits any more.

        :param pieces: together shorter than a slot
        :returns: ``then``'s result; fails with :class:`EncodingFailed`, or OSError where no
            process can be made
        """
        member = _Member(mode, pieces, then)
        self._waiting.append(member)
        self._begin()
        return member.done

    def _begin(self) -> None:
        while self.running and self._free and self._waiting:
            member = self._waiting.popleft()
            if member.done.called:  # nobody waits any more
                continue
            number = self._free[-1]
            try:
                process, size = self._process(), self._fill(number, member.pieces)
            except Exception:
                member.done.errback()
                continue
            member.pieces = ()
            self._under_way[self._free.pop()] = member
            process.ask(number, member.mode, size)

    def _fill(self, number: int, pieces: Iterable[bytes]) -> int:
        """Copy into a slot; returns how much it is."""
        slot, at = self._slot(number), 0
        for piece in pieces:
            slot[at : at + len(piece)] = piece  # refuses what would be too long
            at += len(piece)
        return at

    def _slot(self, number: int) -> memoryview:
        return self._slots[number * SLOT : (number + 1) * SLOT]

    def _process(self) -> _Process:
        """The one that has least to do; another, as long as all have something."""
        alive = [process for process in self._processes if not process.broken]
        least = min(alive, key=lambda process: len(process.asked), default=None)
        if least is None or (least.asked and len(alive) < self._count):
            try:
                return self._spawn()
            except OSError:
                if least is None:
                    raise
        return least

    def _spawn(self) -> _Process:
        process = _Process(self._reactor, self._encoded, self._lost)
        words = [
            sys.executable,
            "-m",
            "twisted_bulk.archive.encoder",
            f"{MEMORY}",
            f"{ASKS}",
            f"{ANSWERS}",
        ]
        memory = self._memory.fileno()
        descriptors = {0: "w", 1: 1, 2: 2, MEMORY: memory, ASKS: "w", ANSWERS: "r"}
        self._reactor.spawnProcess(process, sys.executable, words, env=None, childFDs=descriptors)
        self._processes.append(process)
        return process

    def _encoded(self, number: int, encoded: Encoded | None) -> None:
        if encoded is None:
            self._ended(Failure(EncodingFailed("a member could not be encoded")), number)
            return
        then = self._under_way[number].then
        data = self._slot(number)[: encoded.packed]
        # Whoever does not wait any more may be at work in the slot all the same.
        maybeDeferred(then, encoded, data).addBoth(self._ended, number)

    def _lost(self, process: _Process, why: str) -> None:
        self._processes.remove(process)
        if self.running:
            log.warn("an encoder ended, with {n} members: {why}", n=len(process.asked), why=why)
        for number in process.asked:
            self._ended(Failure(EncodingFailed(f"an encoder ended: {why}")), number)

    def _ended(self, result: Any, number: int) -> None:
        member = self._under_way.pop(number)
        self._free.append(number)
        self._begin()
        if self.running:  # when it stops, nobody is there any more who waits
            member.done.callback(result)


def _shared_memory(size: int) -> BinaryIO:
    """Memory that other processes can have too, as a file without a name."""
    if hasattr(os, "memfd_create"):
        file: Any = open(os.memfd_create("members"), "r+b", buffering=0)  # noqa: SIM115
    else:
        file = TemporaryFile(buffering=0)  # noqa: SIM115
    file.truncate(size)
    return file  # type: ignore[no-any-return]
