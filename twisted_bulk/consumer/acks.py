"""Acknowledgements on their way into the queue, many in one call.

What is finished while the queue is away is written to a file, synced, and delivered when it is
back. The fence decides then whether it still counts: the file keeps the id of the worker that
held the job. A process that died before leaves its file to the next one, see :func:`adopt`.
"""

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs.model import Ack, Job
from twisted_bulk.jobs.protocol import JobQueue

log = Logger()

AT_ONCE = 500  # acknowledgements in one call


class _Line(msgspec.Struct):
    """One line of the file."""

    queue: str
    worker: str
    id: str
    attempt: int
    ok: int
    result: bytes

    @property
    def ack(self) -> Ack:
        """What it says."""
        job = Job(id=self.id, attempt=self.attempt, attachment="", payload=b"")
        return Ack(job, self.ok, self.result)


@dataclass(eq=False)
class _Entry:
    """An acknowledgement, what undoes the work, and who waits for it."""

    ack: Ack
    undo: Callable[[], object]
    settled: Deferred[None] = field(default_factory=Deferred)


def _file(folder: Path, worker: str, queue: str) -> Path:
    return folder / f"{worker}.{queue}.acks"


class AckBuffer:
    """The acknowledgements of one worker.

    :param folder: where the file is kept; without one the memory has to do
    """

    def __init__(self, queue: JobQueue, worker: str, folder: Path | None) -> None:
        self._queue = queue
        self._worker = worker
        self._folder = folder
        self._waiting: list[_Entry] = []
        self._kept: list[_Entry] = []
        self._descriptor: int | None = None
        self._sending = False

    @property
    def kept(self) -> bool:
        """Whether something waits for the queue to be back."""
        return bool(self._kept)

    def add(self, ack: Ack, undo: Callable[[], object]) -> Deferred[None]:
        """Record the end of a job; fires once it is recorded, or kept until it can be.

        :param undo: called if it came too late to count
        """
        entry = _Entry(ack, undo)
        self._waiting.append(entry)
        if not self._sending:
            sending = Deferred.fromCoroutine(self._send())
            sending.addErrback(lambda f: log.failure("acknowledging failed", f))
        return entry.settled

    async def _send(self) -> None:
        self._sending = True
        try:
            while self._waiting:
                entries, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
                try:
                    await self._ack(entries)
                except Unavailable:
                    self._keep(entries)
                except Exception as error:  # a mistake of ours: those jobs come again
                    for entry in entries:
                        entry.settled.errback(error)
                    raise
        finally:
            self._sending = False

    async def _ack(self, entries: list[_Entry]) -> None:
        replies = await self._queue.ack(self._worker, [entry.ack for entry in entries])
        for entry, reply in zip(entries, replies, strict=True):
            if not reply.counts:
                log.warn("job {job} was done too late to count", job=entry.ack.job.id)
                entry.undo()
            if not entry.settled.called:
                entry.settled.callback(None)

    def _keep(self, entries: list[_Entry]) -> None:
        self._kept += entries
        if self._folder is not None:
            try:
                self._write(self._folder, b"".join(self._line(entry.ack) for entry in entries))
            except OSError as error:
                # They are in memory still, and are done again should this process end now.
                log.error("results cannot be kept on disk: {error}", error=error)
        for entry in entries:
            entry.settled.callback(None)

    def _write(self, folder: Path, lines: bytes) -> None:
        """All of it, durably; or the file is as it was."""
        descriptor = self._open(folder)
        size = os.fstat(descriptor).st_size
        try:
            while lines:
                lines = lines[os.write(descriptor, lines) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise

    def _line(self, ack: Ack) -> bytes:
        line = _Line(
            self._queue.name, self._worker, ack.job.id, ack.job.attempt, ack.ok, ack.result
        )
        return msgspec.json.encode(line) + b"\n"

    def _open(self, folder: Path) -> int:
        if self._descriptor is None:
            folder.mkdir(parents=True, exist_ok=True)
            path = _file(folder, self._worker, self._queue.name)
            self._descriptor = _locked(path)
            parent = os.open(folder, os.O_RDONLY)
            os.fsync(parent)
            os.close(parent)
        return self._descriptor

    async def deliver(self) -> None:
        """Hand in what was kept.

        :raises Unavailable: the queue is still away
        """
        while self._kept:
            entries = self._kept[:AT_ONCE]
            await self._ack(entries)
            del self._kept[: len(entries)]
        if self._descriptor is not None and self._folder is not None:
            # With its lock: nobody else is reading it.
            _file(self._folder, self._worker, self._queue.name).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None


def _locked(path: Path) -> int:
    """``path`` opened to append, with its lock; not one that was removed meanwhile."""
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read(text: bytes) -> list[_Line]:
    lines = []
    for line in text.splitlines():
        try:
            lines.append(msgspec.json.decode(line, type=_Line))
        except msgspec.DecodeError:
            break  # the process died while it wrote this one
    return lines


async def adopt(queue: JobQueue, folder: Path) -> int:
    """Deliver what workers that are dead had kept in ``folder`` for ``queue``.

    :returns: how many of these still counted
    :raises Unavailable: the queue is away; what is left stays
    """
    counted = 0
    for path in folder.glob(f"*.{queue.name}.acks"):
        with open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its process lives
            if not _is_at(file.fileno(), path):
                continue  # delivered a moment ago
            lines = _read(file.read())
            if not all(line.queue == queue.name for line in lines):
                continue  # of another queue, whose name ends like this one's
            for worker, group in groupby(lines, key=lambda line: line.worker):
                replies = await queue.ack(worker, [line.ack for line in group])
                counted += sum(reply.counts for reply in replies)
            path.unlink(missing_ok=True)
    return counted
