"""What the README says, held against the code."""

import importlib
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.daemon import ROOT, environment
from tests.support.daemon_case import DaemonTestCase, until
from twisted_bulk.batch.masks import SECRET_PARTS, SECRET_WORDS
from twisted_bulk.node.settings import KEYS


def option_rows() -> list[str]:
    """The README's table of options as it should be."""
    rows = []
    for name, key in KEYS.items():
        option = f"--{name.replace('_', '-')} {key.metadata['metavar']}".rstrip()
        about = re.sub(r" \[(.+)\]$", r" (default: \1)", key.metadata["help"])
        default = f"`{key.metadata['default']}`" if key.metadata["default"] else ""
        rows.append(f"| `{option}` | {default} | {about} |")
    return rows


class ReadmeTests(SynchronousTestCase):
    """The table of options, and the two commands."""

    def test_options(self) -> None:
        """Every option, with its default."""
        text = (ROOT / "README.md").read_text()
        shown = [line for line in text.splitlines() if line.startswith("| `--")]
        self.assertEqual(shown, option_rows())

    def test_two_blocks(self) -> None:
        """The first two ``sh`` blocks run the server and the tests."""
        blocks = re.findall(r"```sh\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        self.assertEqual(len(blocks), 2)
        self.assertIn("twistd -n bulkwav", blocks[0])
        self.assertIn("trial -j3 tests", blocks[1])

    def run_code(self, folder: str, *words: str) -> str:
        """The output of a program that ends well."""
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, env=environment(), capture_output=True,
            text=True, timeout=60,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_queue_examples(self) -> None:
        """The examples of docs/queue.md, as they stand, in an empty folder."""
        text = (ROOT / "docs/queue.md").read_text()
        functions, push, whole = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
        (words,) = re.findall(r"^    bulkwav (worker .+)$", text, re.MULTILINE)
        run = "from twisted_bulk.commands.main import run; run()"
        # A folder with a short name: the server's socket lies in it.
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "jobs.py").write_text(functions)
            worker = subprocess.Popen(
                [sys.executable, "-c", run, *words.split()], cwd=folder, env=environment(),
                stderr=subprocess.PIPE,
            )  # fmt: skip
            try:
                until(lambda: (Path(folder) / "queue-data" / "redis.sock").exists())
                self.assertEqual(self.run_code(folder, "-c", push), "hello world! hello world! \n")
            finally:
                worker.send_signal(signal.SIGINT)
                worker.communicate(timeout=20)
            self.assertEqual(worker.returncode, 0)
            self.assertEqual(self.run_code(folder, "-c", whole), "hello world! hello world! \n")


class ClientPageTests(DaemonTestCase):
    """docs/client.md."""

    def test_examples(self) -> None:
        """Both clients, as they stand; the receiver of callbacks is right Python."""
        text = (ROOT / "docs/client.md").read_text()
        *clients, receiver = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
        daemon = self.daemon("--rate=0")
        for code in clients:
            folder = str(Path(self.mktemp()).absolute())
            done = subprocess.run(
                [sys.executable, "-c", code, daemon.api, folder, *self.urls(2)],
                env=environment(), capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("100", done.stdout)
            self.assertEqual(len(list(Path(folder).glob("*.zip"))), 1)
        compile(receiver, "receiver", "exec")


class LimitsTests(SynchronousTestCase):
    """docs/limits.md."""

    def test_secret_keys(self) -> None:
        """The keys whose values are masked are those that the page names."""
        text = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
        shown = re.findall(r"^> (.+\n> .+)$", text, re.MULTILINE)
        words, names = (set(re.findall("`([^`]+)`", each)) for each in shown)
        self.assertEqual((words, names), (set(SECRET_PARTS), set(SECRET_WORDS)))

    def test_numbers(self) -> None:
        """Every number is the code's, or the setting's default."""
        text = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| [^|]+ \| (\S+) \| `(\S+)` \|$", text, re.MULTILINE)
        self.assertGreater(len(rows), 30)
        for number, where in rows:
            if where.startswith("--"):
                self.assertEqual(number, KEYS[where[2:].replace("-", "_")].metadata["default"])
                continue
            module, _, name = where.rpartition(".")
            value = getattr(importlib.import_module(f"twisted_bulk.{module}"), name)
            self.assertEqual(float(number.replace(",", "")), value, where)
