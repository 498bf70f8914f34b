"""Housekeeping: one duty that fails does not stop the others, nor come back each second."""

import os
import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.support.brokers import OnMemory, Queues
from tests.support.reactor import reactor
from twisted_bulk.jobs.group_model import Group, GroupPart
from twisted_bulk.parts import janitor
from twisted_bulk.parts.janitor import SWEEP_ROUNDS, Janitor
from twisted_bulk.storage.folders import DataFolders
from twisted_bulk.storage.names import LEFT, LOCK


class JanitorTests(OnMemory, Queues):
    """A data folder, and queues in memory."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.folders = DataFolders(Path(tempfile.mkdtemp(prefix="bw")))
        self.janitor = Janitor(self.queue, [self.calls], self.folders, reactor, 1000.0, {})

    def leave(self, job: str) -> Path:
        """Unfinished work, as a worker leaves it."""
        folder = self.folders.public.parent / "spool" / LEFT / job
        folder.mkdir(parents=True)
        (folder / "journal").write_text("{}\n")
        return folder

    async def test_left_of_a_live_batch(self) -> None:
        """What is left of a batch that waits stays, and the sweep gets to its end.

        Fails on ecffb8f: OSError: Directory not empty, each second anew.
        """
        part = GroupPart(size=1, payload=b"x", data=b"y")
        await self.queue.submit(Group(id="b", digest="d", spec=b"{}", need=1, parts=[part]))
        record = await self.queue.group("b")
        assert record is not None
        kept, gone = self.leave(f"b@{record.run}.1"), self.leave("other@1.1")
        await self.janitor._round()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertTrue(kept.exists())
        self.assertFalse(gone.exists())
        self.assertEqual(self.janitor._rounds, 1)

    async def test_a_duty_fails(self) -> None:
        """It is said once, the duties behind it are done, and its turn comes a minute later."""
        folder = self.folders.public / f"b-{'0' * 32}"
        folder.mkdir()
        (folder / "sub.zip").mkdir()  # cannot be unlinked
        (folder / "sub.zip" / "x").touch()
        os.utime(folder, (1, 1))
        gone = self.leave("other@1.1")
        for _ in range(SWEEP_ROUNDS):
            await self.janitor._round()
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.assertFalse(gone.exists())

    async def test_time_goes_on(self) -> None:
        """The queue's time does not wait for a sweep that takes long."""
        gate: Deferred[None] = Deferred()

        async def slow(batch: str = "") -> None:
            await gate

        self.patch(self.janitor, "_sweep", slow)
        self.patch(janitor, "ROUND_SECONDS", 0.01)
        self.janitor.startService()
        seen = []
        for _ in range(5):
            await deferLater(reactor, 0.05)
            seen.append((await self.queue.stats()).now)
        gate.callback(None)
        self.janitor.stopService()
        await deferLater(reactor, 0.05)
        self.assertEqual(len(set(seen)), 5)

    async def test_kept_for_a_retry(self) -> None:
        """What a failed batch had fetched stays, while the disk has room; a cancelled one's goes.

        Fails on ecffb8f: both are gone with the next sweep.
        """
        folders = {}
        for name in ("failed", "cancelled"):
            part = GroupPart(size=1, payload=b"x", data=b"y")
            group = Group(id=name, digest="d", spec=b"{}", need=1, parts=[part])
            await self.queue.submit(group)
            (job,) = (await self.queue.reserve("w", 1)).jobs
            folders[name] = self.leave(job.id.replace("/", "."))
            if name == "failed":
                await self.queue.nack("w", job, 0, "x", fatal=True)
            else:
                await self.queue.cancel_group(name)
        await self.janitor._round()
        there = {name: folder.exists() for name, folder in folders.items()}
        self.assertEqual(there, {"failed": True, "cancelled": False})
        self.janitor._is_disk_tight = lambda: True
        await self.janitor._clear()
        self.assertFalse(folders["failed"].exists())

    async def test_folder_that_cannot_be_opened(self) -> None:
        """A worker's folder whose lock cannot be opened keeps no other from being looked at."""
        spool = self.folders.public.parent / "spool"
        for name in ("a-1-0", "z-1-0"):
            (spool / name / LOCK).mkdir(parents=True)  # opening it fails as that of another user's
        workspace = self.folders.enlist()
        os.close(workspace._lock)  # as at kill -9
        await self.janitor._reclaim_dead()
        self.assertEqual({path.name for path in spool.iterdir()}, {"a-1-0", "z-1-0"})

    async def test_one_that_fails(self) -> None:
        """A folder that cannot be handled keeps no other from its turn, and stays as it is."""
        spool = self.folders.public.parent / "spool"
        workspaces = [self.folders.enlist() for _ in range(3)]
        for workspace in workspaces:
            os.close(workspace._lock)  # as at kill -9
        for workspace in workspaces[1:]:  # two: the first one would stop the look at the second
            (workspace.path / f"w.{self.queue.name}.acks").mkdir()  # it cannot be read
        for number in range(3):
            folder = self.folders.public / f"b{number}-{'0' * 32}"
            folder.mkdir()
            (folder / "b.zip").mkdir() if number else (folder / "b.zip").touch()
            os.utime(folder, (1, 1))
        await self.janitor._round()
        self.assertEqual(len(self.flushLoggedErrors()), 4)
        self.assertEqual(set(spool.iterdir()), {one.path for one in workspaces[1:]})
        self.assertEqual(len(list(self.folders.public.glob("*/b.zip"))), 2)

    async def test_evidence(self) -> None:
        """What stands on a dead worker's disk is told to the queue with the loss."""
        part = GroupPart(size=9, payload=b"x", data=b"y")
        await self.queue.submit(Group(id="a.b", digest="d", spec=b"{}", need=1, parts=[part]))
        for lines in (1, 2, 3):
            workspace = self.folders.enlist()
            (job,) = (await self.queue.reserve(workspace.worker, 1)).jobs
            folder = workspace.make_folder(job.id)
            (folder / "journal").write_text("{}\n" * lines)
            os.close(workspace._lock)  # as at kill -9
            await self.janitor._reclaim_dead()
        record = await self.queue.job(job.id)
        assert record is not None
        self.assertEqual((record.state, record.lost, record.tries), ("todo", 0, 3))
