"""One part of a batch, from its job to a published zip: the function that workers run."""

import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_bulk.archive import Archive, Packer
from twisted_bulk.batch import (
    Member,
    Outcome,
    PartProgress,
    PartResult,
    PartSpec,
    unpack_members,
)
from twisted_bulk.download import Crew, Downloader
from twisted_bulk.errors import MemberError
from twisted_bulk.fetch import Fetch
from twisted_bulk.groups import GroupQueue
from twisted_bulk.member import MemberSink
from twisted_bulk.names import MANIFEST, Names, from_url, safe, sharded
from twisted_bulk.report import MAX_ERRORS
from twisted_bulk.runner import Result, Task
from twisted_bulk.shelf import Workspace

log = Logger()


class _Part:
    """The members of one part and what has become of them."""

    def __init__(self, spec: PartSpec, members: list[Member], clock: IReactorTime) -> None:
        self.spec = spec
        self.outcomes: list[Outcome | None] = [None] * len(members)
        self.crew = Crew(left=len(members))
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

    def note(
        self, number: int, fetch: Fetch, sink: MemberSink | None, error: MemberError | None
    ) -> None:
        """Write down how member ``number`` ended."""
        status = "failed" if error else "done" if fetch.verified else "unverified"
        size, sha256 = (sink.size, sink.sha256) if sink and not error else (0, "")
        self.outcomes[number] = Outcome(
            url=fetch.member.url,
            name=self.names[number],
            status=status,
            code=error.code if error else "",
            detail=error.detail if error else "",
            bytes=size,
            sha256=sha256,
            attempts=fetch.attempts,
            part=self.spec.part,
        )
        if error:
            self.failed += 1
        else:
            self.done += 1
            self.bytes += size

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

    def errors(self) -> list[dict[str, object]]:
        """The first failed members."""
        failed = [outcome for outcome in self.outcomes if outcome and outcome.code][:MAX_ERRORS]
        return [
            {"url": o.url, "code": o.code, "detail": o.detail, "attempts": o.attempts}
            for o in failed
        ]


class PartMaker:
    """Makes parts. ``reporting`` counts the running ones by batch, where callbacks are wanted.

    :param workspace: where the zips grow and how they are published
    """

    def __init__(
        self,
        queue: GroupQueue,
        downloader: Downloader,
        packer: Packer,
        workspace: Workspace,
        clock: IReactorTime,
    ) -> None:
        self._queue = queue
        self._downloader = downloader
        self._packer = packer
        self._workspace = workspace
        self._clock = clock
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
        folder = self._workspace.make_folder()
        try:
            return await self._make(part, members, folder)
        finally:
            if spec.notify:
                self.reporting[spec.batch] -= 1
                self.reporting += Counter()  # drops what has come to nothing
            shutil.rmtree(folder, ignore_errors=True)

    async def _make(self, part: _Part, members: list[Member], folder: Path) -> Result:
        spec = part.spec
        ending = ".zip" if spec.parts == 1 else f".part{spec.part:03}.zip"
        archive = Archive(folder, spec.batch + ending, spec.compress)
        try:
            await self._fetch(part, members, archive)
            link, size, sha256 = "", 0, ""
            if part.done and part.failed <= spec.spare:
                manifest = msgspec.json.encode(part.outcomes)
                await self._packer.run(archive.add_bytes, MANIFEST, manifest, part.started)
                size, sha256 = await self._packer.run(archive.close)
                link = await self._packer.run(
                    self._workspace.publish, folder, spec.batch, archive.path.name, sha256
                )
        finally:
            # On the packer: it may have to wait for a write that is under way.
            self._packer.run(archive.abandon).addErrback(lambda _: None)
        log.info(
            "{batch}/{n}: {done} done, {failed} failed, {size} bytes",
            batch=spec.batch, n=spec.part, done=part.done, failed=part.failed, size=size,
        )  # fmt: skip
        result = PartResult(
            link=link, size=size, sha256=sha256, done=part.done, failed=part.failed,
            bytes=part.bytes, errors=part.errors(),
        )  # fmt: skip
        undo = (lambda: self._workspace.withdraw(link)) if link else (lambda: None)
        return Result(ok=part.done, data=msgspec.json.encode(result), undo=undo)

    async def _fetch(self, part: _Part, members: list[Member], archive: Archive) -> None:
        """Fetch all members into the archive; how each ended stands in ``part``."""
        spec = part.spec

        def one(number: int, member: Member) -> Fetch:
            sink: MemberSink | None = None

            def start(fetch: Fetch) -> MemberSink:
                nonlocal sink
                sink = MemberSink(
                    self._packer, archive, part.names[number], length=fetch.length,
                    modified=fetch.modified or part.started, sha256=member.sha256,
                )  # fmt: skip
                return sink

            def ended(fetch: Fetch, error: MemberError | None) -> None:
                nonlocal sink
                part.note(number, fetch, sink, error)
                sink = None
                if part.failed == spec.spare + 1:
                    hopeless = MemberError("batch_failed", "too many others had failed")
                    self._downloader.give_up(part.crew, hopeless)

            return Fetch(member, spec.headers, start, ended)

        late = MemberError("batch_timeout", f"the batch may run for {spec.timeout:g} s")
        timer = None
        if spec.timeout:
            timer = self._clock.callLater(spec.timeout, self._downloader.give_up, part.crew, late)
        try:
            fetches = [one(number, member) for number, member in enumerate(members)]
            await self._downloader.fetch(part.crew, fetches)
        finally:
            if timer is not None and timer.active():
                timer.cancel()
