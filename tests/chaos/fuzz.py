"""Requests that schemathesis makes of our own ``/openapi.json``, against a daemon.

    python -m tests.chaos.fuzz [--examples 500]

No answer may be a 5xx, or other than the document says. Needs ``pip install -e '.[dev]'``.

Two runs, as one call changes what all others are answered: ``PATCH /v1/queue`` may forbid more
batches, which is a 503. Left out are the checks that a schema-valid body is taken (what is a URL
says no schema), that a path has no other methods, and that what was deleted is gone (DELETE
cancels first); and streams of events, which do not end.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.daemon import Daemon

LEFT_OUT = "positive_data_acceptance,unsupported_method,use_after_free"
QUEUE = "/v1/queue"


def fuzz(daemon: Daemon, examples: int, seed: int, *options: str) -> tuple[int, str]:
    """One run: cases, and what was wrong or nothing."""
    ran = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{daemon.api}/openapi.json",
         "--max-examples", str(examples), "--seed", str(seed), "--exclude-checks", LEFT_OUT,
         "--continue-on-failure", "--request-timeout", "10", "--workers", "2", *options],
        capture_output=True, text=True, cwd=daemon.data,
    )  # fmt: skip
    cases = re.search(r"(\d+) generated", ran.stdout)
    wrong = "" if ran.returncode == 0 and cases else ran.stdout[-8000:] + ran.stderr[-2000:]
    return int(cases[1]) if cases else 0, wrong


def run(examples: int, seed: int) -> tuple[str, list[str]]:
    """Both runs; what it came to, and what was wrong."""
    folder = Path(tempfile.mkdtemp(prefix="bw")) / "d"
    with Daemon(folder, "--roles=intake,files", "--request-rate=0") as daemon:
        cases, wrong = fuzz(daemon, examples, seed, "--exclude-path-regex", f"{QUEUE}|/events$")
        more, second = fuzz(daemon, examples, seed, "--include-path", QUEUE)
        text = daemon.log.read_text()
    found = [wrong, second, "a traceback in the log" if '"traceback"' in text else ""]
    statuses = sorted(set(re.findall(r'"status":(\d+)', text)))
    said = f"{cases} + {more} cases, answered with {', '.join(statuses)}"
    return said, [one for one in found if one]


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    said, wrong = run(given.examples, given.seed)
    print(said, *wrong, sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
