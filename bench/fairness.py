"""What healthy batches lose by others that stall.

    python -m bench.fairness [--stalled 200] [--runs 3] [--large 6]

A source on loopback with many addresses, each a host of its own. 20 healthy batches of 400 files
are timed alone, beside 200 stalled ones that run, and posted right behind such: of a quarter each
the source trickles 2 KB/s, answers 429 with Retry-After: 600, does not answer, or has a name that
DNS hangs on. Then: how long a small batch waits to begin beside these, and beside large ones from
one busy host.
"""

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.chaos.storm import LAUNCH
from tests.support.daemon import Daemon, environment

HEALTHY, FILES, SIZE = 20, 400, 20_000
TRICKLE = 2000  # bytes a second
LARGE = 10_000  # members of a large batch
BUSY = 0.02  # seconds that the busy host takes for each of its files


class Source(threading.Thread):
    """Serves what the path says, on as many addresses as there are."""

    def __init__(self, addresses: list[str]) -> None:
        super().__init__(daemon=True)
        self.addresses = addresses
        self.port = 0
        self.ready = threading.Event()
        self.first: dict[str, float] = {}  # when a path's first part was asked for
        self.start()
        self.ready.wait()

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._client, "127.0.0.1", 0, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        for address in self.addresses:
            await asyncio.start_server(self._client, address, self.port, backlog=4096)
        self.ready.set()
        await asyncio.Event().wait()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode()
                kind, name = path.split("/")[1:3]
                self.first.setdefault(name, time.monotonic())
                await getattr(self, f"_{kind}")(writer)
        writer.close()

    async def _file(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + bytes(SIZE))
        await writer.drain()

    async def _busy(self, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(BUSY)
        await self._file(writer)

    async def _trickle(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(100_000 // TRICKLE):
            writer.write(bytes(TRICKLE))
            await writer.drain()
            await asyncio.sleep(1)

    async def _throttle(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 429 Wait\r\nRetry-After: 600\r\nContent-Length: 4\r\n\r\nwait")
        await writer.drain()

    async def _hole(self, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)


class Bench:
    """A daemon whose DNS hangs on some names, and the source."""

    def __init__(self, stalled: int) -> None:
        self.stalled = stalled
        count = max(stalled, HEALTHY)
        names = [f"127.{net}.{n // 200}.{n % 200 + 1}" for net in (1, 2) for n in range(count)]
        self.source = Source(names)
        self.bad, self.good = names[:count], names[count:]
        self.number = 0

    @contextlib.contextmanager
    def daemon(self) -> Any:
        """A new one."""
        folder = Path(tempfile.mkdtemp(prefix="bwfair"))

        class Launched(Daemon):
            def command(self) -> list[str]:
                return [*LAUNCH, *self.options]

            def environment(self) -> dict[str, str]:
                return environment() | {"CHAOS_DNS": "hang"}

        daemon = Launched(folder, "--rate=0", "--drain=0s", "--log-format=json")
        try:
            yield daemon
        finally:
            daemon.kill()
            with contextlib.suppress(AssertionError, ProcessLookupError):
                subprocess.run(["kill", "-9", str(daemon.redis_pid())], check=False)
            subprocess.run(["rm", "-rf", str(folder)], check=False)

    def post(self, daemon: Daemon, kind: str, hosts: list[str], files: int) -> str:
        """A batch; its name."""
        self.number += 1
        name = f"{kind}{self.number}"
        urls = [
            f"http://{hosts[n % len(hosts)]}:{self.source.port}/{kind}/{name}/{n}"
            for n in range(files)
        ]
        daemon.post({"task_id": name, "download": urls})
        return name

    def stall(self, daemon: Daemon) -> None:
        """Batches that do not get on."""
        for n in range(self.stalled):
            kind = ("trickle", "throttle", "hole", "file")[n % 4]
            host = self.bad[n] if kind != "file" else f"n{n}.hang"
            self.post(daemon, kind, [host], 20)

    def healthy(self, daemon: Daemon) -> float:
        """How long the healthy ones take."""
        began = time.monotonic()
        names = [self.post(daemon, "file", [self.good[n]], FILES) for n in range(HEALTHY)]
        for name in names:
            shown = daemon.wait(name, 600)
            assert shown["status"] == "done", shown
        return time.monotonic() - began

    def begins(self, daemon: Daemon) -> tuple[float, float]:
        """How long a small batch waits until it begins, and how long it takes."""
        began = time.monotonic()
        name = self.post(daemon, "file", [self.good[-1]], 10)
        shown = daemon.wait(name, 600)
        assert shown["status"] == "done", shown
        return self.source.first[name] - began, time.monotonic() - began


def _at_most(times: list[tuple[float, float]]) -> str:
    begun, ended = (max(each) for each in zip(*times, strict=True))
    return f"began after {begun:.2f} s at most, and ended after {ended:.2f} s at most"


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stalled", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--large", type=int, default=6)
    options = parser.parse_args()
    bench = Bench(options.stalled)
    times: dict[str, list[float]] = {"alone": [], "beside": [], "behind": []}
    small: list[tuple[float, float]] = []
    for _ in range(options.runs):
        with bench.daemon() as daemon:
            times["alone"].append(bench.healthy(daemon))
        with bench.daemon() as daemon:
            bench.stall(daemon)
            times["behind"].append(bench.healthy(daemon))
            small += [bench.begins(daemon) for _ in range(3)]
        with bench.daemon() as daemon:
            bench.stall(daemon)
            while daemon.call("GET", "/v1/batches?status=queued&limit=1")["batches"]:
                time.sleep(0.1)
            times["beside"].append(bench.healthy(daemon))
            small += [bench.begins(daemon) for _ in range(3)]
        print(", ".join(f"{name} {each[-1]:.2f} s" for name, each in times.items()), flush=True)
    alone = statistics.median(times["alone"])
    for name, what in (
        ("beside", "beside stalled ones that run"),
        ("behind", "posted behind them"),
    ):
        median = statistics.median(times[name])
        print(f"healthy {what}: {median:.2f} s, {median / alone:.2f} x of {alone:.2f} s (medians)")
    print("a small batch beside the stalled ones", _at_most(small))
    with bench.daemon() as daemon:
        for _ in range(options.large):
            bench.post(daemon, "busy", [bench.bad[0]], LARGE)
        time.sleep(5)
        small = [bench.begins(daemon) for _ in range(5)]
    print(f"beside {options.large} large ones from one busy host it", _at_most(small))


if __name__ == "__main__":
    sys.exit(main())
