"""Downloads broken off again and again, by three clients, from a server that is killed meanwhile.

    python -m tests.chaos.downloads [--each 100] [--restarts 10]

curl and wget are killed, aria2c (sixteen connections) is interrupted, at random moments, and
started again until the file is whole; what they have then must be the file, byte by byte.
"""

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.published_zip import publish, sha256_of
from tests.support.redis_servers import need
from twisted_bulk.storage.folders import DataFolders

SIZE, RATE = 3_000_000, 4_000_000
AT_ONCE = 6
PATIENCE = 120.0  # seconds for one download with all its breaks


def command(kind: str, source: str, out: Path, link: str) -> list[str]:
    """The client, which goes on where it stopped."""
    if kind == "curl":
        return [need("curl"), "-s", "-S", "-C", "-", "--interface", source, "-o", str(out), link]
    if kind == "wget":
        return [need("wget"), "-q", "-c", "-t1", f"--bind-address={source}", "-O", str(out), link]
    words = [need("aria2c"), "-c", "-x16", "-s16", "-k1M", "--min-split-size=1M", "-q", "-m1"]
    words += [f"--interface={source}", "--file-allocation=none", "--auto-file-renaming=false"]
    return [*words, "-d", str(out.parent), "-o", out.name, link]


def fetch(kind: str, number: int, link: str, folder: Path) -> tuple[str, int]:
    """One download; returns the SHA-256 of what came, and how often it was broken off."""
    dice, out = random.Random(f"{kind}{number}"), folder / f"{kind}-{number}"
    source = f"127.0.{1 + number // 200}.{number % 200 + 1}"
    end, breaks = time.monotonic() + PATIENCE, 0
    while time.monotonic() < end:
        client = subprocess.Popen(
            command(kind, source, out, link), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            # The first few times for sure, then as it comes.
            if client.wait(dice.uniform(0.02, 0.4) if breaks < 4 else PATIENCE) == 0:
                break
            time.sleep(0.1)  # the server is away
        except subprocess.TimeoutExpired:
            client.send_signal(signal.SIGINT if kind == "aria2c" else signal.SIGKILL)
            client.wait()
            breaks += 1
    return sha256_of(out), breaks


def run(each: int, restarts: int) -> dict[str, tuple[int, int]]:
    """All downloads; returns for each client how many came right, and how many were the breaks."""
    folder = Path(tempfile.mkdtemp(prefix="bw"))
    body = random.Random(7).randbytes(SIZE)
    wanted = hashlib.sha256(body).hexdigest()
    stop = threading.Event()
    with Daemon(folder / "data", f"--rate={RATE}") as daemon:
        link = f"http://127.0.0.1:{daemon.files}/{publish(DataFolders(daemon.data), body)}"

        def restart() -> None:
            for _ in range(restarts):
                if stop.wait(1.0):
                    return
                daemon.process.kill()
                daemon.process.wait()
                daemon.start()

        restarting = threading.Thread(target=restart)
        restarting.start()
        found: dict[str, tuple[int, int]] = {}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for kind in ("curl", "wget", "aria2c"):
                going = [pool.submit(fetch, kind, n, link, folder) for n in range(each)]
                ended = [one.result() for one in going]
                right = sum(sha256 == wanted for sha256, _ in ended)
                found[kind] = right, sum(breaks for _, breaks in ended)
        stop.set()
        restarting.join()
    shutil.rmtree(folder)
    return found


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--restarts", type=int, default=10)
    given = parser.parse_args()
    began = time.monotonic()
    found = run(given.each, given.restarts)
    print(f"{time.monotonic() - began:.0f} s")
    for kind, (right, breaks) in found.items():
        print(f"{kind}: {right} of {given.each} right, broken off {breaks} times")
    sys.exit(any(right < given.each for right, _ in found.values()))


if __name__ == "__main__":
    main()
