"""The file port beside nginx: rates per address, fairness, cost, memory, throughput, delays.

    python -m bench.files [--seconds 30] [scenario ...]

Needs nginx. Every client address is one of 127.0.0.0/8, every client a socket that reads all that
comes; what arrives is counted in steps of 10 ms. nginx has ``limit_rate 200000`` and sendfile.
"""

import argparse
import contextlib
import hashlib
import random
import resource
import selectors
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.daemon import TICK, Daemon, status_of
from tests.servers import free_port
from twisted_bulk.shelf import Shelf

RATE = 200_000
STEP = 0.01
WARM_UP = 3.0
SIZE = 100_000_000
TRASH = bytearray(1 << 20)


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


@dataclass(frozen=True)
class Server:
    """Where to fetch from, and what it has cost so far."""

    name: str
    port: int
    path: str
    cpu: Callable[[], float]
    memory: Callable[[], int]


class Client:
    """One connection."""

    def __init__(self, server: Server, address: str) -> None:
        self.address = address
        self.count = 0
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.bind((address, 0))
        self.socket.connect_ex(("127.0.0.1", server.port))
        self._request = f"GET {server.path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()

    def ask(self) -> None:
        """Send the request; the connection stands."""
        self.socket.send(self._request)

    def read(self) -> int:
        """Take what is there, without looking at it."""
        got = self.socket.recv_into(TRASH, len(TRASH), socket.MSG_TRUNC)
        if not got:
            raise SystemExit(f"{self.address}: the server closed the connection")
        self.count += got
        return got


class Crowd:
    """All clients of a scenario, in one loop."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._poll = selectors.EpollSelector()
        self.clients: list[Client] = []
        self.steps: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self.began = time.monotonic()

    def open(self, address: str, reads: bool = True) -> Client:
        client = Client(self._server, address)
        self.clients.append(client)
        self._poll.register(client.socket, selectors.EVENT_WRITE, (client, reads))
        return client

    def close(self, client: Client) -> None:
        with contextlib.suppress(KeyError):
            self._poll.unregister(client.socket)
        client.socket.close()
        self.clients.remove(client)

    def run(self, seconds: float) -> None:
        """Read for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for key, events in self._poll.select(min(left, 0.05)):
                client, reads = key.data
                if events & selectors.EVENT_WRITE:
                    client.ask()
                    if reads:
                        self._poll.modify(client.socket, selectors.EVENT_READ, key.data)
                    else:
                        self._poll.unregister(client.socket)
                    continue
                with contextlib.suppress(BlockingIOError):
                    got = client.read()
                    step = int((time.monotonic() - self.began) / STEP)
                    self.steps[client.address][step] += got

    def end(self) -> None:
        for client in list(self.clients):
            self.close(client)
        self._poll.close()


def address(number: int) -> str:
    """One of loopback's."""
    return f"127.1.{number // 200}.{number % 200 + 1}"


def worst_second(steps: dict[int, int], first: int, last: int) -> int:
    """The most that came within any second between two steps."""
    width = round(1 / STEP)
    window = sum(steps.get(n, 0) for n in range(first, first + width))
    worst = window
    for n in range(first + width, last):
        window += steps.get(n, 0) - steps.get(n - width, 0)
        worst = max(worst, window)
    return worst


def jain(shares: list[int]) -> float:
    """Jain's index of fairness."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares) or 1)


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
    totals = {one: sum(crowd.steps[one].values()) for one in addresses}
    first, cpu, began = int((time.monotonic() - crowd.began) / STEP), server.cpu(), time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0:
        crowd.run(min(1.0, left))
        if scenario.churn:
            for client in dice.sample(crowd.clients, round(scenario.churn * len(crowd.clients))):
                crowd.close(client)
                crowd.open(client.address)
    took, cpu = time.monotonic() - began, server.cpu() - cpu
    last = int((time.monotonic() - crowd.began) / STEP)
    rates = [(sum(crowd.steps[one].values()) - totals[one]) / took for one in addresses]
    shares = [
        [client.count - before[client] for client in crowd.clients
         if client.address == one and client in before and client.count > before[client]]
        for one in addresses
    ]  # fmt: skip
    worst = max(worst_second(crowd.steps[one], first, last) for one in addresses)
    moved = sum(rates) * took + (sum(crowd.steps["127.9.9.9"].values()) if scenario.crowd else 0)
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
    before = [client.count for client in crowd.clients]
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
    took = time.monotonic() - began
    rates = [(c.count - b) / took for c, b in zip(crowd.clients, before, strict=True)]
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
def bulkwav(folder: Path, rate: int) -> Iterator[tuple[Server, Daemon]]:
    """Our daemon with one zip."""
    with Daemon(folder / f"data{rate}", f"--rate={rate}", "--per-address=1000") as daemon:
        workspace = Shelf(folder / f"data{rate}").enlist()
        place = workspace.make_folder("b@0/1")
        with open(place / "b.zip", "wb") as file:
            file.truncate(SIZE)
        with open(place / "b.zip", "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        path = workspace.publish(place, "b", {"b.zip.sha256": f"{sha256}  b.zip\n".encode()})
        pid = daemon.process.pid
        where = f"/{path}/b.zip"
        yield (
            Server("bulkwav", daemon.files, where, lambda: cpu([pid]), lambda: memory([pid])),
            daemon,
        )
        workspace.close()


@contextlib.contextmanager
def nginx(folder: Path, rate: int) -> Iterator[Server]:
    """nginx with the same file, one worker."""
    port, root = free_port(), folder / "www"
    root.mkdir(exist_ok=True)
    with open(root / "b.zip", "wb") as file:
        file.truncate(SIZE)
    folder.chmod(0o755)
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"""daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 1;
        events {{ worker_connections 15000; }}
        http {{ access_log off; sendfile on; open_file_cache max=9; limit_rate {rate}; {temporary}
        server {{ listen 127.0.0.1:{port} backlog=4096; root {root}; }} }}"""
    )
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    process = subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    pids = [process.pid, *map(int, children)]
    try:
        yield Server("nginx", port, "/b.zip", lambda: cpu(pids), lambda: memory(pids))
    finally:
        process.terminate()
        process.wait()


def cpu(pids: list[int]) -> float:
    """CPU seconds of processes."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in pids]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / TICK


def memory(pids: list[int]) -> int:
    """Resident bytes of processes."""
    return sum(status_of(pid)["VmRSS"] for pid in pids)


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
    with bulkwav(folder, RATE) as (ours, daemon), nginx(folder, RATE) as theirs:
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
        with bulkwav(folder, 0) as (ours, _), nginx(folder, 0) as theirs:
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
