"""Fail-overs under load: the master killed again and again while batches go through.

    python -m tests.chaos.failover [--times 10] [--min-replicas 1]

Prints for each how long Sentinel took, and how long until a batch that was accepted after it had
ended; then what became of every batch that was accepted.
"""

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time
import urllib.error
from pathlib import Path

from tests.chaos.storm import MEMBERS, StormSource
from tests.support.daemon import Daemon
from tests.support.sentinels import SentinelSet


class FailOver:
    """One daemon on a Sentinel set, and a client that posts batches all the time."""

    def __init__(self, min_replicas: int) -> None:
        self.servers = SentinelSet(min_replicas)
        self.source = StormSource(random.Random(1), 0.2)
        self.data = Path(tempfile.mkdtemp(prefix="bwsentinel"))
        self.daemon = Daemon(self.data, f"--redis={self.servers.url}", "--rate=0")
        self.accepted: list[str] = []
        self.longest = 0.0
        self._posting = True

    def post(self) -> None:
        """Post batches until told to stop; one that is not accepted is sent again."""
        number = 0
        while self._posting:
            name = f"f{number}"
            urls = [f"{self.source.url}/{name}/{n}.wav" for n in range(MEMBERS)]
            try:
                self.daemon.post({"task_id": name, "download": urls})
            except OSError:  # 503 is one
                time.sleep(0.1)
                continue
            self.accepted.append(name)
            number += 1
            time.sleep(0.02)

    def settled(self, name: str, seconds: float) -> bool:
        """Whether a batch ends in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if self.daemon.call("GET", f"/v1/batches/{name}")["schedule"] == 100:
                    return True
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    return False
            except OSError:
                pass
            time.sleep(0.1)
        return False

    def run(self, times: int) -> None:
        """So many fail-overs, and the time that each costs."""
        sender = threading.Thread(target=self.post, daemon=True)
        sender.start()
        for n in range(times):
            time.sleep(1)
            began = time.monotonic()
            took = self.servers.fail_over()
            count = len(self.accepted)
            while len(self.accepted) <= count and time.monotonic() - began < 90:
                time.sleep(0.05)
            self.settled(self.accepted[-1], 90)
            stuck = time.monotonic() - began
            self.longest = max(self.longest, stuck)
            print(
                f"{n + 1}: {took:.1f} s to a new master, {stuck:.1f} s to a batch done", flush=True
            )
            self.servers.settle()
        self._posting = False
        sender.join()

    def lost(self) -> list[str]:
        """Batches that were accepted and have not ended, or are not known any more."""
        return [name for name in self.accepted if not self.settled(name, 45)]

    def close(self) -> None:
        """End everything."""
        self.daemon.stop()
        self.servers.close()
        self.source.close()
        shutil.rmtree(self.data, ignore_errors=True)


def main() -> None:
    """Run, and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--min-replicas", type=int, default=1)
    given = parser.parse_args()
    test = FailOver(given.min_replicas)
    try:
        test.run(given.times)
        lost = test.lost()
        print(f"{len(test.accepted)} batches accepted, {len(lost)} lost: {lost[:10]}")
        print(f"nothing was stuck for more than {test.longest:.1f} s")
    finally:
        test.close()
    sys.exit(bool(lost) or test.longest > 30)


if __name__ == "__main__":
    main()
