"""The file port beside nginx: rates per address, fairness, cost, memory, throughput, delays.

    python -m bench.files [--seconds 30] [scenario ...]

Needs nginx. Every client address is one of 127.0.0.0/8, every client a socket that reads all that
comes; what arrives is counted in steps of 10 ms. nginx has ``limit_rate 200000`` and sendfile.
"""

import argparse
import contextlib
import random
import resource
import shutil
import socket
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.crowd import Crowd, Server, address, jain, rate_of, worst_second
from bench.nginx import Nginx
from tests.support.daemon import Daemon
from tests.support.published_zip import publish
from twisted_bulk.storage.folders import DataFolders

RATE = 200_000
WARM_UP = 3.0
SIZE = 100_000_000


@dataclass(frozen=True)
class Scenario:
    """``each`` connections from each of ``addresses``.

    :param churn: the share of connections that are closed and opened anew each second
    :param stalled: the share of connections that never read
    :param crowd: connections of one more address, which is not looked at
    """

    addresses: int
    each: int
    churn: float = 0.0
    stalled: float = 0.0
    crowd: int = 0


SCENARIOS = {
    "1x1": Scenario(1, 1),
    "100x1": Scenario(100, 1),
    "1000x1": Scenario(1000, 1),
    "2000x1": Scenario(2000, 1),
    "1x2": Scenario(1, 2),
    "1x16": Scenario(1, 16),
    "1x64": Scenario(1, 64),
    "churn": Scenario(50, 4, churn=0.1),
    "stalled": Scenario(1, 16, stalled=0.5),
    "crowd": Scenario(1, 1, crowd=64),
}


def measure(server: Server, scenario: Scenario, seconds: float) -> None:
    """One scenario with one server, and print."""
    crowd, dice = Crowd(server), random.Random(1)
    addresses = [address(n) for n in range(scenario.addresses)]
    for one in addresses:
        for number in range(scenario.each):
            crowd.open(one, reads=number >= scenario.stalled * scenario.each)
            if len(crowd.clients) % 200 == 0:
                crowd.run(0.05)
    for _ in range(scenario.crowd):
        crowd.open("127.9.9.9")
    # Those that do not read take what their buffers hold, before they count as stalled.
    crowd.run(WARM_UP + (40 if scenario.stalled else 0))
    before = {client: client.count for client in crowd.clients}
    moved = crowd.total()
    first, cpu, began = crowd.step(), server.cpu(), time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0:
        crowd.run(min(1.0, left))
        if scenario.churn:
            for client in dice.sample(crowd.clients, round(scenario.churn * len(crowd.clients))):
                crowd.close(client)
                crowd.open(client.address)
    cpu, moved = server.cpu() - cpu, crowd.total() - moved
    last = crowd.step()
    rates = [rate_of(crowd.steps[one], first, last) for one in addresses]
    shares = [
        [client.count - before[client] for client in crowd.clients
         if client.address == one and client in before and client.count > before[client]]
        for one in addresses
    ]  # fmt: skip
    worst = max(worst_second(crowd.steps[one], first, last) for one in addresses)
    errors = [100 * (rate / RATE - 1) for rate in rates]
    print(
        f"  {server.name:8}{statistics.mean(errors):+9.2f} %{max(errors, key=abs):+9.2f} %"
        f"{worst - RATE:+10d}{min(map(jain, filter(None, shares))):9.4f}{cpu / (moved / 1e9):9.2f}",
        flush=True,
    )
    crowd.end()


def throughput(server: Server, connections: int, seconds: float) -> float:
    """Bytes a second of a server without a limit."""
    crowd = Crowd(server)
    total, began = 0, time.monotonic()
    for _ in range(connections):
        crowd.open("127.0.0.1")
    while (took := time.monotonic() - began) < seconds:
        crowd.run(0.01)
        for client in list(crowd.clients):
            if client.count >= SIZE:
                total += client.count
                crowd.close(client)
                crowd.open("127.0.0.1")
    total += sum(client.count for client in crowd.clients)
    crowd.end()
    return total / took


