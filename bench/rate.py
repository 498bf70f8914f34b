"""The rate of one address, by real clients: one connection, sixteen, and aria2 with sixteen.

    python -m bench.rate [--seconds 20] [--rate 200000]

Counts what arrives at the clients, from the second second on. Needs curl and aria2c. With raw
sockets, beside nginx: ``bench.files``.
"""

import argparse
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.published_zip import publish
from tests.support.redis_servers import need
from twisted_bulk.storage.folders import DataFolders

WARM_UP = 1.0


def received(pids: list[int]) -> int:
    """Bytes that processes have passed on so far; reads from sockets are not counted there."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("wchar:"):
                total += int(line.split()[1])
    return total


def clients(commands: list[list[str]], seconds: float) -> float:
    """Bytes a second that commands receive together."""
    running = [
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for words in commands
    ]
    pids = [process.pid for process in running]
    time.sleep(WARM_UP)
    before, began = received(pids), time.monotonic()
    time.sleep(seconds)
    rate = (received(pids) - before) / (time.monotonic() - began)
    for process in running:
        process.kill()
        process.wait()
    return rate


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=int, default=200_000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench"))
    size = int(options.rate * (options.seconds + 10) * 3)
    with Daemon(folder / "data", f"--rate={options.rate}") as daemon:
        link = f"http://127.0.0.1:{daemon.files}/{publish(DataFolders(daemon.data), size)}"
        out = str(folder / "out")
        curl = [need("curl"), "-s", "-o", "/dev/null", link]
        aria = [need("aria2c"), "-x16", "-s16", "-k1M", "-q", "--disk-cache=0"]
        aria += ["--file-allocation=none", "-d", out, "-o", "b.zip", link]
        for name, commands in (
            ("curl", [curl]),
            ("aria2c -x16", [aria]),
            ("16 curls", [curl] * 16),
        ):
            rate = clients(commands, options.seconds)
            print(
                f"{name:14}{rate:10.0f} B/s {100 * (rate / options.rate - 1):+7.2f} %", flush=True
            )
            time.sleep(2)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
