"""A real daemon in a process of its own, for tests and benchmarks."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.redis_servers import free_port

ROOT = Path(__file__).parents[2]
TICK = os.sysconf("SC_CLK_TCK")


RUN = "from twisted.scripts.twistd import run; run()"
#: The same, with a socket that is listened on already, as systemd hands it over (sd_listen_fds).
RUN_WITH_SOCKET = (
    "import os; os.dup2(int(os.environ['SOCKET']), 3);"
    f" os.environ['LISTEN_PID'] = str(os.getpid()); {RUN}"
)


def command(*options: str, run: str = RUN) -> list[str]:
    """``twistd -n bulkwav`` that works from a checkout, whatever is installed."""
    return [sys.executable, "-c", run, "-n", "bulkwav", *options]


def environment() -> dict[str, str]:
    """The environment in which the checkout's plugin is found."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BULKWAV_")}
    return kept | {"PYTHONPATH": str(ROOT)}


def descendants(pid: int) -> list[int]:
    """A process, and those that it and they have started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in descendants(int(child)))]


def status_of(pid: int) -> dict[str, int]:
    """The numbers of ``/proc/<pid>/status``, in bytes where they are sizes."""
    numbers = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            numbers[name] = int(words[0]) * (1024 if words[-1] == "kB" else 1)
    return numbers


def cpu_of(pids: Iterable[int]) -> float:
    """CPU seconds that processes have used so far."""
    used = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += int(fields[11]) + int(fields[12])
    return used / TICK


def shared_socket(port: int) -> socket.socket:
    """A socket that listens beside others on one port of loopback: the kernel deals out clients."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    found.bind(("127.0.0.1", port))
    found.listen(4096)
    return found


class Daemon:
    """``twistd bulkwav`` on free ports of loopback, which it may download from."""

    pass_fds: tuple[int, ...] = ()

    def __init__(
        self, data: Path, *options: str, ready: str = "/readyz", intake: int | None = None
    ) -> None:
        self.ready = ready
        self.data = data
        self.intake, self.files = intake or free_port(), free_port()
        self.api = f"http://127.0.0.1:{self.intake}"
        self.redis_memory = 0
        self.options = (
            f"--data={data}",
            f"--intake=tcp:{self.intake}:interface=127.0.0.1",
            f"--files=tcp:{self.files}:interface=127.0.0.1",
            f"--public-url=http://127.0.0.1:{self.files}",
            "--allow-net=127.0.0.0/8",
            *options,
        )
        data.mkdir(parents=True, exist_ok=True)
        self.log = data / "twistd.log"
        self.start()

    def command(self) -> list[str]:
        """What is run."""
        return command(*self.options)

    def environment(self) -> dict[str, str]:
        """Where it is run."""
        return environment()

    def start(self) -> None:
        """Start it (again) and wait until it is ready."""
        self.spawn()
        self.wait_ready()

    def spawn(self) -> None:
        """Start it (again)."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                env=self.environment(),
                cwd=self.data,
                pass_fds=self.pass_fds,
            )

    def wait_ready(self) -> None:
        """Wait until it is ready."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                self.call("GET", self.ready)
                return
            except (OSError, urllib.error.URLError):
                if self.process.poll() is not None:
                    break
                time.sleep(0.02)
        raise AssertionError(f"bulkwav did not start:\n{self.log.read_text()}")

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        """One call of the API; an answer that is not 2xx raises HTTPError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.api + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def post(self, body: dict[str, Any]) -> Any:
        """Submit a batch."""
        return self.call("POST", "/v1/batches", body)

    def wait(self, batch: str, seconds: float = 30) -> Any:
        """The batch once it has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            shown = self.call("GET", f"/v1/batches/{batch}")
            if shown["schedule"] == 100:
                return shown
            time.sleep(0.02)
        raise AssertionError(f"{shown}\n{self.log.read_text()}")

    def redis_pid(self) -> int:
        """The embedded server's process, found by its folder."""
        wanted = str(self.data / "redis")
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    cwd = os.readlink(entry / "cwd")
                    name = (entry / "comm").read_text()
                except OSError:
                    continue
                if cwd == wanted and "server" in name:
                    return int(entry.name)
        raise AssertionError("no embedded server runs")

    def processes(self) -> list[int]:
        """The daemon's process, those of ``--workers``, and those that encode; not its Redis."""
        return [pid for pid in descendants(self.process.pid) if pid != self.redis_pid()]

    def cpu(self) -> float:
        """CPU seconds used so far by the daemon's processes and its Redis."""
        return cpu_of([*self.processes(), self.redis_pid()])

    def peak_memory(self) -> int:
        """The largest resident size of one of its processes in bytes; its Redis's is noted."""
        self.redis_memory = status_of(self.redis_pid())["VmHWM"]
        return max(status_of(pid)["VmHWM"] for pid in self.processes())

    def stop(self) -> int:
        """SIGTERM, and wait; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()


class SharingDaemon(Daemon):
    """A node whose API shares its port with others; systemd calls that ``ReusePort=yes``."""

    def __init__(self, data: Path, port: int, *options: str) -> None:
        super().__init__(data, *options, "--intake=systemd:domain=INET:index=0", intake=port)

    def command(self) -> list[str]:
        return command(*self.options, run=RUN_WITH_SOCKET)

    def environment(self) -> dict[str, str]:
        (socket,) = self.pass_fds
        given = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "intake", "SOCKET": str(socket)}
        return environment() | given

    def start(self) -> None:
        with shared_socket(self.intake) as shared:
            self.pass_fds = (shared.fileno(),)
            super().start()
