"""Our queue beside Celery, RQ, Dramatiq and arq: publishing, consuming, latency, memory.

    python -m bench.queue [--runs 3] [--jobs 5000] [--waiting 500000]

All on one Redis on loopback, each in processes of its own, the queues taking turns. Then ours
alone: how long an enqueue and a reserve take with nothing waiting, and with very many jobs.
Needs ``pip install -e '.[bench]'``. arq, which wants another redis-py than Celery, gets a virtual
environment of its own.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.support.redis_servers import RedisServer, ask, free_port
from twisted_bulk.jobs.model import Ack, Work
from twisted_bulk.queue import call, open_queue

PEERS = ("bulkwav", "celery", "rq", "dramatiq", "arq")
UNITS = {
    "single": "published/s, one by one",
    "bulk": "published/s, many in a call",
    "consume": "consumed/s, one process",
    "p50": "ms from publish to start, p50",
    "p99": "ms from publish to start, p99",
    "memory": "bytes of Redis for a waiting job",
}
LATENCIES = 100


def quantile(values: list[float], share: float) -> float:
    """The value below which ``share`` of them lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class Peer:
    """One queue and its processes."""

    def __init__(self, name: str, port: int, folder: Path) -> None:
        self._name = name
        self._port = port
        self._record = folder / "record"
        self._python = sys.executable
        if name == "arq":
            self._python = str(folder / "arq/bin/python")
            if not (folder / "arq").exists():
                subprocess.run([sys.executable, "-m", "venv", folder / "arq"], check=True)
                pip = [self._python, "-m", "pip", "install", "-q", "arq"]
                subprocess.run(pip, check=True)

    def _start(self, what: str, count: int, **options: Any) -> "subprocess.Popen[str]":
        words = [self._python, "-m", f"bench.peers.{self._name}", what, str(count)]
        environment = os.environ | {
            "BENCH_REDIS": f"redis://127.0.0.1:{self._port}/0",
            "BENCH_RECORD": str(self._record),
            "BENCH_COUNT": str(count),
        }
        return subprocess.Popen(
            words, env=environment, text=True, start_new_session=True, **options
        )

    def publish(self, what: str, count: int) -> float:
        """Jobs a second."""
        process = self._start(what, count, stdout=subprocess.PIPE)
        printed, _ = process.communicate()
        assert process.returncode == 0
        return count / float(printed.split()[-2]) if printed else 0.0

    def consume(self, count: int, lines: int, publisher: str = "") -> list[float]:
        """What a worker process notes, until there are so many lines."""
        self._record.write_text("")
        worker = self._start("consume", count, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            if publisher:
                time.sleep(4)  # it has started, and waits
                self._start(publisher, count, stdout=subprocess.DEVNULL).wait()
            end = time.monotonic() + 120
            while len(words := self._record.read_text().split()) < lines:
                if time.monotonic() > end:
                    raise AssertionError(f"{self._name} does not come to an end")
                time.sleep(0.05)
        finally:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        return [float(word) for word in words]

    def memory(self) -> int:
        """What Redis uses."""
        info: str = ask(self._port, "INFO", "memory").decode()
        return int(info.partition("used_memory:")[2].split()[0])

    def run(self, jobs: int) -> dict[str, float]:
        """One turn."""
        ask(self._port, "FLUSHALL")
        self.publish("bulk", 100)  # scripts, and what else is there once
        before = self.memory()
        found = {"bulk": self.publish("bulk", jobs)}
        found["memory"] = (self.memory() - before) / jobs
        (seconds,) = self.consume(jobs + 100, 1)
        found["consume"] = (jobs + 99) / seconds
        ask(self._port, "FLUSHALL")
        found["single"] = self.publish("single", jobs // 2)
        ask(self._port, "FLUSHALL")
        latencies = self.consume(LATENCIES, LATENCIES, "latency")
        found["p50"] = 1000 * quantile(latencies, 0.5)
        found["p99"] = 1000 * quantile(latencies, 0.99)
        return found


async def depth(reactor: Any, url: str, waiting: int) -> None:
    """Enqueue and reserve with nothing waiting, and with ``waiting`` jobs."""
    queue = open_queue(reactor, url, "deep", cap=10 * waiting)

    async def measure() -> dict[str, list[float]]:
        spent: dict[str, list[float]] = {"enqueue": [], "reserve": []}
        for _n in range(2000):
            began = time.perf_counter()
            await queue.enqueue([Work(id=f"m{began}", payload=b"x" * 40, first=True)])
            spent["enqueue"].append(time.perf_counter() - began)
            began = time.perf_counter()
            (job,) = (await queue.reserve("w", 1)).jobs
            spent["reserve"].append(time.perf_counter() - began)
            await queue.ack("w", [Ack(job)])
        return spent

    await measure()
    empty = await measure()
    await queue.publisher.push_many(call(n=n) for n in range(waiting))
    full = await measure()
    for what in empty:
        was, now = (1000 * quantile(spent[what], 0.99) for spent in (empty, full))
        print(
            f"{what} p99: {was:.3f} ms empty, {now:.3f} ms with {waiting} waiting,"
            f" {now / was:.2f} x"
        )


def main() -> None:
    """All peers in turns, then the depth."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--waiting", type=int, default=500_000)
    parser.add_argument("--peers", default=",".join(PEERS))
    given = parser.parse_args()
    port = free_port()
    server = RedisServer("--port", str(port), "--appendfsync", "everysec")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in given.peers.split(",")}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(given.runs):
                for name in found:
                    found[name].append(Peer(name, port, Path(folder)).run(given.jobs))
        print(f"{'median of ' + str(given.runs):36}" + "".join(f"{name:>12}" for name in found))
        for key, unit in UNITS.items():
            medians = [statistics.median(run[key] for run in runs) for runs in found.values()]
            print(f"{unit:36}" + "".join(f"{median:12,.1f}" for median in medians))
        if given.waiting:
            ask(port, "FLUSHALL")
            url = f"redis://127.0.0.1:{port}/0"
            react(lambda r: Deferred.fromCoroutine(depth(r, url, given.waiting)))
    finally:
        server.close()


if __name__ == "__main__":
    main()
