"""The odd responses of the tables, sent to curl and wget, too: who takes what.

``python -m tests.sources.test_clients`` prints it.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.internet.defer import DeferredSemaphore, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from tests.sources.responses import TABLES
from tests.sources.rows import Row
from tests.support.origin_server import Site

PROGRAMS = {
    "curl": ("curl", "-sS", "--max-time", "2", "-o"),
    "wget": ("wget", "-q", "--tries=1", "--timeout=2", "-O"),
}
ROWS = [(table, row) for table, rows in TABLES.items() for row in rows]
HEAD = f"{'':45} {'curl':5} {'wget':5} bulkwav"


def takes(program: str, url: str, folder: Path) -> bool:
    """Whether a program downloads a file and says that all is well. Blocks."""
    target = folder / f"{program}{url.rsplit('/', 2)[1]}"
    done = subprocess.run(
        [*PROGRAMS[program], str(target), url],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )  # fmt: skip
    return done.returncode == 0 and target.exists()


class OtherProgramTests(TestCase):
    """Nothing that both take is refused without a reason that the page gives."""

    timeout = 120

    async def test_who_takes_what(self) -> None:
        """Prints a line for each row, if this module runs by itself."""
        if not all(map(shutil.which, PROGRAMS)):
            raise SkipTest("needs curl and wget")
        folder = Path(tempfile.mkdtemp(prefix="bw"))
        site = Site(self)
        for number, (_, row) in enumerate(ROWS):
            site.answers[f"/{number}{row.path}"] = row.said
        turns = DeferredSemaphore(8)
        asked = [
            turns.run(deferToThread, takes, program, f"{site.url}/{number}{row.path}", folder)
            for number, (_, row) in enumerate(ROWS)
            for program in PROGRAMS
        ]
        took = await gatherResults(asked)
        lines, wrong = [HEAD], []
        for number, (_, row) in enumerate(ROWS):
            curl, wget = took[2 * number : 2 * number + 2]
            lines.append(line(row, curl, wget))
            if curl and wget and row.code and not row.why:
                wrong.append(row.what)
        if sys.argv[-1] == __name__:
            print("\n" + "\n".join(lines))
        self.assertEqual(wrong, [])
        self.assertGreater(sum(took), len(ROWS))  # they were really asked


def line(row: Row, curl: bool, wget: bool) -> str:
    """For people."""
    words = [("takes" if one else "-") for one in (curl, wget)]
    return f"{row.what[:45]:45} {words[0]:5} {words[1]:5} {row.result}"


if __name__ == "__main__":
    sys.exit(subprocess.call([sys.executable, "-m", "twisted.trial", "tests.sources.test_clients"]))
