"""Parts of batches from their jobs to published zips; the queue is in memory."""

import errno
import hashlib
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from tests.support.brokers import OnMemory, Queues
from tests.support.downloads import DownloadTestCase
from tests.support.origin_server import Exchange, ok, respond
from tests.support.reactor import reactor
from twisted_bulk.archive.pack_threads import PackThreads
from twisted_bulk.batch.model import Member, Outcome, PartResult, PartSpec, pack_members
from twisted_bulk.batch.selection import Selection
from twisted_bulk.consumer.task import GiveBack, Result, Task
from twisted_bulk.jobs.group_model import Group, GroupPart
from twisted_bulk.jobs.model import Ack
from twisted_bulk.parts.maker import FILES_SECONDS, PartMaker
from twisted_bulk.storage.folders import DataFolders
from twisted_bulk.system.disk_space import DiskSpace


class MakerTests(OnMemory, Queues, DownloadTestCase):
    """One part at a time, from a server on loopback."""

    async def setUp(self) -> None:  # type: ignore[override]
        await Queues.setUp(self)
        DownloadTestCase.setUp(self)
        self.folders = DataFolders(Path(tempfile.mkdtemp(prefix="bw")))
        self.workspace = self.folders.enlist()
        self.addCleanup(self.workspace.close)
        threads = PackThreads(reactor, 1)
        threads.startService()
        self.addCleanup(threads.stopService)
        # Marks that no disk of a test machine reaches.
        self.space = DiskSpace(self.folders.public, reactor, 98, 99, 100)
        self.maker = PartMaker(
            self.queue, self.start(), threads, self.workspace, reactor, 1 << 40, self.space
        )

    async def task(self, *members: Member, spare: int = 0, **spec: Any) -> Task:
        """The job of a part with these members, as a worker has it."""
        payload = PartSpec("b", 1, 1, spare, **spec)
        part = GroupPart(
            size=len(members),
            payload=msgspec.json.encode(payload),
            data=pack_members([members], len(members)),
        )
        await self.queue.submit(Group(id="b", digest="d", spec=b"{}", need=1, parts=[part]))
        (job,) = (await self.queue.reserve("w", 1)).jobs
        return Task(job)

    def member(self, path: str, body: bytes | None = None) -> Member:
        if body is not None:
            self.site.answers[path] = ok(body)
        return Member(self.site.url + path)

    async def refused(self, task: Task, kind: type[Exception]) -> Any:
        """The error with which a job's function fails."""
        return await self.assertFailure(Deferred.fromCoroutine(self.maker(task)), kind)

    def result(self, result: Result) -> PartResult:
        return msgspec.json.decode(result.data, type=PartResult)

    async def test_published(self) -> None:
        """Two members and a failed one: a zip with both, and a manifest with all three."""
        members = self.member("/a", b"aa"), self.member("/b", b"bbb"), self.member("/none")
        made = await self.maker(await self.task(*members, spare=1))
        result = self.result(made)
        self.assertEqual((made.ok, result.done, result.failed, result.bytes), (2, 2, 1, 5))
        self.assertEqual([error["code"] for error in result.errors], ["http_error"])
        (one,) = result.zips
        path = self.folders.public / one.link
        self.assertEqual(hashlib.sha256(path.read_bytes()).hexdigest(), one.sha256)
        with zipfile.ZipFile(path) as opened:
            manifest = msgspec.json.decode(opened.read("manifest.json"), type=list[Outcome])
            self.assertEqual((opened.read("a"), opened.read("b")), (b"aa", b"bbb"))
        self.assertEqual([outcome.status for outcome in manifest], ["done", "done", "failed"])
        made.undo()
        self.assertFalse(path.exists())

    async def test_some_again(self) -> None:
        """Of the members that failed only those that are meant are fetched; the others stay."""
        members = [self.member("/a", b"aa"), self.member("/x"), self.member("/y")]
        self.site.answers["/y"] = respond("403 Forbidden")
        task = await self.task(*members, spare=2)
        made = await self.maker(task)
        await self.queue.ack("w", [Ack(task.job, made.ok, made.data, made.tags)])
        self.assertEqual(made.tags, "http_error")
        asked = len(self.site.requests)
        for meant, fetched, failed in (("/x", ["/x"], 2), ("/y", ["/y"], 2), ("", ["/x", "/y"], 1)):
            selection = Selection(status="failed", text=meant)
            await self.queue.again("b", only=msgspec.json.encode(selection) if meant else b"")
            if not meant:
                self.site.answers["/x"] = ok(b"xxx")
            (job,) = (await self.queue.reserve("w", 1)).jobs
            made = await self.maker(Task(job))
            await self.queue.ack("w", [Ack(job, made.ok, made.data, made.tags)])
            got = sorted(path for path in self.paths(asked))
            self.assertEqual(got, fetched)
            asked = len(self.site.requests)
            result = self.result(made)
            self.assertEqual((result.done, result.failed), (3 - failed, failed))
            self.assertEqual(sum(group[2] for group in result.failures), failed)
            manifest = (self.folders.public / result.folder / "manifest.json").read_bytes()
            lines = msgspec.json.decode(manifest, type=list[Outcome])
            self.assertEqual([line.member for line in lines], [1, 2, 3])
            self.assertEqual(lines[2].detail, "HTTP 403 Forbidden")

    def paths(self, since: int) -> list[str]:
        """The paths of the requests after the first ``since`` ones."""
        return [request[0] for request in self.site.requests[since:]]

    async def test_members_are_missing(self) -> None:
        """A job whose members are gone fails, and leaves nothing."""
        task = await self.task(self.member("/a", b"a"))
        await self.queue.detach([task.job.attachment])
        error = await self.refused(task, ValueError)
        self.assertIn("are missing", str(error))
        self.assertEqual(list(self.folders.public.iterdir()), [])

    async def test_too_many_files(self) -> None:
        """A process without free descriptors gives the job back, and it uses up no try."""
        task = await self.task(self.member("/a", b"a"))

        def refuse(job: str) -> Path:
            raise OSError(errno.EMFILE, "too many open files")

        self.patch(self.workspace, "make_folder", refuse)
        error = await self.refused(task, GiveBack)
        self.assertTrue(0.5 * FILES_SECONDS <= error.delay <= 1.5 * FILES_SECONDS)

    async def test_full_disk(self) -> None:
        """A full disk: the job is given back while there is room for it; else the try counts."""

        def refuse(job: str) -> Path:
            raise OSError(errno.ENOSPC, "no space left")

        self.patch(self.workspace, "make_folder", refuse)
        task = await self.task(self.member("/a", b"a"))
        self.patch(self.space, "fits", lambda size: True)
        await self.refused(task, GiveBack)
        self.assertTrue(self.space.is_full)
        self.patch(self.space, "fits", lambda size: False)
        error = await self.refused(task, OSError)
        self.assertEqual(error.errno, errno.ENOSPC)

    async def test_reporting(self) -> None:
        """A part that runs is counted by its batch and its callbacks' host, also if it fails."""
        seen = []

        def answer(exchange: Exchange) -> None:
            seen.append(dict(self.maker.reporting))
            exchange.write(ok(b"a"))

        self.site.answers["/a"] = answer
        await self.maker(await self.task(self.member("/a"), notify="h.example"))
        self.assertEqual(seen, [{("b", "h.example"): 1}])
        self.assertEqual(self.maker.reporting, {})

    async def test_batch_timeout(self) -> None:
        """Members that are not there in the batch's time end, those that are there stay."""
        task = await self.task(self.member("/a", b"a"), self.member("/never"), spare=1, timeout=0.3)
        self.site.answers["/never"] = lambda exchange: None
        result = self.result(await self.maker(task))
        self.assertEqual((result.done, result.failed), (1, 1))
        self.assertEqual(result.errors[0]["code"], "batch_timeout")

    async def test_hopeless(self) -> None:
        """When more members failed than may fail, the others end, and no zip is made."""
        self.site.answers["/never"] = lambda exchange: None
        members = self.member("/none"), self.member("/never")
        result = self.result(await self.maker(await self.task(*members)))
        self.assertEqual((result.done, result.failed, result.zips), (0, 2, []))
        self.assertEqual([e["code"] for e in result.errors], ["http_error", "batch_failed"])

    async def test_yield(self) -> None:
        """A part that only waits gives its job back; the next attempt has its members."""
        waiting: Deferred[None] = Deferred()
        self.site.answers["/slow"] = lambda exchange: waiting.callback(None)
        members = self.member("/a", b"a"), self.member("/slow")
        task = await self.task(*members)
        making = Deferred.fromCoroutine(self.maker(task))
        await waiting
        while task.progress()[0] < 1000:  # until the first member has ended
            await _turn()
        task.yield_room()
        error: Any = await self.assertFailure(making, GiveBack)
        self.assertGreater(error.delay, 0)
        asked = len(self.site.requests)
        self.site.answers["/slow"] = ok(b"late")
        while not list(self.folders.left()):  # its folder is left by a thread
            await _turn()
        result = self.result(await self.maker(Task(task.job)))
        self.assertEqual((result.done, len(self.site.requests) - asked), (2, 1))


def _turn() -> Deferred[None]:
    """The next turn of the reactor."""
    turn: Deferred[None] = Deferred()
    reactor.callLater(0.001, turn.callback, None)
    return turn
