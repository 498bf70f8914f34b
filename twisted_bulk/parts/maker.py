"""Makes a part of a batch, from its job to its published zips: the function that workers run."""

import errno
import random
import shutil
from collections import Counter
from collections.abc import Collection
from functools import partial
from pathlib import Path

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_bulk.archive.pack_threads import PackThreads
from twisted_bulk.archive.writer import Archive
from twisted_bulk.batch.manifest_file import RUNNING, note
from twisted_bulk.batch.model import PartResult, PartSpec, unpack_members
from twisted_bulk.batch.selection import Selection
from twisted_bulk.consumer.task import GiveBack, Result, Task
from twisted_bulk.download import Downloader
from twisted_bulk.downloads.fetch import Fetch
from twisted_bulk.errors import MemberError
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.parts.publication import keep_failed, members_there, publish
from twisted_bulk.parts.state import PartState
from twisted_bulk.parts.target import MemberTarget
from twisted_bulk.storage.workspace import Workspace
from twisted_bulk.system.disk_space import DiskSpace

log = Logger()

#: Seconds before a part is taken again that was given back as it only waited, +- 50 %.
YIELD_SECONDS = 30.0
#: Seconds before a part is taken again after too many files were open, +- 50 %.
FILES_SECONDS = 1.0


class PartMaker:
    """Makes parts.

    ``reporting`` counts the running parts by batch and host of its callbacks; a batch without
    callbacks is not in it.

    :param workspace: the folder of this process, where the zips grow
    :param part_bytes: size of a zip beyond which its next member begins another
    :param space: of the workspace's disk
    :param retry_on: statuses after which members are tried again, too
    """

    def __init__(
        self,
        queue: GroupQueue,
        downloader: Downloader,
        threads: PackThreads,
        workspace: Workspace,
        clock: IReactorTime,
        part_bytes: int,
        space: DiskSpace,
        retry_on: Collection[int] = (),
    ) -> None:
        self._queue = queue
        self._downloader = downloader
        self._threads = threads
        self._workspace = workspace
        self._clock = clock
        self._part_bytes = part_bytes
        self._space = space
        self._retry_on = retry_on
        self._node = workspace.node
        self._running = 0
        self.reporting: Counter[tuple[str, str]] = Counter()

    async def __call__(self, task: Task) -> Result:
        spec = msgspec.json.decode(task.job.payload, type=PartSpec)
        packed = await self._queue.attachment(task.job.attachment)
        if packed is None:
            raise ValueError(f"the members of {task.job.id} are missing")
        # On a thread: a hundred thousand names would keep the reactor too long.
        part = await self._threads.run(
            lambda: PartState(
                spec,
                unpack_members(packed),
                self._clock,
                self._node,
                partial(self._queue.claim_names, spec.batch) if spec.parts > 1 else None,
            )
        )
        await self._recall(part, task.job.id)
        task.waits = lambda: part.fetches.stalled
        task.yield_room = lambda: self._yield_room(part)
        fetches = part.fetches  # with the part in the lambda, the part would refer to itself
        part.waits_for = lambda: self._downloader.waits_for(fetches)
        running = await self._queue.running_for(spec.batch)
        part.fetches.began = self._clock.seconds() - running
        log.info(
            "{job}: {n} members, attempt {a}",
            job=task.job.id,
            n=len(part.members),
            a=task.job.attempt,
        )
        if spec.notify:
            self.reporting[spec.batch, spec.notify] += 1
        self._running += 1
        try:
            return await self._make(part, task)
        finally:
            self._running -= 1
            if spec.notify:
                self.reporting[spec.batch, spec.notify] -= 1
                self.reporting += Counter()  # drops what has come to nothing

    async def _recall(self, part: PartState, job_id: str) -> None:
        """Tell a part what the run before has left, and which members are to be tried now."""
        previous, only = await self._queue.previous(job_id)
        if not previous:
            return
        result = msgspec.json.decode(previous, type=PartResult)
        part.previous = result.zips
        if only:
            wanted = msgspec.json.decode(only, type=Selection)
            public = self._workspace.public
            await self._threads.run(keep_failed, part, result, wanted, public)

    async def _make(self, part: PartState, task: Task) -> Result:
        spec, archive = part.spec, None
        try:
            place = await self._threads.run(self._workspace.make_folder, task.job.id)
            running = place / RUNNING
            await self._threads.run(running.unlink, True)
            task.progress = lambda: self._progress(part, running)
            archive = await self._threads.run(
                Archive, place, spec.compress, self._part_bytes, self._space.claim
            )
            await self._fetch(part, archive)
            task.progress = part.progress
            folder, zips = await self._threads.run(publish, part, archive, self._workspace)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # too many files are open
                raise GiveBack(str(error), _about(FILES_SECONDS)) from None
            full = self._space.refused(error)  # first: `_leave` looks at `is_full`
            # A part that is larger than the room on the disk can be, and runs alone, would fail
            # each time: the try counts.
            claimed = archive.claimed if archive else 0
            if full and (self._running > 1 or self._space.fits(claimed)):
                raise GiveBack(str(error)) from None
            raise
        finally:
            if archive is not None:
                # On a thread: it may wait for a write that is under way.
                self._threads.run(self._leave, archive).addErrback(lambda _: None)
        size = sum(one.size for one in zips)
        codes = Counter(one.code for one in part.outcomes if one and one.code)
        log.info(
            "{batch}/{part}: {done} done, {failed} failed{why}, {size} bytes",
            batch=spec.batch, part=spec.part, done=part.done, failed=part.failed, size=size,
            why="".join(f", {n} x {code}" for code, n in codes.most_common()),
        )  # fmt: skip
        result = PartResult(
            folder=folder, zips=zips, done=part.done, failed=part.failed, bytes=part.bytes,
            errors=part.errors, node=self._node, warnings=part.warnings,
            failures=part.largest_failures,
        )  # fmt: skip
        return Result(
            ok=part.done,
            data=msgspec.json.encode(result),
            tags=",".join(part.failures.codes),
            undo=lambda: self._workspace.withdraw(folder),
        )

    def _progress(self, part: PartState, running: Path) -> tuple[int, bytes]:
        """For a heartbeat; members that have ended since the last one go into a file."""
        news = part.news()
        if news:
            self._threads.run_in_background(note, running, news)
        return part.progress()

    def _leave(self, archive: Archive) -> None:
        """End the work in the archive's folder; unfinished work is kept. Blocks."""
        archive.abandon()
        if self._space.is_full:
            shutil.rmtree(archive.folder, ignore_errors=True)  # others need the room
        self._workspace.leave(archive.folder)

    async def _fetch(self, part: PartState, archive: Archive) -> None:
        """Fetch all members into the archive; ``part`` notes how each ended."""
        spec = part.spec
        there = await self._threads.run(members_there, part, archive, self._workspace)
        await self._threads.run(
            part.naming.keep, {number: placed.name for number, placed in there.items()}
        )
        await part.naming.claim_all(there)
        for number, placed in there.items():
            part.came(number, placed)
        if there:
            log.info("{batch}/{part}: {n} were there",
                     batch=spec.batch, part=spec.part, n=len(there))  # fmt: skip
        fetches = [self._one(part, archive, same) for same in part.missing()]
        if not fetches:
            return
        part.fetches.left = len(fetches)
        late = MemberError("batch_timeout", f"the batch may run for {spec.timeout:g} s")
        timer = None
        if spec.timeout:
            left = max(0.0, part.fetches.began + spec.timeout - self._clock.seconds())
            timer = self._clock.callLater(left, self._downloader.give_up, part.fetches, late)
        try:
            await self._downloader.fetch(part.fetches, fetches)
        finally:
            if timer is not None and timer.active():
                timer.cancel()

    def _yield_room(self, part: PartState) -> None:
        """Give the job back: it only waits, and others need its room. Its members are kept."""
        if not part.fetches.done.called:
            why = "its sources send next to nothing, and others need the room"
            part.fetches.done.errback(GiveBack(why, _about(YIELD_SECONDS)))

    def _one(self, part: PartState, archive: Archive, same: list[int]) -> Fetch:
        """A fetch for members that differ in their names only."""
        target = MemberTarget(self._threads, self._downloader, part, archive, same)
        member, spec = part.members[same[0]], part.spec
        return Fetch(
            member, spec.headers, target, member.expect or spec.expect,
            frozenset((*spec.retry_on, *self._retry_on)),
        )  # fmt: skip


def _about(seconds: float) -> float:
    """The same time +- 50 %, so that not all come back at once."""
    return random.uniform(0.5, 1.5) * seconds
