"""Housekeeping: jobs of dead processes, old records, old files, and files that no batch has."""

import contextlib
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_bulk.batch.failure_counts import FailureCounts
from twisted_bulk.batch.model import PartResult
from twisted_bulk.batch.report import MAX_BRIEF_ERRORS, MAX_BRIEF_GROUPS, part_results
from twisted_bulk.consumer.acks import adopt
from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs.group_model import ENDED, PartRecord
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.jobs.scripted import ScriptedQueue
from twisted_bulk.storage.folders import DataFolders, Published
from twisted_bulk.storage.names import members_kept
from twisted_bulk.system.periodic import Periodic

log = Logger()

ROUND_SECONDS = 1.0  # between two rounds
DROP_BATCH_SIZE = 100  # batches whose members one round drops, while the queue's memory is short
SWEEP_ROUNDS = 60  # between two looks at all folders


class Janitor(MultiService):
    """Keeps queues and folders in order.

    :param parts: the queue of parts, whose groups own the zips
    :param others: further queues
    :param keep: seconds that zips and records stay
    :param shared: live settings of ``parts`` that are set for all nodes at the start
    :param is_disk_tight: whether the disk has little room
    :param is_memory_short: whether the queue's memory has little room
    """

    def __init__(
        self,
        parts: GroupQueue,
        others: list[ScriptedQueue],
        folders: DataFolders,
        clock: IReactorTime,
        keep: float,
        shared: Mapping[str, float],
        is_disk_tight: Callable[[], bool] = lambda: False,
        is_memory_short: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self._parts = parts
        self._queues = [parts, *others]
        self._folders = folders
        self._keep = keep
        self._rounds = 0
        # Two loops: the queue's time has to go on during a long look at the folders.
        for work in (self._maintain, self._round):
            Periodic(log, clock, ROUND_SECONDS, work, name="housekeeping").setServiceParent(self)
        self._changed: set[str] = set()
        self._shared = dict(shared)
        self._is_disk_tight = is_disk_tight
        self._is_memory_short = is_memory_short

    def note_change(self, batch: str) -> None:
        """A batch's record has changed: its files are looked at in the next round."""
        self._changed.add(batch)

    async def _round(self) -> None:
        """Do each duty that is due."""
        for duty in self._due():
            await self._do(duty)
        self._rounds += 1

    async def _do(self, duty: Callable[..., Awaitable[object]], *about: Any) -> None:
        """Do one duty, for one folder if there are several: an error stops no other one."""
        try:
            await duty(*about)
        except (Unavailable, CancelledError):
            raise
        except Exception:
            log.failure("housekeeping: {duty} failed", duty=duty.__name__)

    def _due(self) -> Iterator[Callable[[], Awaitable[object]]]:
        yield self._share
        if self._is_memory_short():
            yield self._drop_members
        yield self._sweep_changed
        if self._rounds % SWEEP_ROUNDS == 0:
            yield self._reclaim_dead
            yield self._sweep
            yield self._clear

    async def _share(self) -> None:
        if self._shared:
            await self._parts.control(self._shared)
            self._shared = {}

    async def _drop_members(self) -> None:
        """Make room in the queue: drop members of ended batches, which cannot be retried then."""
        dropped = await self._parts.drop_members(DROP_BATCH_SIZE)
        for batch in dropped:
            record = await self._parts.group(batch)
            if record is not None:
                await self._parts.trim(record, [_brief(part) for part in record.parts])
        if dropped:
            log.warn(
                "the queue's memory is short: {n} batches that have ended cannot be tried again,"
                " and name few of their errors; the manifest has them all",
                n=len(dropped),
            )

    async def _maintain(self) -> None:
        for queue in self._queues:
            done = await queue.maintain(self._keep)
            if done.step:
                log.warn(
                    "the queue's server had its clock put {way} by {s} s; nothing expires for it",
                    way="forward" if done.step > 0 else "back",
                    s=abs(round(done.step)),
                )
            if done.forgotten or done.groups:
                log.info(
                    "{queue}: {n} records are older than --keep and were dropped",
                    queue=queue.name,
                    n=done.forgotten + len(done.groups),
                )

    async def _sweep_changed(self) -> None:
        while self._changed:
            await self._sweep(self._changed.pop())

    async def _reclaim_dead(self) -> None:
        for worker, folder in self._folders.dead_workers():
            await self._do(self._reclaim, worker, folder, False)

    async def reclaim_from(self, pid: int) -> None:
        """A process of this host has died by itself: take its jobs back; each counts a loss."""
        for worker, folder in self._folders.dead_workers(self._folders.worker_of(pid) or "-"):
            await self._reclaim(worker, folder, True)

    async def _reclaim(self, worker: str, folder: Path, blamed: bool) -> None:
        kept = members_kept(folder)
        for queue in self._queues:
            counted = await adopt(queue, folder)
            if counted:
                log.info("{worker} left {n} results; they count", worker=worker, n=counted)
            freed = await queue.reclaim(worker, kept, blamed)
            if freed:
                log.warn("{worker} died with {n} jobs; they are free", worker=worker, n=freed)
        self._folders.remove_worker(folder)

    async def _sweep(self, batch: str = "") -> None:
        for found in self._folders.published(batch):
            await self._do(self._sweep_one, found)

    async def _sweep_one(self, found: Published) -> None:
        if not found.files:
            if found.age > self._keep:
                with contextlib.suppress(OSError):  # another node was faster
                    found.path.rmdir()
            return
        pattern = await self._unwanted(found)
        if pattern and any(found.path.glob(pattern)):
            log.info("removing {folder}/{what}", folder=found.path.name, what=pattern)
            self._folders.withdraw(found.path, pattern)

    async def _clear(self) -> None:
        """Remove unfinished work of batches that have ended.

        The work of a failed or partial batch stays for a retry, while the disk has room.
        """
        for batch, folder in self._folders.left():
            record = await self._parts.group(batch)
            kept = record is not None and (
                record.state not in ENDED
                or (record.state in ("failed", "partial") and not self._is_disk_tight())
            )
            if not kept:
                shutil.rmtree(folder, ignore_errors=True)

    async def _unwanted(self, found: Published) -> str:
        """A glob pattern of the files that no record refers to, or can refer to; empty: none."""
        queue = self._parts
        record = await queue.group(found.batch)
        if record is None:
            gone = found.age > self._keep or await queue.was_deleted(found.batch)
            return "*" if gone else ""
        if record.state not in ENDED:
            return ""  # the acknowledgement of its part may be on its way
        if found.path.name not in {result.folder for result in part_results(record) if result}:
            return "*"
        # A failed batch keeps its manifests, and the checksum files, so that its links answer 410.
        return "" if record.state in ("done", "partial") else "*.zip"


def _brief(part: PartRecord) -> bytes:
    """The result of a part with its first errors and largest groups only; empty: it is so short."""
    if not part.result:
        return b""
    result = msgspec.json.decode(part.result, type=PartResult)
    failures = FailureCounts(result.failures).largest(MAX_BRIEF_GROUPS)
    if len(result.errors) <= MAX_BRIEF_ERRORS and len(failures) == len(result.failures):
        return b""
    errors = result.errors[:MAX_BRIEF_ERRORS]
    return msgspec.json.encode(msgspec.structs.replace(result, errors=errors, failures=failures))
