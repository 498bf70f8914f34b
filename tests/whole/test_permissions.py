"""Who may look into the data folder."""

import grp
import os
import stat
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.daemon import Daemon, command, environment
from tests.support.daemon_case import DaemonTestCase
from twisted_bulk.system.data_folder import tighten


class OpenDaemon(Daemon):
    """Started where new files are everybody's to read."""

    def command(self) -> list[str]:
        return ["sh", "-c", 'umask 022; exec "$0" "$@"', *super().command()]


def modes(folder: Path) -> dict[str, int]:
    """The permissions of all that is in a folder, but for sockets."""
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode)
        for path in [folder, *folder.rglob("*")]
        if not path.is_socket() and path.exists()
    }


class FolderTests(DaemonTestCase):
    """Of a real daemon."""

    def use(self, *options: str) -> Daemon:
        """One with an old folder, which has made a zip."""
        data = Path(tempfile.mkdtemp(prefix="bw"))
        data.chmod(0o755)
        for folder in ("public/old", "spool"):
            (data / folder).mkdir(parents=True, mode=0o755)
        (data / "public/old/file").touch(0o644)
        daemon = OpenDaemon(data, *options)
        self.addCleanup(daemon.__exit__)
        batch = daemon.post({"download": self.urls()})
        self.assertEqual(daemon.wait(batch["task_id"])["status"], "done")
        return daemon

    def test_private(self) -> None:
        """Nothing in it is anybody else's, whatever it was and whatever the umask is."""
        daemon = self.use("--workers=1")
        found = modes(daemon.data)
        found.pop("twistd.log")  # the test's own
        self.assertGreater(len(found), 15)
        self.assertEqual({name: mode for name, mode in found.items() if mode & 0o077}, {})
        self.assertEqual(daemon.log.read_text().count("was open to others"), 1)

    def test_group(self) -> None:
        """One group may read what is published, and nothing else."""
        group = grp.getgrgid(os.getgid()).gr_name
        daemon = self.use(f"--public-group={group}")
        found = modes(daemon.data)
        found.pop("twistd.log")
        for name, mode in found.items():
            path = daemon.data / name
            expected = 0o750 if path.is_dir() else 0o640
            if name == ".":
                expected = 0o710
            elif not name.startswith("public"):
                expected = 0o700 if path.is_dir() else mode & 0o700
            self.assertEqual(oct(mode), oct(expected), name)


class TightenTests(SynchronousTestCase):
    """The folder alone."""

    def test_once(self) -> None:
        """What is right is not gone through again."""
        data = Path(tempfile.mkdtemp(prefix="bw"))
        tighten(data, None)
        (data / "later").touch(0o644)
        tighten(data, None)
        self.assertEqual(modes(data)["later"], 0o644)

    def test_links(self) -> None:
        """What a link leads to is not ours."""
        other = Path(tempfile.mkdtemp(prefix="bw")) / "other"
        other.touch(0o644)
        data = Path(tempfile.mkdtemp(prefix="bw"))
        data.chmod(0o755)
        (data / "link").symlink_to(other)
        tighten(data, None)
        self.assertEqual(stat.S_IMODE(other.stat().st_mode), 0o644)

    def test_no_group(self) -> None:
        """A group that there is not is a mistake."""
        words = [*command("--public-group=no-such"), f"--data={self.mktemp()}"]
        done = subprocess.run(words, capture_output=True, env=environment(), timeout=60)
        self.assertIn(b"public_group on the command line", done.stderr)
