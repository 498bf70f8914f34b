"""One part of a batch, from its job to a published zip: the function that workers run."""

import errno
import random
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_bulk.archive.folders import DIGEST, Workspace
from twisted_bulk.archive.member_sink import MemberSink
from twisted_bulk.archive.pack_threads import PackThreads
from twisted_bulk.archive.volume import ZipMember
from twisted_bulk.archive.writer import Archive
from twisted_bulk.batch.manifest_file import RUNNING, encode, note
from twisted_bulk.batch.model import Outcome, PartResult, PartSpec, Zip, task_of, unpack_members
from twisted_bulk.batch.names import MANIFEST
from twisted_bulk.consumer.task import GiveBack, Result, Task
from twisted_bulk.download import Downloader
from twisted_bulk.downloads.attempt import Fetch
from twisted_bulk.errors import MemberError
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.parts.state import PartState
from twisted_bulk.system.disk_space import DiskSpace

log = Logger()

YIELD = 30.0  # seconds that a part which only waits is left alone, where others need its room


def _ending(spec: PartSpec, volume: int, volumes: int) -> str:
    """What tells the zips of one batch apart."""
    if spec.parts == volumes == 1:
        return ".zip"
    return f".part{spec.part:03}.zip" if volume == 1 else f".part{spec.part:03}-{volume}.zip"


def _old(path: Path, names: set[str]) -> Callable[[str], ZipMember | None]:
    """What the manifest in a zip says of those of its members that are not in ``names``."""
    with zipfile.ZipFile(path) as found:
        manifest = msgspec.json.decode(found.read(MANIFEST), type=list[Outcome])
        modified = {info.filename: info.date_time for info in found.infolist()}
    said = {outcome.name: outcome for outcome in manifest if outcome.sha256}

    def about(name: str) -> ZipMember | None:
        outcome = said.get(name)
        if outcome is None or name in names:
            return None
        return ZipMember(
            name=name, volume=0, offset=0, method=0, crc=0, size=0, packed=0,
            modified=datetime(*modified[name], tzinfo=UTC).timestamp(), sha256=outcome.sha256,
            verified=outcome.status == "done", attempts=outcome.attempts,
        )  # fmt: skip

    return about


