"""A master, a replica and three Sentinels on loopback, for fail-overs."""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.support.redis_servers import ask, free_port, need

NAME = "main"


class SentinelSet:
    """Two servers, of which one is the master, watched by three Sentinels.

    :param min_replicas: replicas without which a master takes no writes
    """

    def __init__(self, min_replicas: int = 1) -> None:
        need("redis-sentinel")
        self.server = need("redis-server")
        self.folder = Path(tempfile.mkdtemp(prefix="bw"))
        self.min_replicas = min_replicas
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        try:
            self._launch()
        except AssertionError:
            # A busy machine has them fail over to each other before they know of each other.
            self.close()
            self._launch()

    def _launch(self) -> None:
        self.processes.clear()
        self.ports = [free_port(), free_port()]
        self.sentinels = [free_port() for _ in range(3)]
        self.start(self.ports[0])
        self.start(self.ports[1], self.ports[0])
        for port in self.sentinels:
            self._start_sentinel(port)
        self.settle()

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"sentinel://{hosts}/{NAME}"

    def start(self, port: int, master: int | None = None) -> None:
        """Start (again) the server on ``port``, as a replica of ``master``."""
        folder = self.folder / str(port)
        folder.mkdir(parents=True, exist_ok=True)
        words = f"--port {port} --bind 127.0.0.1 --dir {folder} --appendonly yes --save"
        more = f"--min-replicas-to-write {self.min_replicas} --repl-diskless-sync-delay 0"
        more += " --repl-ping-replica-period 1 --repl-timeout 5 --logfile log"
        if master is not None:
            more += f" --replicaof 127.0.0.1 {master}"
        self.processes[port] = subprocess.Popen([self.server, *words.split(), "", *more.split()])
        self._answers(port)

    def _start_sentinel(self, port: int) -> None:
        file = self.folder / f"sentinel-{port}.conf"
        file.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self.folder}\nlogfile {file}.log\n"
            f"sentinel monitor {NAME} 127.0.0.1 {self.ports[0]} 2\n"
            f"sentinel down-after-milliseconds {NAME} 1000\n"
            f"sentinel failover-timeout {NAME} 3000\n"
        )
        self.processes[port] = subprocess.Popen([need("redis-sentinel"), str(file)])
        self._answers(port)

    def _answers(self, port: int) -> None:
        end = time.monotonic() + 20
        while True:
            try:
                ask(port, "PING")
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def master(self) -> int:
        """The port of the master, as Sentinel has it."""
        answer = ask(self.sentinels[0], "SENTINEL", "get-master-addr-by-name", NAME)
        return int(answer[1])

    def settle(self, seconds: float = 40) -> None:
        """Wait until master and replica are in step, and all Sentinels know of each other."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                info = ask(self.master(), "INFO", "replication").decode()
                known = ask(self.sentinels[0], "SENTINEL", "MASTER", NAME)
                about = dict(zip(known[::2], known[1::2], strict=True))
                if (
                    "role:master" in info
                    and "state=online" in info
                    and about[b"num-other-sentinels"] == b"2"
                    and about[b"num-slaves"] != b"0"
                    and about[b"flags"] == b"master"
                ):
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError("the Sentinels do not agree")

    def fail_over(self) -> float:
        """Kill the master; the seconds until another one was named. It comes back as a replica."""
        dead = self.master()
        self.processes[dead].kill()
        self.processes[dead].wait()
        began = time.monotonic()
        while (master := self.master()) == dead:
            if time.monotonic() - began > 60:
                raise AssertionError("no fail-over")
            time.sleep(0.05)
        took = time.monotonic() - began
        self.start(dead, master)
        return took

    def close(self) -> None:
        """End everything."""
        for process in self.processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
