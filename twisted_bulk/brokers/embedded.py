"""The embedded server: a Valkey or Redis that this daemon starts, and starts again when it ends.

Its folder is ``<data>/redis``. The server process itself has the locked file ``redis/lock`` open,
so the lock lives exactly as long as the server does, however the daemon ended. A daemon that finds
the lock taken uses the server that is there. There are never two servers on one append-only file.

Each daemon that uses the server shares a lock on ``redis/users``. A daemon that stops while others
have that lock leaves the server to them; the last one ends it. On Linux the server ends with the
daemon that started it, however that ends; another daemon, if there is one, then starts its own.
"""

import contextlib
import fcntl
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_bulk.brokers.redis import Redis
from twisted_bulk.brokers.redis_url import Address
from twisted_bulk.brokers.server_program import choose, flags, note_writer
from twisted_bulk.brokers.server_socket import socket_path
from twisted_bulk.errors import QueueUnavailable
from twisted_bulk.system import disk
from twisted_bulk.system.periodic import pause_after

log = Logger()

RESTART_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # seconds before a start, by failures in a row
STOP_SECONDS = 10.0  # that a stop waits for the server's end; then it says so, and goes on
ADOPTED_LOOK_SECONDS = 0.5  # between looks whether another daemon's server has ended
# A session of its own: a ctrl-C meant for the daemon must not reach the server. And, as prctl(2)
# says of PR_SET_PDEATHSIG (1): SIGTERM when the process that started it has ended.
_LAUNCH = """
import ctypes, os, signal, sys
os.setsid()
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the daemon has ended")
os.execv(sys.argv[2], sys.argv[2:])
"""


class _Server(ProcessProtocol):
    """The server's process; ``ended`` fires with how it ended."""

    def __init__(self) -> None:
        self.ended: Deferred[str] = Deferred()

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(reason.getErrorMessage())


class Embedded(Service):
    """Keeps one server running on ``folder`` for as long as the service runs.

    ``store`` is the connection to it, started and stopped with the service.

    :param memory: bytes that it may use for data; 0: any number
    :raises ConfigError: there is no server program on this machine, or none that can read the files
        in the folder
    """

    ports: Collection[int] = ()

    def __init__(self, reactor: Any, folder: Path, memory: int = 0) -> None:
        self._memory = memory
        folder.mkdir(parents=True, exist_ok=True)
        choose(folder)
        self._reactor = reactor
        self._folder = folder
        self._socket = socket_path(folder)
        endpoint = UNIXClientEndpoint(reactor, str(self._socket), timeout=5)
        address = Address(path=str(self._socket))
        self.store = Redis(reactor, endpoint, address, "the embedded server")
        self._process: IProcessTransport | None = None
        self._user: int | None = None
        self._keeping: Deferred[None] | None = None

    @property
    def url(self) -> str:
        """Where other processes of this host find the server."""
        return f"unix://{quote(str(self._socket.absolute()))}"

    def startService(self) -> None:
        super().startService()
        self._user = os.open(self._folder / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._user, fcntl.LOCK_SH)
        self.store.connect()
        self._keeping = Deferred.fromCoroutine(self._keep())
        self._keeping.addErrback(lambda f: f.trap(CancelledError))

    def stopService(self) -> Deferred[None]:
        """End the server, whoever started it, unless others use it."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        if self._is_shared():
            log.info("another process uses {folder}, and keeps a server", folder=self._folder)
            await self.store.disconnect()
            return
        lock = self._lock()
        if lock is None:
            if self._process is not None:
                self._process.signalProcess("TERM")
            else:
                await self._shutdown()
            end = self._reactor.seconds() + STOP_SECONDS
            while lock is None and self._reactor.seconds() < end:
                await deferLater(self._reactor, 0.02)
                lock = self._lock()
        if lock is None:
            log.warn("the embedded server did not end within {s} s", s=STOP_SECONDS)
        else:
            if self._socket.parent != self._folder:
                with contextlib.suppress(OSError):
                    self._socket.unlink(missing_ok=True)
                    self._socket.parent.rmdir()
            os.close(lock)
        await self.store.disconnect()

    def _is_shared(self) -> bool:
        """Whether other daemons use the server; gives up this daemon's own share of the lock."""
        assert self._user is not None
        try:
            fcntl.flock(self._user, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(self._user)
            self._user = None
        return False

    async def _shutdown(self) -> None:
        with contextlib.suppress(QueueUnavailable):  # it closes the connection and answers nothing
            await self.store.command("SHUTDOWN", deadline=2)

    def _lock(self) -> int | None:
        """The server's lock, open; None: a server runs, whoever started it."""
        try:
            return disk.lock(self._folder / "lock")
        except BlockingIOError:
            return None

    async def _keep(self) -> None:
        while True:
            try:
                await self._keep_running()
            except CancelledError:
                raise
            except Exception:  # no processes left, a full disk: the next start may work
                log.failure("the embedded server cannot be started")
                await deferLater(self._reactor, RESTART_PAUSES[-1])

    async def _keep_running(self) -> None:
        """Start a server whenever none runs on the folder."""
        failures, adopted = 0, False
        while True:
            socket_path(self._folder)  # a private folder may have gone with an earlier server
            lock = self._lock()
            if lock is None:
                if not adopted:
                    log.info("a server already runs on {folder}", folder=self._folder)
                adopted = True
                await deferLater(self._reactor, ADOPTED_LOOK_SECONDS)
                continue
            adopted = False
            try:
                started = self._reactor.seconds()
                ended = await self._spawn(lock)
            finally:
                os.close(lock)
            how = await ended
            self._process = None
            lasted = self._reactor.seconds() - started
            failures = 0 if lasted > RESTART_PAUSES[-1] else failures + 1
            delay = pause_after(RESTART_PAUSES, failures)
            log.error(
                "the embedded server ended ({how}); its log is {path}; again in {delay} s",
                how=how,
                path=self._folder / "server.log",
                delay=delay,
            )
            await deferLater(self._reactor, delay)

    async def _spawn(self, lock: int) -> Deferred[str]:
        program = await deferToThread(choose, self._folder)
        arguments = flags(program.kind, program.version, self._folder, self._socket, self._memory)
        launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, f"{os.getpid()}"]
        note_writer(self._folder, program)
        log.info("starting {program} on {folder}", program=program.path, folder=self._folder)
        server = _Server()
        with open(self._folder / "server.log", "ab") as output, open(os.devnull, "rb") as nothing:
            self._process = self._reactor.spawnProcess(
                server,
                sys.executable,
                [*launch, program.path, *arguments],
                env={"PATH": os.environ.get("PATH", ""), "LANG": "C"},
                # The lock is descriptor 3: the server never uses it, and has it open until it ends.
                childFDs={
                    0: nothing.fileno(),
                    1: output.fileno(),
                    2: output.fileno(),
                    3: lock,
                },
            )
        return server.ended
