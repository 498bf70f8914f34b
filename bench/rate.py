"""The rate of one address, by real clients: one connection, sixteen, and aria2 with sixteen.

    python -m bench.rate [--seconds 20] [--rate 200000]

Counts what arrives at the clients, from the second second on. Needs curl and aria2c.
"""

import argparse
import hashlib
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from tests.daemon import Daemon
from tests.servers import need
from twisted_bulk.shelf import Shelf

WARM_UP = 1.0


class Receivers:
    """Connections that read as fast as they can, counting."""

    def __init__(self, link: str, count: int) -> None:
        self.counts = [0] * count
        self._stop = threading.Event()
        for number in range(count):
            threading.Thread(target=self._read, args=(link, number), daemon=True).start()

    def _read(self, link: str, number: int) -> None:
        with urllib.request.urlopen(link) as answer:
            while not self._stop.is_set():
                self.counts[number] += len(answer.read1(65536))

    def measure(self, seconds: float) -> tuple[float, float]:
        """Bytes a second in all, and Jain's index of fairness."""
        time.sleep(WARM_UP)
        before, began = list(self.counts), time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began
        shares = [now - then for now, then in zip(self.counts, before, strict=True)]
        self._stop.set()
        jain = sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))
        return sum(shares) / took, jain


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
        workspace = Shelf(folder / "data").enlist()
        place = workspace.make_folder("b@0/1")
        body = bytes(size)
        (place / "b.zip").write_bytes(body)
        note = f"{hashlib.sha256(body).hexdigest()}  b.zip\n".encode()
        path = workspace.publish(place, "b", {"b.zip.sha256": note}) + "/b.zip"
        link = f"http://127.0.0.1:{daemon.files}/{path}"
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
        for count in (1, 16):
            rate, jain = Receivers(link, count).measure(options.seconds)
            error = 100 * (rate / options.rate - 1)
            print(
                f"{count:2} sockets    {rate:10.0f} B/s {error:+7.2f} %  Jain {jain:.4f}",
                flush=True,
            )
            time.sleep(2)
        workspace.close()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
