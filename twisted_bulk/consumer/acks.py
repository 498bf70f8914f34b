"""Acknowledgements on their way into the queue, many in one call.

An acknowledgement that comes while the queue is away is written to a file, synced, and delivered
when the queue is back. The fence then decides whether it counts: the file has the id of the worker
that held the job. The file of a process that died is delivered by another one, see :func:`adopt`.
"""

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
from twisted_bulk.system import disk

log = Logger()

BATCH_SIZE = 500  # acknowledgements in one call; further ones follow in the next


class _Line(msgspec.Struct):
    """One line of the file."""

    queue: str
    worker: str
    id: str
    attempt: int
    ok: int
    result: bytes
    tags: str = ""

    @property
    def ack(self) -> Ack:
        """The acknowledgement in this line."""
        job = Job(id=self.id, attempt=self.attempt, attachment="", payload=b"")
        return Ack(job, self.ok, self.result, self.tags)


@dataclass(eq=False)
class _Entry:
    """An acknowledgement.

    :param undo: called if it came too late to count
    :param settled: fires once it is recorded, or kept until it can be
    """

    ack: Ack
    undo: Callable[[], object]
    settled: Deferred[None] = field(default_factory=Deferred)


def _file(folder: Path, worker: str, queue: str) -> Path:
    return folder / f"{worker}.{queue}.acks"


class AckBuffer:
    """The acknowledgements of one worker.

    :param folder: where the file is kept; None: they are kept in memory
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
        """Whether acknowledgements wait for the queue to be back."""
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
                entries, self._waiting = self._waiting[:BATCH_SIZE], self._waiting[BATCH_SIZE:]
                try:
                    await self._ack(entries)
                except Unavailable:
                    self._keep(entries)
                except Exception as error:  # a mistake of ours: these jobs are done again
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
                # They stay in memory; if this process ends now, their jobs are done again.
                log.error("results cannot be kept on disk: {error}", error=error)
        for entry in entries:
            entry.settled.callback(None)

    def _write(self, folder: Path, lines: bytes) -> None:
        """Append all of it, durably; on an error the file stays as it was."""
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
        job = ack.job
        line = _Line(
            self._queue.name, self._worker, job.id, job.attempt, ack.ok, ack.result, ack.tags
        )
        return msgspec.json.encode(line) + b"\n"

    def _open(self, folder: Path) -> int:
        if self._descriptor is None:
            folder.mkdir(parents=True, exist_ok=True)
            path = _file(folder, self._worker, self._queue.name)
            self._descriptor = disk.lock(path, wait=True, flags=os.O_APPEND)
            disk.sync_folder(folder)
        return self._descriptor

    async def deliver(self) -> None:
        """Deliver the acknowledgements that were kept.

        :raises Unavailable: the queue is still away
        """
        while self._kept:
            entries = self._kept[:BATCH_SIZE]
            await self._ack(entries)
            del self._kept[: len(entries)]
        if self._descriptor is not None and self._folder is not None:
            # We have its lock, so nobody else reads it.
            _file(self._folder, self._worker, self._queue.name).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None


def _read(text: bytes) -> list[_Line]:
    lines = []
    for line in text.splitlines():
        try:
            lines.append(msgspec.json.decode(line, type=_Line))
        except msgspec.DecodeError:
            break  # the process died while it wrote this line
    return lines


async def adopt(queue: JobQueue, folder: Path) -> int:
    """Deliver the acknowledgements for ``queue`` that dead workers had kept in ``folder``.

    :returns: how many of these counted
    :raises Unavailable: the queue is away; those that are left stay
    """
    counted = 0
    for path in folder.glob(f"*.{queue.name}.acks"):
        try:
            descriptor = disk.lock(path, create=False)
        except (BlockingIOError, FileNotFoundError):
            continue  # its process lives, or it was delivered a moment ago
        with open(descriptor, "rb") as file:
            lines = _read(file.read())
            if not all(line.queue == queue.name for line in lines):
                continue  # of another queue whose name ends in the same way
            for worker, group in groupby(lines, key=lambda line: line.worker):
                replies = await queue.ack(worker, [line.ack for line in group])
                counted += sum(reply.counts for reply in replies)
            path.unlink(missing_ok=True)
    return counted
