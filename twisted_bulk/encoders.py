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
from contextlib import suppress
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_bulk.encoder import ANSWER, ASK, MODES, SLOT, Encoded

log = Logger()

SLOTS = 16  # members that are encoded, or wait for that or for being written, at once
MEMORY, ASKS, ANSWERS = 3, 4, 5  # descriptors in a child

Then = Callable[[Encoded, memoryview], Deferred[Any]]


class EncoderDied(Exception):
    """The process ended before it had answered."""


@dataclass
class _Member:
    """One that is to be encoded, and what is done with it then."""

    mode: str
    pieces: Iterable[bytes]
    then: Then
    done: Deferred[Any] = field(default_factory=Deferred)


class _Process(ProcessProtocol):
    """One process, from the parent's side.

    :param answered: told of each slot, and what came of its content
    :param lost: told of the slots that it does not answer for any more
    """

    def __init__(
        self, answered: Callable[[int, Encoded], object], lost: Callable[[set[int]], object]
    ) -> None:
        self.ended: Deferred[None] = Deferred()
        self.lost = False
        self.asked: set[int] = set()
        self._answered = answered
        self._lost = lost
        self._received = b""

    def ask(self, number: int, mode: str, size: int) -> None:
        """Have it encode what is in a slot."""
        assert self.transport is not None
        self.asked.add(number)
        with suppress(KeyError):  # that pipe may be closed before the other tells that all is over
            self.transport.writeToChild(ASKS, ASK.pack(number, MODES.index(mode), size))

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        data = self._received + data
        whole = len(data) - len(data) % ANSWER.size
        self._received = data[whole:]
        for number, method, crc, size, packed, sha256 in ANSWER.iter_unpack(data[:whole]):
            self.asked.remove(number)
            self._answered(number, Encoded(method, crc, size, packed, sha256.hex()))

    def childConnectionLost(self, childFD: int) -> None:
        if childFD == ANSWERS:
            self.lost = True
            self._lost(self.asked)

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(None)

    def kill(self) -> None:
        """End it now."""
        assert self.transport is not None
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
        for process in list(self._processes):
            process.kill()
            await process.ended

    def encode(self, mode: str, pieces: Iterable[bytes], then: Then) -> Deferred[Any]:
        """Encode a member, call ``then`` with what came of it, and wait for what that returns.

        Its bytes are another's afterwards. Not to wait any more takes nothing of this back.

        :param pieces: together shorter than a slot
        :returns: ``then``'s result; fails with :class:`EncoderDied`
        """
        member = _Member(mode, pieces, then)
        self._waiting.append(member)
        self._begin()
        return member.done

    def _begin(self) -> None:
        while self.running and self._free and self._waiting:
            member, number = self._waiting.popleft(), self._free.pop()
            self._under_way[number] = member
            at = begin = number * SLOT
            for piece in member.pieces:
                self._slots[at : at + len(piece)] = piece
                at += len(piece)
            member.pieces = ()
            try:
                self._process().ask(number, member.mode, at - begin)
            except OSError:  # there cannot be another process
                self._ended(Failure(), number)

    def _process(self) -> _Process:
        """The one that has least to do; another, as long as all have something."""
        alive = [process for process in self._processes if not process.lost]
        least = min(alive, key=lambda process: len(process.asked), default=None)
        if least is None or (least.asked and len(alive) < self._count):
            least = self._spawn()
        return least

    def _spawn(self) -> _Process:
        process = _Process(self._encoded, self._lost)
        words = [sys.executable, "-m", "twisted_bulk.encoder", f"{MEMORY}", f"{ASKS}", f"{ANSWERS}"]
        memory = self._memory.fileno()
        descriptors = {0: "w", 1: 1, 2: 2, MEMORY: memory, ASKS: "w", ANSWERS: "r"}
        self._reactor.spawnProcess(process, sys.executable, words, env=None, childFDs=descriptors)
        self._processes.append(process)
        process.ended.addCallback(lambda _: self._processes.remove(process))
        return process

    def _encoded(self, number: int, encoded: Encoded) -> None:
        begin = number * SLOT
        data = self._slots[begin : begin + encoded.packed]
        # Whoever does not wait any more may be at work in the slot all the same.
        self._under_way[number].then(encoded, data).addBoth(self._ended, number)

    def _lost(self, asked: set[int]) -> None:
        if self.running:
            log.warn("a process that encodes ended, with {n} members", n=len(asked))
        for number in asked:
            self._ended(Failure(EncoderDied("a process that encodes ended")), number)

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
