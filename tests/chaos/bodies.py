"""Bodies without an end, and very many slow ones, beside clients that mean well.

    python -m tests.chaos.bodies [--slow 1000] [--gigabytes 1]

From one address: POSTs of a byte a second, and chunked and announced ones of a gigabyte. From
another: batches, one after the other. Counts how the first ones end, what the node has of memory
and of files meanwhile, and how long the good ones take.
"""

import argparse
import contextlib
import os
import resource
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from tests.support.daemon import Daemon, status_of
from twisted_bulk.http_server.deadline import HEADER_SECONDS, LINGER_SECONDS

HOSTILE = "127.0.0.2"
HEAD = b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
FRAMES = (
    (b"Content-Length: 5000\r\n\r\n", b"["),
    (b"Content-Length: 200000000\r\n\r\n", b"["),
    (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n[\r\n"),
)
PIECE = 1_000_000


def connect(port: int) -> socket.socket:
    """A connection from the hostile address."""
    return socket.create_connection(("127.0.0.1", port), 30, source_address=(HOSTILE, 0))


def status(connection: socket.socket) -> str:
    """What it is answered with."""
    with contextlib.suppress(OSError):
        return connection.recv(4096)[9:12].decode() or "closed"
    return "closed"


def slow(port: int, count: int, ends: Counter[str]) -> None:
    """Bodies of a byte a second."""
    going = {}
    for number in range(count):
        head, piece = FRAMES[number % len(FRAMES)]
        connection = connect(port)
        connection.sendall(HEAD + head)
        going[connection] = piece
    end = time.monotonic() + HEADER_SECONDS + LINGER_SECONDS + 30
    while going and time.monotonic() < end:
        time.sleep(1)
        for connection, piece in list(going.items()):
            try:
                connection.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    ends[f"slow: {connection.recv(4096)[9:12].decode() or 'closed'}"] += 1
                    del going[connection]
                    connection.close()
                    continue
                connection.send(piece)
            except OSError:
                ends["slow: closed"] += 1
                del going[connection]
    if going:
        ends["slow: never"] += len(going)


def endless(port: int, length: int, chunked: bool) -> tuple[str, int]:
    """One large body: how it ended, and after how many bytes."""
    sent = 0
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % length
    with connect(port) as connection:
        connection.sendall(HEAD + framing + b"\r\n\r\n")
        piece = b" " * PIECE
        if chunked:
            piece = b"%x\r\n%b\r\n" % (PIECE, piece)
        try:
            while sent < length:
                connection.sendall(piece)
                sent += PIECE
        except OSError:
            pass
        return status(connection), sent


def held(pid: int) -> int:
    """Bytes in files that a process has open though they have no name."""
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(entry).endswith("(deleted)"):
                found += entry.stat().st_size
    return found


def run(count: int, length: int) -> tuple[str, list[str]]:
    """All of it; what it came to, and what was wrong."""
    ends: Counter[str] = Counter()
    taken: list[float] = []
    files = 0
    with Daemon(Path(tempfile.mkdtemp(prefix="bw")) / "d", "--roles=intake") as daemon:
        body = {"download": [f"http://files.example/{n}.wav" for n in range(4)]}
        for _ in range(50):
            daemon.post(body)
        before = status_of(daemon.process.pid)["VmRSS"]
        hostile = [threading.Thread(target=slow, args=(daemon.intake, count, ends))]

        def large(chunked: bool) -> None:
            answer, sent = endless(daemon.intake, length, chunked)
            ends[f"{'chunked' if chunked else 'announced'}: {answer}"] += 1
            if sent > 400_000_000:
                ends["taken past the limit"] += 1

        hostile += [threading.Thread(target=large, args=(chunked,)) for chunked in (True, False)]
        for thread in hostile:
            thread.start()
        while any(thread.is_alive() for thread in hostile):
            began = time.monotonic()
            daemon.post(body)
            taken.append(time.monotonic() - began)
            files = max(files, held(daemon.process.pid))
            time.sleep(0.05)
        grown = status_of(daemon.process.pid)["VmHWM"] - before
    slow_ones = ends["slow: 408"] + ends["slow: 429"]  # an address has a thousand connections
    large_ones = ends["chunked: 413"] + ends["announced: 413"]
    right = slow_ones == count and ends["slow: 429"] <= 2 and large_ones == 2
    wrong = [] if right and sum(ends.values()) == count + 2 else [str(dict(ends))]
    if grown > 50e6:
        wrong.append(f"memory has grown by {grown / 1e6:.0f} MB")
    taken.sort()
    said = (
        f"{count} slow bodies, 2 of {length / 1e9:g} GB: {dict(ends)}; memory {grown / 1e6:+.1f} MB"
        f" at its peak, bodies on disk {files / 1e6:.0f} MB; {len(taken)} batches beside them,"
        f" median {statistics.median(taken) * 1000:.1f} ms, p99"
        f" {taken[len(taken) * 99 // 100] * 1000:.0f} ms, none refused"
    )
    return said, wrong


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slow", type=int, default=1000)
    parser.add_argument("--gigabytes", type=float, default=1)
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    said, wrong = run(given.slow, round(given.gigabytes * 1e9))
    print(said, *wrong, sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
