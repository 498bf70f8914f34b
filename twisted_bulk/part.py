"""One part of a batch, from its job to a published zip: the function that workers run."""

import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_bulk.archive import Archive, Placed
from twisted_bulk.batch import (
    Member,
    Outcome,
    PartProgress,
    PartResult,
    PartSpec,
    Zip,
    unpack_members,
)
from twisted_bulk.download import Crew, Downloader
from twisted_bulk.errors import MemberError
from twisted_bulk.fetch import Fetch
from twisted_bulk.groups import GroupQueue
from twisted_bulk.member import MemberSink
from twisted_bulk.names import MANIFEST, Names, from_url, safe, sharded
from twisted_bulk.packer import Packer
from twisted_bulk.report import MAX_ERRORS
from twisted_bulk.runner import GiveBack, Result, Task
from twisted_bulk.shelf import Workspace
from twisted_bulk.space import Space

log = Logger()


class _Part:
    """The members of one part and what has become of them."""

    def __init__(self, spec: PartSpec, members: list[Member], clock: IReactorTime) -> None:
        self.spec = spec
        self.members = members
        self.outcomes: list[Outcome | None] = [None] * len(members)
        self.crew = Crew(left=0)
        self.done = self.failed = self.bytes = 0
        self.started = time.time()
        self._clock = clock
        self._rated = (clock.seconds(), 0)
        self._rate = 0.0
        names = Names()
        layout: Callable[[str], str] = sharded if spec.layout == "sharded" else str
        self.names = [
            names.take(layout(safe(member.name) or from_url(member.url) or "file"))
            for member in members
        ]

    def came(self, number: int, placed: Placed) -> None:
        """Member ``number`` is in the archive."""
        self._note(
            number,
            status="done" if placed.verified else "unverified",
            bytes=placed.size,
            sha256=placed.sha256,
            attempts=placed.attempts,
            volume=placed.volume,
        )
        self.done += 1
        self.bytes += placed.size

    def failed_with(self, number: int, error: MemberError, attempts: int) -> None:
        """Member ``number`` is not."""
        self._note(number, status="failed", code=error.code, detail=error.detail, attempts=attempts)
        self.failed += 1

    def _note(self, number: int, **what: Any) -> None:
        empty: dict[str, Any] = {"code": "", "detail": "", "bytes": 0, "sha256": ""}
        self.outcomes[number] = Outcome(
            url=self.members[number].url,
            name=self.names[number],
            part=self.spec.part,
            **empty | what,
        )

    def progress(self) -> tuple[int, bytes]:
        """Thousandths of members over, and the numbers that users see."""
        units, flying = 1000 * (self.done + self.failed), 0
        for fetch in self.crew.active:
            flying += fetch.received
            if fetch.length:
                units += min(999, 1000 * fetch.received // fetch.length)
        size, now = self.bytes + flying, self._clock.seconds()
        then, before = self._rated
        if now - then >= 1:
            self._rate = max(0, size - before) / (now - then)
            self._rated = (now, size)
        shown = PartProgress(done=self.done, failed=self.failed, bytes=size, rate=self._rate)
        return units, msgspec.json.encode(shown)

    def missing(self) -> list[list[int]]:
        """Members that are not there yet; those that are fetched alike together."""
        alike: dict[tuple[Any, ...], list[int]] = {}
        for number, member in enumerate(self.members):
            if self.outcomes[number] is None:
                key = (member.url, member.sha256.lower(), *sorted(member.headers.items()))
                alike.setdefault(key, []).append(number)
        return list(alike.values())

    def errors(self) -> list[dict[str, object]]:
        """The first failed members."""
        failed = [outcome for outcome in self.outcomes if outcome and outcome.code][:MAX_ERRORS]
        return [
            {"url": o.url, "code": o.code, "detail": o.detail, "attempts": o.attempts}
            for o in failed
        ]


def _ending(spec: PartSpec, volume: int, volumes: int) -> str:
    """What tells the zips of one batch apart."""
    if spec.parts == volumes == 1:
        return ".zip"
    return f".part{spec.part:03}.zip" if volume == 1 else f".part{spec.part:03}-{volume}.zip"


class PartMaker:
    """Makes parts. ``reporting`` counts the running ones by batch, where callbacks are wanted.

    :param workspace: where the zips grow and how they are published
    :param part_bytes: size beyond which a zip is followed by another
    :param space: on the disk of the workspace
    """

    def __init__(
        self,
        queue: GroupQueue,
        downloader: Downloader,
        packer: Packer,
        workspace: Workspace,
        clock: IReactorTime,
        part_bytes: int,
        space: Space,
    ) -> None:
        self._queue = queue
        self._downloader = downloader
        self._packer = packer
        self._workspace = workspace
        self._clock = clock
        self._part_bytes = part_bytes
        self._space = space
        self.reporting: Counter[str] = Counter()

    async def __call__(self, task: Task) -> Result:
        spec = msgspec.json.decode(task.job.payload, type=PartSpec)
        packed = await self._queue.attachment(task.job.attachment)
        if packed is None:
            raise ValueError(f"the members of {task.job.id} are missing")
        members = unpack_members(packed)
        part = _Part(spec, members, self._clock)
        task.progress = part.progress
        log.info(
            "{job}: {n} members, attempt {a}", job=task.job.id, n=len(members), a=task.job.attempt
        )
        if spec.notify:
            self.reporting[spec.batch] += 1
        try:
            folder = await self._packer.run(self._workspace.make_folder, task.job.id)
            return await self._make(part, folder)
        except OSError as error:
            if self._space.refused(error):
                raise GiveBack(str(error)) from None
            raise
        finally:
            if spec.notify:
                self.reporting[spec.batch] -= 1
                self.reporting += Counter()  # drops what has come to nothing

    async def _make(self, part: _Part, folder: Path) -> Result:
        spec = part.spec
        archive = await self._packer.run(
            Archive, folder, spec.compress, self._part_bytes, self._space.claim
        )
        try:
            await self._fetch(part, archive)
            zips: list[Zip] = []
            if part.done and part.failed <= spec.spare:
                zips = await self._packer.run(self._publish, part, archive)
        finally:
            # On the packer: it may have to wait for a write that is under way.
            self._packer.run(self._leave, archive).addErrback(lambda _: None)
        size = sum(one.size for one in zips)
        log.info(
            "{batch}/{n}: {done} done, {failed} failed, {size} bytes",
            batch=spec.batch, n=spec.part, done=part.done, failed=part.failed, size=size,
        )  # fmt: skip
        result = PartResult(
            zips=zips, done=part.done, failed=part.failed, bytes=part.bytes, errors=part.errors()
        )

        def undo() -> None:
            for one in zips[:1]:
                self._workspace.withdraw(one.link.split("/")[0])

        return Result(ok=part.done, data=msgspec.json.encode(result), undo=undo)

    def _publish(self, part: _Part, archive: Archive) -> list[Zip]:
        """Complete the zips and make them visible. Blocks."""
        spec = part.spec
        manifest = msgspec.json.encode(part.outcomes)
        closed = archive.close(MANIFEST, manifest, part.started)
        digests, zips = {}, []
        for volume, (path, size, sha256, members) in enumerate(closed, 1):
            file = f"{spec.batch}{_ending(spec, volume, len(closed))}"
            path.rename(archive.folder / file)
            digests[file] = sha256
            zips.append(Zip(file, size, sha256, members))
        folder = self._workspace.publish(archive.folder, spec.batch, digests)
        return [msgspec.structs.replace(one, link=f"{folder}/{one.link}") for one in zips]

    def _leave(self, archive: Archive) -> None:
        """Nothing more happens in the archive's folder; unfinished work stays. Blocks."""
        archive.abandon()
        if self._space.full:
            shutil.rmtree(archive.folder, ignore_errors=True)  # others may need the room
        self._workspace.leave(archive.folder)

    async def _fetch(self, part: _Part, archive: Archive) -> None:
        """Fetch all members into the archive; how each ended stands in ``part``."""
        spec = part.spec
        numbers = {name: number for number, name in enumerate(part.names)}
        there = await self._packer.run(archive.resume)
        for placed in there:
            part.came(numbers[placed.name], placed)
        if there:
            log.info("{batch}/{n}: {k} were there", batch=spec.batch, n=spec.part, k=len(there))
        fetches = [self._one(part, archive, same) for same in part.missing()]
        if not fetches:
            return
        part.crew.left = len(fetches)
        late = MemberError("batch_timeout", f"the batch may run for {spec.timeout:g} s")
        timer = None
        if spec.timeout:
            timer = self._clock.callLater(spec.timeout, self._downloader.give_up, part.crew, late)
        try:
            await self._downloader.fetch(part.crew, fetches)
        finally:
            if timer is not None and timer.active():
                timer.cancel()

    def _one(self, part: _Part, archive: Archive, same: list[int]) -> Fetch:
        """A fetch for members that are the same but for their names."""
        sink: MemberSink | None = None
        member = part.members[same[0]]

        def start(fetch: Fetch) -> MemberSink:
            nonlocal sink
            sink = MemberSink(
                self._packer, archive, [part.names[number] for number in same],
                length=fetch.length, modified=fetch.modified or part.started,
                sha256=member.sha256 or fetch.digest,
                about=lambda: (fetch.verified, fetch.attempts),
            )  # fmt: skip
            return sink

        def ended(fetch: Fetch, error: MemberError | None) -> None:
            nonlocal sink
            before = part.failed
            if error is not None:
                for number in same:
                    part.failed_with(number, error, fetch.attempts)
            elif sink is not None:
                for number, placed in zip(same, sink.placed, strict=True):
                    part.came(number, placed)
            sink = None
            if before <= part.spec.spare < part.failed:
                hopeless = MemberError("batch_failed", "too many others had failed")
                self._downloader.give_up(part.crew, hopeless)

        return Fetch(member, part.spec.headers, start, ended)
