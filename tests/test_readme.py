"""What the README says, held against the code."""

import re

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon import ROOT
from twisted_bulk.config import KEYS


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
        self.assertIn("trial tests", blocks[1])
