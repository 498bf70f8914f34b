"""What the README says, held against the code."""

import importlib
import re
import subprocess
import sys
import tempfile

from twisted.trial.unittest import SynchronousTestCase

from tests.support.daemon import ROOT, environment
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

    def test_queue_example(self) -> None:
        """The example of docs/queue.md, as it stands, in an empty folder."""
        text = (ROOT / "docs/queue.md").read_text()
        (code,) = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
        # A folder with a short name: the server's socket lies in it.
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-c", code],
                cwd=folder,
                env=environment(),
                capture_output=True,
                text=True,
                timeout=60,
            )
        self.assertEqual((done.returncode, done.stdout), (0, "hello world! hello world! \n"))


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
