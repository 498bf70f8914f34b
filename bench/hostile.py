"""What strangers can cost: memory of the daemon, and how long it hears nobody else.

    python -m bench.hostile [--megabytes 250]

Bodies that are refused and bodies that are taken, each sent whole by one client; beside it another
one asks ``/healthz`` all the time. Then answers: clients that ask for what is large, and do not
read. Everything runs on loopback.
"""

import argparse
import http.client
import json
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

from bench.peaks import Peaks
from tests.support.daemon import Daemon, status_of

MEGABYTE = 1_000_000
PIECE = 1 << 16


class Pauses:
    """The longest time that the API took for a question that costs nothing, in milliseconds."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self.longest = 0.0
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        while not self._over.wait(0.01):
            began = time.perf_counter()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            self.longest = max(self.longest, (time.perf_counter() - began) * 1000)
        connection.close()

    def stop(self) -> float:
        """Ask no more."""
        self._over.set()
        self._thread.join()
        return self.longest


def bodies(size: int) -> Iterator[tuple[str, bytes, bytes, bytes]]:
    """What is sent: its name, how it begins, what is repeated, and how it ends."""
    yield "numbers", b'{"download":[', b"1,", b"1]}"
    yield "empty texts", b'{"download":[', b'"",', b'""]}'
    yield "brackets", b'{"download":', b"[", b""
    yield "blanks", b'{"download":[', b" ", b"]}"
    yield "one text", b'{"download":["', b"a", b'"]}'
    yield "keys", b"{", b'"a":1,', b'"b":1}'
    url = b'"http://h.example/%s",' % (b"x" * max(10, size // 1_000_000 - 20))
    yield "a million URLs", b'{"download":[', url, b'"http://h.example/"]}'
    member = json.dumps({"url": "http://h.example/", "headers": {"A": "b" * 16_000}}).encode()
    yield "large headers", b'{"download":[', member + b",", member + b"]}"


def send(daemon: Daemon, begin: bytes, middle: bytes, end: bytes, size: int) -> int:
    """POST such a body; returns the status."""
    count = max(0, size - len(begin) - len(end)) // len(middle)
    many = max(1, PIECE // len(middle))
    connection = http.client.HTTPConnection("127.0.0.1", daemon.intake, timeout=300)
    connection.putrequest("POST", "/v1/batches")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(begin) + count * len(middle) + len(end)))
    connection.endheaders()
    connection.send(begin)
    for piece in repeat(middle * many, count // many):
        connection.send(piece)
    connection.send(middle * (count % many) + end)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def resident(daemon: Daemon) -> float:
    """Megabytes of the daemon's process."""
    return status_of(daemon.process.pid)["VmRSS"] / MEGABYTE


def ask_and_wait(daemon: Daemon, path: str, clients: int) -> None:
    """Clients that ask and do not read: what they cost."""
    before, peaks, pauses = resident(daemon), Peaks(daemon), Pauses(daemon.intake)
    open_ones = []
    for _ in range(clients):
        one = socket.create_connection(("127.0.0.1", daemon.intake), 30)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        open_ones.append(one)
    time.sleep(5)
    after, longest = resident(daemon), pauses.stop()
    print(f"{clients} x {path}: {before:.0f} -> {after:.0f} MB, longest pause {longest:.0f} ms;")
    print(f"  peaks: {peaks.stop()}", flush=True)
    for one in open_ones:
        one.close()


def bodies_and_answers(folder: Path, size: int) -> None:
    """Measure and print.

    :param size: bytes of a body
    """
    with Daemon(folder / "d", "--no-run=sun 00:00-24:00,mon-sat 00:00-24:00") as daemon:
        for name, begin, middle, end in bodies(size):
            before, peaks, pauses = resident(daemon), Peaks(daemon), Pauses(daemon.intake)
            began = time.perf_counter()
            status = send(daemon, begin, middle, end, size)
            took, longest = time.perf_counter() - began, pauses.stop()
            print(
                f"{name}: {status} after {took:.1f} s, before {before:.0f} MB, longest pause"
                f" {longest:.0f} ms; peaks: {peaks.stop()}",
                flush=True,
            )
    # Each member fails at once: its port is closed to downloads.
    long = ["http://127.0.0.1:1/" + "x" * 8000 + str(n) for n in range(100)]
    many = ["http://127.0.0.1:1/" + "x" * 1000 + str(n) for n in range(100_000)]
    with Daemon(folder / "answers", "--part-files=100") as daemon:
        for number in range(100):
            daemon.post({"task_id": f"b{number}", "download": long})
        daemon.post({"task_id": "many", "download": many})
        daemon.wait("many", 600)
        for path, clients in (
            ("/v1/batches?limit=100", 20), ("/v1/batches/b7", 200), ("/v1/batches/many", 20),
            ("/v1/batches/many/manifest", 20), ("/openapi.json", 200),
        ):  # fmt: skip
            ask_and_wait(daemon, path, clients)


def main() -> None:
    """As the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=250)
    size = parser.parse_args().megabytes * MEGABYTE
    folder = Path(tempfile.mkdtemp(prefix="bench"))
    bodies_and_answers(folder, size)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
