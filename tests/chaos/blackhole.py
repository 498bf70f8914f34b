"""Very many running batches that report to a receiver that never answers, and a few to a good one.

    python -m tests.chaos.blackhole [--batches 1000] [--seconds 300]

Counts sockets to the dead receiver, memory, and how regularly the good one hears of its batches.
"""

import argparse
import itertools
import json
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.daemon import Daemon, status_of

GOOD = 20
ARRIVED: dict[str, list[float]] = defaultdict(list)


class CountingHandler(BaseHTTPRequestHandler):
    """Answers at once, and notes when it heard of which batch."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ARRIVED[body["task_id"]].append(time.monotonic())
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def silent() -> socket.socket:
    """A port that takes connections and never answers."""
    found = socket.create_server(("127.0.0.1", 0), backlog=4096)
    taken: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                taken.append(found.accept()[0])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    return found


def connections(port: int) -> int:
    """Open connections to a port of loopback, as the kernel counts them."""
    wanted = f":{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(wanted) and row[3] == "01" for row in rows)


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=300)
    given = parser.parse_args()
    source, hole = silent(), silent()
    good = ThreadingHTTPServer(("127.0.0.1", 0), CountingHandler)
    threading.Thread(target=good.serve_forever, daemon=True).start()
    many = str(given.batches + GOOD + 10)
    options = (f"--parts={many}", f"--concurrency={many}", f"--per-host={many}",
               "--header-timeout=1h", "--drain=1", "--request-rate=0")  # fmt: skip
    with Daemon(Path(tempfile.mkdtemp(prefix="bw")) / "d", *options) as daemon:
        url = f"http://127.0.0.1:{source.getsockname()[1]}/a.wav"
        for number in range(given.batches):
            where = f"http://127.0.0.1:{hole.getsockname()[1]}/n"
            daemon.post({"task_id": f"h{number}", "download": [url], "url": where})
        for number in range(GOOD):
            where = f"http://127.0.0.1:{good.server_address[1]}/n"
            daemon.post({"task_id": f"g{number}", "download": [url], "url": where})
        pid, most = daemon.process.pid, 0
        while daemon.call("GET", "/v1/stats")["parts"]["counts"]["doing"] < given.batches + GOOD:
            time.sleep(0.5)
        time.sleep(10)
        before, began = status_of(pid)["VmRSS"], time.monotonic()
        ARRIVED.clear()
        while time.monotonic() - began < given.seconds:
            most = max(most, connections(hole.getsockname()[1]))
            time.sleep(0.25)
        grown = status_of(pid)["VmRSS"] - before
        gaps = sorted(
            later - earlier
            for times in ARRIVED.values()
            for earlier, later in itertools.pairwise(times)
        )
    p99 = gaps[len(gaps) * 99 // 100]
    print(f"{given.batches} batches at a dead receiver for {given.seconds:.0f} s: at most {most}"
          f" connections to it, {grown / 1e6:+.1f} MB; the other one heard of its {GOOD} batches"
          f" every {statistics.median(gaps):.2f} s, p99 {p99:.2f} s")  # fmt: skip
    sys.exit(most > 4 or p99 > 3.5 or len(ARRIVED) < GOOD)


if __name__ == "__main__":
    main()
