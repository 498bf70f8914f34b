"""What has to be done now and then: lost leases, dead processes, old and orphaned files."""

import contextlib
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_bulk.archive.folders import DataFolders, Published, members_kept
from twisted_bulk.batch.model import PartResult
from twisted_bulk.batch.report import BRIEF_ERRORS, part_results
from twisted_bulk.consumer.acks import adopt
from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs.group_model import ENDED, PartRecord
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.jobs.scripted import ScriptedQueue

log = Logger()

MAINTAIN = 1.0  # seconds between rounds in the queue
AT_ONCE = 100  # batches whose members go in one round, where the queue's memory is short
SWEEP = 60  # rounds between sweeps of the folders


class Janitor(Service):
    """Keep queues and folders in order.

    :param parts: whose groups own the zips; ``others``: queues that have jobs too
    :param keep: seconds that zips and records stay
    :param shared: settings of ``parts`` that are given to all nodes at the start
    :param tight: whether the disk has little room
    :param crowded: whether the queue's memory has
    """

    def __init__(
        self,
        parts: GroupQueue,
        others: list[ScriptedQueue],
        folders: DataFolders,
        clock: IReactorTime,
        keep: float,
        shared: Mapping[str, float],
        tight: Callable[[], bool] = lambda: False,
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._parts = parts
        self._queues = [parts, *others]
        self._folders = folders
        self._keep = keep
        self._rounds = 0
        # The queue's time has to go on while the folders are gone through.
        self._maintaining = LoopingCall(self._soundly, self._maintain)
        self._working = LoopingCall(self._soundly, self._round)
        self._maintaining.clock = self._working.clock = clock
        self._poked: set[str] = set()
        self._shared = dict(shared)
        self._tight = tight
        self._crowded = crowded

    def startService(self) -> None:
        super().startService()
        self._maintaining.start(MAINTAIN)
        self._working.start(MAINTAIN)

    def stopService(self) -> None:
        super().stopService()
        self._maintaining.stop()
        self._working.stop()

    def poke(self, batch: str) -> None:
        """This batch's record has changed: look at its files in the next round."""
        self._poked.add(batch)

    def _soundly(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Deferred[None]:
        # An error would end the LoopingCall.
        return Deferred.fromCoroutine(work()).addErrback(
            lambda f: None if f.check(Unavailable) else log.failure("housekeeping failed", f)
        )

    async def _round(self) -> None:
        """Do each duty that is due; one that fails does not keep the others from their turn."""
        for duty in self._due():
            try:
                await duty()
            except (Unavailable, CancelledError):
                raise
            except Exception:
                log.failure("housekeeping: {duty} failed", duty=duty.__name__)
        self._rounds += 1

    def _due(self) -> Iterator[Callable[[], Awaitable[object]]]:
        yield self._share
        if self._crowded():
            yield self._drop_members
        yield self._sweep_poked
        if self._rounds % SWEEP == 0:
            yield self._bury_workers
            yield self._sweep
            yield self._clear

    async def _share(self) -> None:
        if self._shared:
            await self._parts.control(self._shared)
            self._shared = {}

    async def _drop_members(self) -> None:
        """Make room in the queue: batches that have ended cannot be tried again then."""
        shed = await self._parts.drop_members(AT_ONCE)
        for batch in shed:
            record = await self._parts.group(batch)
            if record is not None:
                await self._parts.trim(record, [_brief(part) for part in record.parts])
        if shed:
            log.warn(
                "the queue's memory is short: {n} batches that have ended cannot be tried again,"
                " and name few of their errors; the manifest has them all",
                n=len(shed),
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

    async def _sweep_poked(self) -> None:
        while self._poked:
            await self._sweep(self._poked.pop())

    async def _bury_workers(self) -> None:
        for worker, folder in self._folders.dead_workers():
            await self._bury(worker, folder, blamed=False)

    async def bury(self, pid: int) -> None:
        """A process of this host has died by itself: its jobs are free, and lose a worker."""
        for worker, folder in self._folders.dead_workers(self._folders.worker_of(pid) or "-"):
            await self._bury(worker, folder, blamed=True)

    async def _bury(self, worker: str, folder: Path, blamed: bool) -> None:
        kept = members_kept(folder)
        for queue in self._queues:
            counted = await adopt(queue, folder)
            if counted:
                log.info("{worker} left {n} results; they count", worker=worker, n=counted)
            freed = await queue.reclaim(worker, kept, blamed)
            if freed:
                log.warn("{worker} died with {n} jobs; they are free", worker=worker, n=freed)

    async def _sweep(self, batch: str = "") -> None:
        for found in self._folders.published(batch):
            if not found.files:
                if found.age > self._keep:
                    with contextlib.suppress(OSError):  # another node was faster
                        found.path.rmdir()
                continue
            pattern = await self._unwanted(found)
            if pattern and any(found.path.glob(pattern)):
                log.info("removing {folder}/{what}", folder=found.path.name, what=pattern)
                self._folders.withdraw(found.path, pattern)

    async def _clear(self) -> None:
        """Remove unfinished work whose batch does not go on.

        What a batch that has failed had fetched stays for a retry, while the disk has room.
        """
        for batch, folder in self._folders.left():
            record = await self._parts.group(batch)
            kept = record is not None and (
                record.state not in ENDED
                or (record.state in ("failed", "partial") and not self._tight())
            )
            if not kept:
                shutil.rmtree(folder, ignore_errors=True)

    async def _unwanted(self, found: Published) -> str:
        """Which of these files nothing names, and nothing can any more."""
        queue = self._parts
        record = await queue.group(found.batch)
        if record is None:
            gone = found.age > self._keep or await queue.was_deleted(found.batch)
            return "*" if gone else ""
        if record.state not in ENDED:
            return ""  # its part may be about to be acknowledged
        if found.path.name not in {result.folder for result in part_results(record) if result}:
            return "*"
        # A batch that has failed has its manifests; the digests say that there was a zip.
        return "" if record.state in ("done", "partial") else "*.zip"


def _brief(part: PartRecord) -> bytes:
    """The result of a part with few errors, or nothing where it has no more."""
    if not part.result:
        return b""
    result = msgspec.json.decode(part.result, type=PartResult)
    if len(result.errors) <= BRIEF_ERRORS:
        return b""
    return msgspec.json.encode(msgspec.structs.replace(result, errors=result.errors[:BRIEF_ERRORS]))
