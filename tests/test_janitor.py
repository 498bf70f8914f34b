"""Housekeeping: one duty that fails does not stop the others, nor come back each second."""

import os
import tempfile
from pathlib import Path

from tests.brokers import OnMemory, Queues
from tests.reactor import reactor
from twisted_bulk.janitor import SWEEP, Janitor
from twisted_bulk.jobs import Group, GroupPart
from twisted_bulk.shelf import LEFT, Shelf


class JanitorTests(OnMemory, Queues):
    """A data folder, and queues in memory."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.shelf = Shelf(Path(tempfile.mkdtemp(prefix="bw")))
        self.janitor = Janitor(self.queue, [self.calls], self.shelf, reactor, 1000.0, {})

    def leave(self, job: str) -> Path:
        """Unfinished work, as a worker leaves it."""
        folder = self.shelf.public.parent / "spool" / LEFT / job
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
        folder = self.shelf.public / f"b-{'0' * 32}"
        folder.mkdir()
        (folder / "sub.zip").mkdir()  # cannot be unlinked
        (folder / "sub.zip" / "x").touch()
        os.utime(folder, (1, 1))
        gone = self.leave("other@1.1")
        for _ in range(SWEEP):
            await self.janitor._round()
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.assertFalse(gone.exists())