def delay(server: Server, source: str) -> tuple[float, float]:
    """Seconds from connecting to the first byte of the head, and of the body."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), source_address=(source, 0)) as sock:
        sock.sendall(f"GET {server.path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        data = sock.recv(65536)
        head = time.monotonic() - began
        while b"\r\n\r\n" not in data or data.endswith(b"\r\n\r\n"):
            data += sock.recv(65536)
        return head, time.monotonic() - began


def delays(server: Server) -> None:
    """First bytes, to an idle address and to one that sixteen downloads saturate; print."""
    idle = []
    for _ in range(20):
        time.sleep(0.3)
        idle.append(delay(server, "127.2.0.1"))
    crowd = Crowd(server)
    for _ in range(16):
        crowd.open("127.2.0.2")
    crowd.run(WARM_UP)
    busy = []
    for _ in range(20):
        crowd.run(0.3)
        busy.append(delay(server, "127.2.0.2"))
    crowd.end()
    for name, found in (("idle", idle), ("busy", busy)):
        heads, bodies = (sorted(column) for column in zip(*found, strict=True))
        print(
            f"  {server.name:8}{name:8} head {heads[10] * 1000:7.1f} ms (worst"
            f" {heads[-1] * 1000:.1f}), body {bodies[10] * 1000:7.1f} ms (worst"
            f" {bodies[-1] * 1000:.1f})",
            flush=True,
        )


def held(server: Server, count: int, each: int) -> None:
    """Memory of connections whose transfers wait for the limit; print."""
    before, crowd = server.memory(), Crowd(server)
    for number in range(count):
        crowd.open(address(number // each))
        if number % 200 == 0:
            crowd.run(0.05)
    crowd.run(WARM_UP)
    started = sum(client.count > 0 for client in crowd.clients)
    grown = (server.memory() - before) / count
    crowd.end()
    print(f"  {server.name:8}{started} of {count} served, {grown:.0f} bytes each", flush=True)


def siege(server: Server, daemon: Daemon, count: int, seconds: float) -> None:
    """``count`` clients that never finish their request, as many that never read; print.

    Ten good ones are measured beside them.
    """
    crowd, bad = Crowd(server), []
    for number in range(10):
        crowd.open(f"127.3.0.{number + 1}")
    crowd.run(WARM_UP)
    first = crowd.step()
    grown, began = server.memory(), time.monotonic()
    for number in range(2 * count):
        bad.append(sock := socket.socket())
        sock.bind((f"127.4.{number % 50}.1", 0))
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", server.port))
        if number % 100 == 0:
            crowd.run(0.02)
    for sock in bad[count:]:
        with contextlib.suppress(OSError):
            sock.send(f"GET {server.path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    most = 0
    while time.monotonic() < began + seconds:
        for sock in bad[:count]:
            with contextlib.suppress(OSError):
                sock.send(b"G")
        crowd.run(1.0)
        most = max(most, server.memory() - grown)
    rates = [rate_of(crowd.steps[c.address], first, crowd.step()) for c in crowd.clients]
    worst = max((100 * (rate / RATE - 1) for rate in rates), key=abs)
    while daemon.call("GET", "/v1/files")["connections"] > len(crowd.clients):
        crowd.run(1.0)
        if time.monotonic() - began > 300:
            raise SystemExit("some of them are still there")
    gone = time.monotonic() - began
    print(
        f"  worst error of a good client {worst:+.2f} %, {most / 2 / count:.0f} bytes for each bad"
        f" one, all of them gone after {gone:.0f} s",
        flush=True,
    )
    for sock in bad:
        sock.close()
    crowd.end()


@contextlib.contextmanager
def servers(folder: Path, rate: int) -> Iterator[tuple[Server, Server, Daemon]]:
    """Our daemon and nginx, each with one zip."""
    root = folder / "www"
    root.mkdir(exist_ok=True)
    with open(root / "b.zip", "wb") as file:
        file.truncate(SIZE)
    cached = f"open_file_cache max=9; limit_rate {rate};"
    options = (f"--rate={rate}", "--per-address=1000")
    with Daemon(folder / f"data{rate}", *options) as daemon, Nginx(folder, root, cached) as nginx:
        path = publish(DataFolders(daemon.data), SIZE)
        ours = (daemon.files, f"/{path}", [daemon.process.pid])
        theirs = (nginx.port, "/b.zip", nginx.pids)
        yield Server("bulkwav", *ours), Server("nginx", *theirs), daemon


def main() -> None:
    """Measure and print."""
    more = ("delays", "held", "siege", "unlimited")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="*", choices=[*SCENARIOS, *more, []])
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    chosen = options.scenario or [*SCENARIOS, *more]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = Path(tempfile.mkdtemp(prefix="bench"))
    with servers(folder, RATE) as (ours, theirs, daemon):
        print(f"{'':10}{'error':>11}{'worst':>11}{'1 s, B':>10}{'Jain':>9}{'CPU s/GB':>9}")
        for name in chosen:
            if name not in more:
                print(name)
                for server in (ours, theirs):
                    measure(server, SCENARIOS[name], options.seconds)
        for name, look in (("delays", delays), ("held", lambda s: held(s, 10_000, 50))):
            if name in chosen:
                print(name)
                for server in (ours, theirs):
                    look(server)
        if "siege" in chosen:
            print("siege, 2,000 of each")
            siege(ours, daemon, 2000, 60)
    if "unlimited" in chosen:
        with servers(folder, 0) as (ours, theirs, _):
            print("unlimited, MB/s, medians of 3")
            for connections in (1, 4, 16):
                found: dict[str, list[float]] = defaultdict(list)
                for _ in range(3):
                    for server in (ours, theirs):
                        found[server.name].append(throughput(server, connections, 5) / 1e6)
                said = ", ".join(f"{n} {statistics.median(f):.0f}" for n, f in found.items())
                print(f"  {connections} connections: {said}", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
