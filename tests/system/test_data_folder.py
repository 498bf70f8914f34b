"""What the data folder says of itself, and two versions beside each other."""

import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.support.daemon import ROOT, Daemon, command, environment
from tests.support.daemon_case import DaemonTestCase, until
from tests.support.redis_servers import RedisServer
from twisted_bulk.batch.model import Member, pack_members, unpack_members
from twisted_bulk.errors import ConfigError
from twisted_bulk.system.data_folder import FORMATS, check_formats

OLD = ROOT / "tests" / "old" / "ecffb8f.tar.xz"


class DataFormatTests(SynchronousTestCase):
    """Numbers in the data folder."""

    def setUp(self) -> None:
        self.data = Path(tempfile.mkdtemp(prefix="bw"))
        self.path = self.data / "formats.json"

    def test_written(self) -> None:
        """Each has its number; a folder without them is one of before they were written."""
        check_formats(self.data)
        self.assertEqual(json.loads(self.path.read_text()), FORMATS)
        self.path.write_text('{"queue": 0}')
        check_formats(self.data)
        self.assertEqual(json.loads(self.path.read_text()), FORMATS)

    def test_newer(self) -> None:
        """A newer one, an unknown one and nonsense are refused, and stay as they are.

        Fails on ecffb8f: nothing is looked at.
        """
        for text, said in (
            ('{"queue": 2}', "queue 2, this one knows 1"),
            ('{"spool": 7, "queue": 1}', "spool 7"),
            ('{"catalogue": 1}', "catalogue 1, this one knows 0"),
            ("[]", "cannot be read"),
            ('{"queue"', "cannot be read"),
        ):
            self.path.write_text(text)
            self.assertIn(said, str(self.assertRaises(ConfigError, check_formats, self.data)))
            self.assertEqual(self.path.read_text(), text)

    def test_start(self) -> None:
        """The daemon says it in one line and does not start."""
        self.path.write_text('{"queue": 2}')
        done = subprocess.run(
            command(f"--data={self.data}"), capture_output=True, env=environment(), timeout=30
        )
        self.assertEqual(done.returncode, 1)
        (line,) = done.stderr.decode().splitlines()
        self.assertRegex(line, r"^bulkwav: data: .+ was written by a newer bulkwav \(queue 2")
        self.assertFalse((self.data / "redis" / "server.log").exists())

    def test_unknown_fields(self) -> None:
        """Members that a newer program has queued are read without what is unknown here.

        Fails on ecffb8f: ValidationError, and the part fails.
        """

        class Newer(Member, frozen=True, kw_only=True):
            """As it may be one day."""

            mirror: str

        packed = pack_members([[Newer("http://h/", "n", mirror="m")]], 1)
        self.assertEqual(unpack_members(packed), [Member("http://h/", "n")])
        self.assertIn(b"mirror", msgspec.json.encode(Newer("http://h/", mirror="m")))


class OldDaemon(Daemon):
    """The version of commit ecffb8f, from a folder with its package."""

    def __init__(self, tree: Path, data: Path, *options: str) -> None:
        self.tree = tree
        super().__init__(data, *options)

    def environment(self) -> dict[str, str]:
        return environment() | {"PYTHONPATH": str(self.tree)}


class TwoVersionsTests(DaemonTestCase):
    """This version and an old one, on one Redis and one data folder."""

    def old_tree(self) -> Path:
        """The old version's package: ``git archive ecffb8f twisted_bulk twisted``, kept here so
        that the test needs no history."""
        tree = Path(tempfile.mkdtemp(prefix="bwold"))
        with tarfile.open(OLD) as archive:
            archive.extractall(tree, filter="data")
        return tree

    def test_taken_over(self) -> None:
        """A folder of the old version, with a batch half done: this version finishes the batch.

        Members that the old version has fetched are not fetched again; links of the old version
        lead on.
        """
        tree = self.old_tree()
        for end in (Daemon.stop, Daemon.kill):
            data = Path(tempfile.mkdtemp(prefix="bw"))
            urls = self.urls()
            options = ("--rate=0", "--drain=0", "--retries=1")
            with OldDaemon(tree, data, *options) as old:
                self.assertIn(str(tree), Path(f"/proc/{old.process.pid}/environ").read_text())
                old.post({"task_id": "whole", "download": urls})
                link = old.wait("whole")["download"]
                self.source.held = {urls[2].removeprefix(self.source.url)}
                self.source.gate.clear()
                old.post({"task_id": "half", "download": urls, "url": f"{self.source.url}/n"})
                until(lambda: old.call("GET", "/v1/batches/half")["done"] == 2)
                end(old)
            self.source.gate.set()
            self.source.held.clear()
            asked = len(self.source.asked)
            new = self.daemon_on(data, *options)
            shown = new.wait("half", 60)
            self.assertEqual((shown["status"], shown["done"]), ("done", 3))
            self.assertEqual(len(self.fetch(shown["download"])), 4)
            self.assertEqual(self.source.asked[asked:], [urls[2].removeprefix(self.source.url)])
            self.assertEqual(new.call("GET", "/v1/batches/whole")["status"], "done")
            _, folder, file = link.rsplit("/", 2)
            self.fetch(f"http://127.0.0.1:{new.files}/{folder}/{file}")
            until(
                lambda: any(
                    b["task_id"] == "half" and b["download"] for _, b in self.source.callbacks
                )
            )
            self.source.callbacks.clear()
            new.stop()

    def daemon_on(self, data: Path, *options: str) -> Daemon:
        """This version, on a folder that is there."""
        daemon = Daemon(data, *options)
        self.addCleanup(daemon.__exit__)
        return daemon

    def test_side_by_side(self) -> None:
        """Either takes what the other has queued; what one lost the other goes on with."""
        tree, server = self.old_tree(), RedisServer()
        self.addCleanup(server.close)
        options = (f"--redis={server.url}", "--rate=0", "--retries=1")
        new = self.daemon(*options, "--roles=intake,files")
        words = command(
            f"--data={new.data}", "--roles=worker", "--allow-net=127.0.0.0/8",
            f"--public-url=http://127.0.0.1:{new.files}", *options,
        )  # fmt: skip
        with open(new.data / "old.log", "wb") as log:
            worker = subprocess.Popen(
                words,
                env=environment() | {"PYTHONPATH": str(tree)},
                stdout=log,
                stderr=log,
                cwd=tree,
            )
        self.addCleanup(worker.wait)
        self.addCleanup(worker.kill)
        new.post({"task_id": "a", "download": self.urls(), "url": f"{self.source.url}/n"})
        self.complete(new, "a", 3)
        until(lambda: any(body["schedule"] == "100" for _, body in self.source.callbacks))
        # The old one dies with a batch, and the new one ends it.
        self.source.gate.clear()
        asked = len(self.source.asked)
        new.post({"task_id": "b", "download": self.urls()})
        until(lambda: len(self.source.asked) > asked)
        worker.kill()
        worker.wait()
        self.source.gate.set()
        new.stop()
        new.options = (*new.options[:-1], "--roles=intake,worker,files")
        new.start()
        shown = new.wait("b", 60)
        self.assertEqual((shown["status"], shown["done"]), ("done", 3))