class PartMaker:
    """Makes parts. ``reporting`` counts the running ones by batch and the host of its callbacks.

    :param workspace: where the zips grow and how they are published
    :param part_bytes: size beyond which a zip is followed by another
    :param space: on the disk of the workspace
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
    ) -> None:
        self._queue = queue
        self._downloader = downloader
        self._threads = threads
        self._workspace = workspace
        self._clock = clock
        self._part_bytes = part_bytes
        self._space = space
        self._node = workspace.node
        self._running = 0
        self.reporting: Counter[tuple[str, str]] = Counter()

    async def __call__(self, task: Task) -> Result:
        spec = msgspec.json.decode(task.job.payload, type=PartSpec)
        packed = await self._queue.attachment(task.job.attachment)
        if packed is None:
            raise ValueError(f"the members of {task.job.id} are missing")
        # A hundred thousand names take the reactor's thread too long.
        part = await self._threads.run(
            lambda: PartState(spec, unpack_members(packed), self._clock, self._node)
        )
        previous = await self._queue.previous(task.job.id)
        if previous:
            part.previous = msgspec.json.decode(previous, type=PartResult).zips
        task.waits = lambda: part.fetches.stalled
        task.yield_room = lambda: self._yield_room(part)
        fetches = part.fetches  # not the part: it would hold itself, until the garbage is collected
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
            folder, zips = await self._threads.run(self._publish, part, archive)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # as many files are open as may be
                raise GiveBack(str(error), random.uniform(0.5, 1.5)) from None
            full = self._space.refused(error)  # before the folder is left: it must know
            # Alone, and larger than the room that there can be: the next try would end like
            # this one, and it counts.
            claimed = archive.claimed if archive else 0
            if full and (self._running > 1 or self._space.fits(claimed)):
                raise GiveBack(str(error)) from None
            raise
        finally:
            if archive is not None:
                # On the threads: it may have to wait for a write that is under way.
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
            errors=part.errors, node=self._node,
        )  # fmt: skip
        return Result(
            ok=part.done,
            data=msgspec.json.encode(result),
            undo=lambda: self._workspace.withdraw(folder),
        )

    def _progress(self, part: PartState, running: Path) -> tuple[int, bytes]:
        """For a heartbeat; what has ended since the last one is noted for the manifest."""
        news = part.news()
        if news:
            self._threads.run_aside(note, running, news)
        return part.progress()

    def _publish(self, part: PartState, archive: Archive) -> tuple[str, list[Zip]]:
        """Complete the zips, if there are to be any, and make all visible. Blocks.

        :returns: the folder's name, and what is in it
        """
        spec = part.spec
        part.renumber(archive.used())
        manifest = encode(part.outcomes)
        if part.done and part.failed <= spec.spare:
            closed = archive.close(MANIFEST, manifest, part.started)
        else:
            closed = archive.drop()
        notes, zips = {MANIFEST: manifest}, []
        for volume, (path, size, sha256, members) in enumerate(closed, 1):
            file = f"{task_of(spec.batch)}{_ending(spec, volume, len(closed))}"
            path.rename(archive.folder / file)
            notes[f"{file}{DIGEST}"] = f"{sha256}  {file}\n".encode()
            zips.append(Zip(file, size, sha256, members))
        (archive.folder / RUNNING).unlink(missing_ok=True)
        folder = self._workspace.publish(archive.folder, spec.batch, notes)
        return folder, [msgspec.structs.replace(one, link=f"{folder}/{one.link}") for one in zips]

    def _leave(self, archive: Archive) -> None:
        """Nothing more happens in the archive's folder; unfinished work stays. Blocks."""
        archive.abandon()
        if self._space.is_full:
            shutil.rmtree(archive.folder, ignore_errors=True)  # others may need the room
        self._workspace.leave(archive.folder)

    async def _fetch(self, part: PartState, archive: Archive) -> None:
        """Fetch all members into the archive; how each ended stands in ``part``."""
        spec = part.spec
        numbers = {name: number for number, name in enumerate(part.names)}
        there = await self._threads.run(self._known, part, archive)
        for placed in there:
            part.came(numbers[placed.name], placed)
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
        """Give the job back: it only waits, and others need its room. What it has is kept."""
        if not part.fetches.done.called:
            why = "its sources send next to nothing, and others need the room"
            part.fetches.done.errback(GiveBack(why, random.uniform(0.5, 1.5) * YIELD))

    def _known(self, part: PartState, archive: Archive) -> list[ZipMember]:
        """What needs no fetching, in the archive: from an attempt that broke, or a batch that
        is tried again. Blocks."""
        there = archive.resume()
        names = {placed.name for placed in there}
        for one in part.previous:
            path = self._workspace.public / one.link
            if path.exists():  # it is on this node
                there += archive.copy(path, _old(path, names))
        return there

    def _one(self, part: PartState, archive: Archive, same: list[int]) -> Fetch:
        """A fetch for members that are the same but for their names."""
        target = _Target(self._threads, self._downloader, part, archive, same)
        return Fetch(part.members[same[0]], part.spec.headers, target)


@dataclass(slots=True)
class _Target:
    """The way of one fetch into the archive: there are as many as a part has members."""

    threads: PackThreads
    downloader: Downloader
    part: PartState
    archive: Archive
    same: list[int]
    sink: MemberSink | None = None

    def open(self, fetch: Fetch) -> MemberSink:
        names = [self.part.names[number] for number in self.same]
        self.sink = MemberSink(
            self.threads, self.archive, names, length=fetch.length,
            modified=fetch.modified or self.part.started,
            sha256=fetch.member.sha256 or fetch.digest,
            about=lambda: (fetch.verified, fetch.attempts),
        )  # fmt: skip
        return self.sink

    def ended(self, fetch: Fetch, error: MemberError | None) -> None:
        part, sink, before = self.part, self.sink, self.part.failed
        self.sink = None
        if error is not None:
            for number in self.same:
                part.failed_with(number, error, fetch.attempts)
        elif sink is not None:
            for number, placed in zip(self.same, sink.placed, strict=True):
                part.came(number, placed)
        if before <= part.spec.spare < part.failed:
            hopeless = MemberError("batch_failed", "too many others had failed")
            self.downloader.give_up(part.fetches, hopeless)
