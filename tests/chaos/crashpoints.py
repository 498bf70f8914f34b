"""A worker killed at every write, fsync and rename: after each the batch ends with one right zip.

    python -m tests.chaos.crashpoints [--every 1] [--full]

strace kills the worker's process as it enters its N-th call: first those of the thread that runs
the reactor, then those of the others, which write the archive. Then another worker goes on.
With ``--full`` nobody is killed: the call fails with ENOSPC, and the same worker goes on.
"""

import argparse
import io
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections import Counter
from pathlib import Path

from tests.chaos.storm import MEMBERS, StormSource, content
from tests.support.daemon import Daemon, command, environment
from tests.support.redis_servers import ask, need
from twisted_bulk.brokers.server_socket import socket_path

#: What archives are written with; write() is used for pipes as well, which never fill a disk.
WRITE = "pwritev2"
ON_FILES = (WRITE, "fsync", "rename", "ftruncate", "mkdir")
CALLS = ("write", WRITE, "writev", "fsync", "fdatasync", "rename", "renameat", "ftruncate")


class CrashPoints:
    """A daemon without workers, and one worker after the other beside it."""

    def __init__(self, full: bool = False) -> None:
        need("strace")
        self._full = full
        self.source = StormSource(random.Random(1), 0.01)
        self.data = Path(tempfile.mkdtemp(prefix="bwcrash"))
        self.daemon = Daemon(self.data, "--roles=intake,files", "--rate=0")
        self.points: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._batches = 0

    def worker(self) -> "subprocess.Popen[bytes]":
        """A worker process that is ready, and has all its threads."""
        words = command(f"--data={self.data}", "--roles=worker", "--allow-net=127.0.0.0/8")
        words += [f"--redis=unix://{socket_path(self.data / 'redis')}", "--drain=0"]
        words += [f"--public-url=http://127.0.0.1:{self.daemon.files}"]
        with open(self.data / "workers.log", "ab") as log:
            return subprocess.Popen(words, env=environment(), stdout=log, stderr=log)

    def submit(self) -> str:
        """A small batch."""
        self._batches += 1
        name = f"c{self._batches}"
        urls = [f"{self.source.url}/{name}/{n}.wav" for n in range(MEMBERS)]
        self.daemon.post({"task_id": name, "download": urls})
        return name

    def refuse(self, call: str, number: int) -> bool:
        """Let this call fail as on a full disk; False if there are not so many."""
        worker = self.worker()
        log = self.data / "strace"
        try:
            self.daemon.wait(self.submit())
            threads = [int(name) for name in os.listdir(f"/proc/{worker.pid}/task")]
            tracer = self.trace(threads, call, number, "error=ENOSPC", str(log))
            name = self.submit()
            self.verify(name, f"{call} {number}")
        finally:
            worker.terminate()
            worker.wait()
        tracer.wait()
        refused = "INJECTED" in log.read_text()
        self.points[f"{call} refused"] += refused
        return refused

    def point(self, call: str, number: int, reactor: bool) -> bool:
        """Kill at this call; False if there are not so many."""
        worker = self.worker()
        try:
            self.daemon.wait(self.submit())  # now the threads are there
            threads = [int(name) for name in os.listdir(f"/proc/{worker.pid}/task")]
            chosen = [t for t in threads if (t == worker.pid) == reactor]
            tracer = self.trace(chosen, call, number, "signal=KILL", os.devnull)
            name = self.submit()
            ended = False
            while worker.poll() is None and not ended:
                ended = self.daemon.call("GET", f"/v1/batches/{name}")["schedule"] == 100
                time.sleep(0.01)
            if ended:
                time.sleep(0.3)  # what comes after the end is a point too
            killed = worker.poll() is not None
        finally:
            worker.kill()
            worker.wait()
        tracer.wait()
        if killed:
            self.points[f"{call} of {'the reactor' if reactor else 'other threads'}"] += 1
            self.check(name, f"{call} {number}")
        return killed

    def trace(
        self, threads: list[int], call: str, number: int, what: str, log: str
    ) -> "subprocess.Popen[str]":
        """An strace that is attached."""
        words = ["strace", "-o", log, "-e", f"trace={call}"]
        words += ["-e", f"inject={call}:{what}:when={number}"]
        for thread in threads:
            words += ["-p", str(thread)]
        tracer = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        assert tracer.stderr is not None
        for _ in threads:
            line = tracer.stderr.readline()
            assert "attached" in line, line
        return tracer

    def check(self, name: str, where: str) -> None:
        """Another worker ends the batch well."""
        worker = self.worker()
        try:
            self.verify(name, where)
        finally:
            worker.terminate()
            worker.wait()

    def verify(self, name: str, where: str) -> None:
        """The batch ends, with a right zip."""
        try:
            shown = self.daemon.wait(name, 60)
            with urllib.request.urlopen(shown["download"], timeout=20) as answer:
                archive = zipfile.ZipFile(io.BytesIO(answer.read()))
            for n in range(MEMBERS):
                assert archive.read(f"{n}.wav") == content(f"/{name}/{n}.wav")
            assert shown["status"] == "done", shown
        except Exception as error:  # whatever it is, it is wrong
            self.wrong.append(f"{where}: {error!r}")

    def run(self, every: int, seconds: float = float("inf")) -> None:
        """All points, or every so-manieth."""
        end = time.monotonic() + seconds
        for call in ON_FILES if self._full else ():
            number = 1
            while time.monotonic() < end and self.refuse(call, number):
                number += every
        for reactor in () if self._full else (True, False):
            for call in CALLS:
                number = 1
                while time.monotonic() < end and self.point(call, number, reactor):
                    number += every
        self.orphans()

    def orphans(self) -> None:
        """Nothing lies about that no record names."""
        self.daemon.stop()
        self.daemon.start()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            visible = Counter(path.name for path in (self.data / "public").glob("*/*.zip"))
            left = [f"{name}: {n} zips" for name, n in visible.items() if n > 1]
            left += [f"spool/{path.name}" for path in (self.data / "spool").iterdir()]
            if not left:
                break
            time.sleep(0.1)
        self.wrong += left
        assert ask(socket_path(self.data / "redis"), "ZCARD", "bw:{bulkwav}:parts:doing") == 0

    def close(self) -> None:
        """End everything."""
        self.daemon.stop()
        self.source.close()
        shutil.rmtree(self.data, ignore_errors=True)


def main() -> None:
    """All points."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--full", action="store_true")
    given = parser.parse_args()
    crash = CrashPoints(given.full)
    began = time.monotonic()
    try:
        crash.run(given.every)
        for what, count in sorted(crash.points.items()):
            print(f"{count:4} x {what}")
        print(f"{sum(crash.points.values())} points in {time.monotonic() - began:.0f} s")
        for what in crash.wrong:
            print("wrong:", what)
    finally:
        crash.close()
    sys.exit(bool(crash.wrong))


if __name__ == "__main__":
    main()
