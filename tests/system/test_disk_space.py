"""A disk that fills up: marks, and what becomes of batches, on a small tmpfs."""

import errno
import os
import subprocess
import tempfile
import urllib.error
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.daemon import Daemon
from tests.support.daemon_case import DaemonTestCase, until
from twisted_bulk.errors import DiskFull
from twisted_bulk.system.disk_space import DiskSpace

MiB = 1 << 20


class SpaceTests(SynchronousTestCase):
    """Marks."""

    def setUp(self) -> None:
        self.used = self.asked = 0
        self.patch(os, "statvfs", self.statvfs)
        self.clock = Clock()
        self.space = DiskSpace(Path("."), self.clock, 80, 85, 95)
        self.heard: list[bool] = []
        self.space.listen(lambda: self.heard.append(True))
        self.space.startService()
        self.addCleanup(self.space.stopService)

    def statvfs(self, folder: Any) -> Any:
        self.asked += 1
        return SimpleNamespace(
            f_blocks=1200, f_bfree=1200 - self.used, f_bavail=1000 - self.used, f_frsize=100
        )

    def states(self, *shares: int) -> list[tuple[bool, bool]]:
        found = []
        for share in shares:
            self.used = share * 10
            self.clock.advance(1)
            found.append((self.space.is_tight, self.space.is_full))
        return found

    def test_marks(self) -> None:
        """Each mark holds until the use is below the third."""
        no, tight, full = (False, False), (True, False), (True, True)
        self.assertEqual(
            self.states(84, 85, 81, 79, 84, 94, 95, 90, 80, 79),
            [no, tight, tight, no, no, tight, full, full, full, no],
        )
        self.assertEqual(self.heard, [True])

    def test_check(self) -> None:
        """Batches are refused from the soft mark on."""
        self.states(84)
        self.space.check()
        self.states(86)
        self.assertRaises(DiskFull, self.space.check)

    def test_claim(self) -> None:
        """What would go beyond the hard mark is not written."""
        self.states(50)
        self.space.claim(44_900)
        self.assertFalse(self.space.is_full)
        with self.assertRaises(OSError) as caught:
            self.space.claim(45_100)
        self.assertTrue(self.space.refused(caught.exception))
        self.assertTrue(self.space.is_full)
        self.assertEqual(self.states(79), [(False, False)])
        self.assertFalse(self.space.refused(OSError(errno.EIO, "")))

    def test_claims_are_counted(self) -> None:
        """The system is asked again after a sixteenth of the room, and each second."""
        self.states(50)  # 45,000 to the hard mark
        asked = self.asked
        for _ in range(28):
            self.space.claim(100)
        self.assertEqual(self.asked, asked)
        self.used = 949  # somebody else's
        self.space.claim(12)
        self.assertEqual(self.asked, asked)
        with self.assertRaises(OSError):
            self.space.claim(100)
        self.assertEqual(self.asked, asked + 1)
        self.states(94)  # 1,000 are left
        self.space.claim(62)
        self.assertEqual(self.asked, asked + 2)
        for _ in range(2):  # each leaves less than it wants
            self.space.claim(63)
        self.assertEqual(self.asked, asked + 4)
        with self.assertRaises(OSError):
            self.space.claim(1000)


class TmpfsTests(DaemonTestCase):
    """A real file system of 64 MB, where this machine lets us make one."""

    def mount(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="bw"))
        words = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
        if subprocess.run(words, capture_output=True).returncode:
            raise SkipTest("no file system can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", str(folder)], check=True)
        return folder

    def refused(self, daemon: Daemon) -> str:
        """The status of a POST that is not taken, and when to come again."""
        try:
            self.source.files["/tiny"] = b"x"
            daemon.post({"download": [f"{self.source.url}/tiny"]})
        except urllib.error.HTTPError as error:
            return f"{error.code} {error.headers['Retry-After']}"
        return ""

    def test_fills_up(self) -> None:
        """Batches that do not fit wait; none is lost, no zip is broken, all end as space comes."""
        folder = self.mount()
        daemon = Daemon(folder, "--rate=0", "--compress=store")
        self.addCleanup(daemon.__exit__)
        for n in range(8):
            self.source.files[f"/big{n}"] = os.urandom(MiB)
        self.source.gate.clear()
        names = [f"b{n}" for n in range(200)]  # 200 MB
        for n, name in enumerate(names):
            daemon.post({"task_id": name, "download": [f"{self.source.url}/big{n % 8}"]})
        self.source.gate.set()
        until(lambda: self.refused(daemon) == "507 60")
        ended: set[str] = set()

        def take() -> bool:
            """Fetch what is done, and delete it, as a user would who makes room."""
            for name in names:
                shown = daemon.call("GET", f"/v1/batches/{name}") if name not in ended else None
                if shown and shown["schedule"] == 100:
                    self.assertEqual(shown["status"], "done", shown)
                    self.assertEqual(len(self.fetch(shown["download"])), 2)
                    daemon.call("DELETE", f"/v1/batches/{name}")
                    ended.add(name)
            return len(ended) == len(names)

        until(take, 90)
        self.assertEqual(daemon.stop(), 0)

    def test_no_room_at_all(self) -> None:
        """Somebody else fills the disk; within ten seconds of its being free all goes on."""
        folder = self.mount()
        daemon = Daemon(folder, "--rate=0", "--compress=store")
        self.addCleanup(daemon.__exit__)
        self.source.files["/big0"] = os.urandom(8 * MiB)
        self.source.gate.clear()
        daemon.post({"task_id": "k", "download": [f"{self.source.url}/big0"]})
        until(lambda: len(self.source.asked) == 1)
        with open(folder / "other", "wb", buffering=0) as other:
            try:
                while other.write(bytes(MiB)):
                    pass
            except OSError as error:
                self.assertEqual(error.errno, errno.ENOSPC)
        self.source.gate.set()
        until(lambda: self.refused(daemon) == "507 60")
        (folder / "other").unlink()
        shown = self.done_within(daemon, 10)
        self.assertEqual((shown["status"], len(self.fetch(shown["download"]))), ("done", 2))

    def test_larger_than_the_disk(self) -> None:
        """What can never fit uses its attempts up, and does not come again and again."""
        daemon = Daemon(self.mount(), "--rate=0", "--compress=store")
        self.addCleanup(daemon.__exit__)
        self.source.files["/big"] = bytes(80 * MiB)
        daemon.post({"task_id": "k", "download": [f"{self.source.url}/big"]})
        # What is given back goes on with the attempt that it had.
        until(lambda: "k@" in (log := daemon.log.read_text()) and "attempt 2" in log, 20)

    def done_within(self, daemon: Daemon, seconds: float) -> Any:
        def answer() -> Any:
            try:
                return daemon.call("GET", "/v1/batches/k")
            except urllib.error.HTTPError:
                return {"schedule": 0}

        until(lambda: answer()["schedule"] == 100, seconds)
        return answer()
