"""Processes that encode members, beside the process that fetches them.

Threads would wait for the interpreter's lock at each step, and so would the fetching. A member's
bytes are put into a slot of shared memory; requests and replies go through pipes. A process keeps
no state. When it ends, the attempts fail whose members it had.
"""

import mmap
import os
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_bulk.archive.encoder import FAILED, MODES, REPLY, REQUEST, SLOT_BYTES, Encoded
from twisted_bulk.system.child_process import ChildProcess

log = Logger()

#: Slots of shared memory, each for a member that waits, is encoded, or is written. Others wait.
MAX_SLOTS = 16
REPLY_SECONDS = 60.0  # that a process may take for a reply; then it is killed
MEMORY, REQUESTS, REPLIES = 3, 4, 5  # descriptors in a child

Then = Callable[[Encoded, memoryview], Deferred[Any]]


class EncodingFailed(Exception):
    """The process could not encode the member, or ended before its reply."""


@dataclass
class _Member:
    """A member that is to be encoded, and the function that takes the result."""

    mode: str
    pieces: Iterable[bytes]
    then: Then
    done: Deferred[Any] = field(default_factory=Deferred)


class _Process(ChildProcess):
    """One process.

    ``broken``: it will not reply any more, but may still work. ``asked``: its slots.

    :param on_answer: called with each slot and its member; None: it could not be encoded
    :param on_end: called when it has ended, with how
    """

    def __init__(
        self,
        clock: IReactorTime,
        on_answer: Callable[[int, Encoded | None], object],
        on_end: Callable[["_Process", str], object],
    ) -> None:
        super().__init__()
        self.broken = False
        self.asked: set[int] = set()
        self._clock = clock
        self._alarm: IDelayedCall | None = None
        self._on_answer = on_answer
        self._on_end = on_end
        self._received = b""

    def ask(self, number: int, mode: str, size: int) -> None:
        """Let it encode the content of a slot."""
        assert self.transport is not None
        self.asked.add(number)
        if self._alarm is None:
            self._alarm = self._clock.callLater(REPLY_SECONDS, self.kill)
        try:
            self.transport.writeToChild(REQUESTS, REQUEST.pack(number, MODES.index(mode), size))
        except Exception:  # the pipe is closed: the end of the process fails its members
            self.kill()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        data = self._received + data
        whole = len(data) - len(data) % REPLY.size
        self._received = data[whole:]
        for number, method, crc, size, packed, sha256 in REPLY.iter_unpack(data[:whole]):
            self.asked.remove(number)
            encoded = Encoded(method, crc, size, packed, sha256.hex())
            self._on_answer(number, None if method == FAILED else encoded)
        self._stop_alarm()
        if self.asked:
            self._alarm = self._clock.callLater(REPLY_SECONDS, self.kill)

    def _stop_alarm(self) -> None:
        alarm, self._alarm = self._alarm, None
        if alarm is not None and alarm.active():
            alarm.cancel()

    def childConnectionLost(self, childFD: int) -> None:
        if childFD == REPLIES:
            self.kill()

    def processEnded(self, reason: Failure) -> None:
        self._stop_alarm()
        self._on_end(self, reason.getErrorMessage())
        self.ended.callback(reason.getErrorMessage())

    def kill(self) -> None:
        """SIGKILL. Its slots are free only when it has ended: until then it may write to them."""
        self.broken = True
        super().kill()


class Encoders(Service):
    """Up to ``count`` processes, which are started when there is work for them, and kept."""

    def __init__(self, reactor: Any, count: int) -> None:
        self._reactor = reactor
        self._count = count
        self._free = list(range(MAX_SLOTS))
        self._under_way: dict[int, _Member] = {}
        self._waiting: deque[_Member] = deque()
        self._processes: list[_Process] = []

    def startService(self) -> None:
        super().startService()
        self._memory = _shared_memory(MAX_SLOTS * SLOT_BYTES)
        self._slots = memoryview(mmap.mmap(self._memory.fileno(), MAX_SLOTS * SLOT_BYTES))

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
        """Encode a member, and call ``then`` with the numbers and the encoded bytes.

        The bytes are valid until the Deferred of ``then`` fires, also if the caller has given up.

        :param pieces: the content, together shorter than a slot
        :returns: fires with the result of ``then``; fails with :class:`EncodingFailed`, or with
            OSError if no process can be made
        """
        member = _Member(mode, pieces, then)
        self._waiting.append(member)
        self._begin()
        return member.done

    def _begin(self) -> None:
        while self.running and self._free and self._waiting:
            member = self._waiting.popleft()
            if member.done.called:  # the caller has given up
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
        """Copy pieces into a slot; returns how many bytes they are."""
        slot, at = self._slot(number), 0
        for piece in pieces:
            slot[at : at + len(piece)] = piece  # ValueError if they are too long
            at += len(piece)
        return at

    def _slot(self, number: int) -> memoryview:
        return self._slots[number * SLOT_BYTES : (number + 1) * SLOT_BYTES]

    def _process(self) -> _Process:
        """The process that has least to do; a new one while all have something to do."""
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
        words = ["-m", "twisted_bulk.archive.encoder", f"{MEMORY}", f"{REQUESTS}", f"{REPLIES}"]
        memory = self._memory.fileno()
        descriptors = {0: "w", 1: 1, 2: 2, MEMORY: memory, REQUESTS: "w", REPLIES: "r"}
        process.start(self._reactor, words, descriptors=descriptors)
        self._processes.append(process)
        return process

    def _encoded(self, number: int, encoded: Encoded | None) -> None:
        if encoded is None:
            self._ended(Failure(EncodingFailed("a member could not be encoded")), number)
            return
        then = self._under_way[number].then
        data = self._slot(number)[: encoded.packed]
        # `then` may still use the slot though the caller has given up.
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
        if self.running:  # after a stop nobody waits for a result
            member.done.callback(result)


def _shared_memory(size: int) -> BinaryIO:
    """Memory that other processes can share, as a file without a name."""
    if hasattr(os, "memfd_create"):
        file: Any = open(os.memfd_create("members"), "r+b", buffering=0)  # noqa: SIM115
    else:
        file = TemporaryFile(buffering=0)  # noqa: SIM115
    file.truncate(size)
    return file  # type: ignore[no-any-return]
