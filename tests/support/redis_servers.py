"""Real servers for tests: started on demand, ended with the test."""

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import hiredis
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, TestCase

from tests.support.reactor import reactor
from twisted_bulk.brokers.redis import Redis, connection
from twisted_bulk.brokers.server_program import candidates


def free_port() -> int:
    """A TCP port of loopback that is free now.

    It is below those that the kernel gives to outgoing connections: one of these could take it
    before the server does.
    """
    below = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_002, below)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def ask(where: int | Path, *words: str) -> Any:
    """One command to a Redis on a port of loopback, or a unix socket.

    :raises OSError: nobody answers there
    """
    with socket.socket(socket.AF_INET if isinstance(where, int) else socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(("127.0.0.1", where) if isinstance(where, int) else str(where))
        sock.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]
        reader = hiredis.Reader()
        while (reply := reader.gets()) is False:
            data = sock.recv(65536)
            if not data:
                raise OSError("hung up")
            reader.feed(data)
        return reply


def need(program: str) -> str:
    """The path of ``program``; the test is skipped where the machine lacks it."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        raise SkipTest(f"{program} is not installed")
    return found


class RedisServer:
    """A Valkey or Redis on a unix socket in a folder of its own."""

    def __init__(self, *flags: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bw"))
        self.socket = self.folder / "s"
        self.flags = flags
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start (again) on the same folder, and wait until it answers."""
        flags = f"--port 0 --unixsocket {self.socket} --dir {self.folder} --appendonly yes"
        flags += f" --logfile {self.folder}/log"
        program = candidates()[0]
        self.process = subprocess.Popen([program, *flags.split(), "--save", "", *self.flags])
        end = time.monotonic() + 10
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(str(self.socket))
                    sock.sendall(b"PING\r\n")
                    if sock.recv(100)[:7] in (b"+PONG\r\n", b"-NOAUTH"):
                        return
            except OSError:
                pass
            if time.monotonic() > end:
                raise AssertionError((self.folder / "log").read_text())
            time.sleep(0.01)

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """End the process and wait until it is gone."""
        self.process.send_signal(sig)
        self.process.wait()

    def signal(self, sig: int) -> None:
        """Send a signal, such as SIGSTOP."""
        os.kill(self.process.pid, sig)

    def close(self) -> None:
        """End it and remove its folder."""
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder)


_shared: list[RedisServer] = []


def shared_redis() -> RedisServer:
    """One server for all tests that do not hurt it; trial has no class-level set-up."""
    if not _shared:
        _shared.append(RedisServer())
        atexit.register(_shared[0].close)
    return _shared[0]


class RedisTestCase(TestCase):
    """Tests with an empty database on the shared server."""

    timeout = 30
    redis: Redis

    async def setUp(self) -> None:  # type: ignore[override]
        self.redis = self.connect(shared_redis().url)
        await self.redis.command("FLUSHALL")

    def connect(self, url: str) -> Redis:
        """A connection that ends with the test."""
        redis = connection(reactor, url)
        redis.connect()
        self.addCleanup(lambda: Deferred.fromCoroutine(redis.disconnect()))
        return redis
