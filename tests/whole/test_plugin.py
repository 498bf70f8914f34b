"""``twistd`` finds us, and packaging leaves Twisted alone."""

import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import files
from pathlib import Path

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from tests.support.daemon import ROOT, environment
from twisted_bulk.node.options import Options


class PluginTests(SynchronousTestCase):
    """The plugin and the wheel."""

    def test_listed_once(self) -> None:
        """One plugin is called bulkwav, and it is ours."""
        found = [p for p in getPlugins(IServiceMaker) if p.tapname == "bulkwav"]
        self.assertEqual([p.options for p in found], [Options])

    def test_uninstalled(self) -> None:
        """From a checkout on PYTHONPATH, ``twistd --help`` lists it."""
        run = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "--help"]
        done = subprocess.run(run, capture_output=True, text=True, env=environment(), cwd="/")
        self.assertRegex(done.stdout, r"(?m)^    bulkwav ")

    def test_pid_file(self) -> None:
        """In the foreground none is written, and one that a power cut has left is no obstacle."""
        for given, stale, left in (
            ((), b"", b""), ((), b"1\n", b"1\n"), (("--pidfile", "own.pid"), b"", b""),
        ):  # fmt: skip
            folder = Path(tempfile.mkdtemp(prefix="bw"))
            (folder / "twistd.pid").write_bytes(stale)
            run = "from twisted.scripts.twistd import run; run()"
            words = [sys.executable, "-c", run, *given, "-n", "bulkwav", "--broker=memory:"]
            words += [f"--data={folder / 'data'}", "--intake=tcp:0", "--files=tcp:0"]
            with subprocess.Popen(
                words, cwd=folder, env=environment(),
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            ) as daemon:  # fmt: skip
                assert daemon.stdout is not None
                said = b""
                while b"starting on" not in said and (line := daemon.stdout.readline()):
                    said += line
                own = (folder / "own.pid").exists()
                daemon.terminate()
                said += daemon.stdout.read()
            self.assertEqual(daemon.returncode, -signal.SIGTERM, said)
            self.assertEqual((own, (folder / "twistd.pid").read_bytes()), (bool(given), left))

    def test_no_package_marker(self) -> None:
        """An ``__init__.py`` in these folders would replace all of Twisted."""
        self.assertFalse((ROOT / "twisted/__init__.py").exists())
        self.assertFalse((ROOT / "twisted/plugins/__init__.py").exists())

    def test_wheel(self) -> None:
        """The wheel has the plugin and the scripts, and no file that is Twisted's."""
        copy = Path(self.mktemp())
        kept = shutil.ignore_patterns(
            ".git", ".venv", "build", "*.egg-info", "_trial_temp*", "bulkwav-data"
        )
        shutil.copytree(ROOT, copy, ignore=kept)
        out = Path(self.mktemp())
        build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
        out.mkdir()
        subprocess.run(
            [sys.executable, "-c", build, str(out.absolute())],
            cwd=copy,
            check=True,
            capture_output=True,
        )
        (wheel,) = out.iterdir()
        names = set(zipfile.ZipFile(wheel).namelist())
        for name in (
            "twisted/plugins/bulkwav.py",
            "twisted_bulk/jobs/lua/shared/keys.lua",
            "twisted_bulk/py.typed",
        ):
            self.assertIn(name, names)
        owned = {str(path) for path in files("Twisted") or ()}
        self.assertIn("twisted/__init__.py", owned)
        self.assertEqual(names & owned, set())
        self.assertEqual(
            [n for n in names if n.startswith(("tests", "bench")) or "dropin" in n], []
        )
