"""Many clients of a file port in one loop, and what came to each."""

import contextlib
import selectors
import socket
import time
from collections import defaultdict
from dataclasses import dataclass

from tests.support.daemon import cpu_of, status_of

STEP = 0.01  # seconds in which what comes is counted together
TRASH = bytearray(1 << 20)


@dataclass(frozen=True)
class Server:
    """Where to fetch from, and the processes that serve it."""

    name: str
    port: int
    path: str
    pids: list[int]

    def cpu(self) -> float:
        """CPU seconds used so far."""
        return cpu_of(self.pids)

    def memory(self) -> int:
        """Resident bytes."""
        return sum(status_of(pid)["VmRSS"] for pid in self.pids)


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

    def step(self) -> int:
        """Which one it is now."""
        return int((time.monotonic() - self.began) / STEP)

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
                    self.steps[client.address][self.step()] += got

    def total(self) -> int:
        """Bytes that have come so far."""
        return sum(sum(steps.values()) for steps in self.steps.values())

    def end(self) -> None:
        for client in list(self.clients):
            self.close(client)
        self._poll.close()


def address(number: int) -> str:
    """One of loopback's."""
    return f"127.1.{number // 200}.{number % 200 + 1}"


def rate_of(steps: dict[int, int], first: int, last: int) -> float:
    """Bytes a second between two steps: from one arrival to another, as lumps do not go by the
    window's edges."""
    came = sorted(step for step in steps if first <= step < last)
    if len(came) < 2:
        return sum(steps[step] for step in came) / ((last - first) * STEP)
    return sum(steps[step] for step in came[1:]) / ((came[-1] - came[0]) * STEP)


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
