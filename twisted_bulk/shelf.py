"""The folders: ``spool/`` for unfinished work, ``public/`` for what is finished.

A finished zip lies in a folder of its own, ``public/<batch>-<128 random bits>/``,
beside a file ``sha256`` that ``sha256sum -c`` understands. The folder is moved there
as a whole, so a zip is visible complete or not at all. An empty folder means: gone.

Each worker process has a folder in ``spool/``, named by its worker id, with a lock
that lives as long as the process does.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DIGEST = "sha256"
LOCK = "lock"
FOLDER = re.compile(r"([A-Za-z0-9._~-]{1,128})-[0-9a-f]{32}")
FILE = re.compile(r"[A-Za-z0-9._~-]{1,200}\.zip")


def sync(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Published:
    """A folder of ``public/``; ``files`` is empty when its zip is gone."""

    path: Path
    batch: str
    files: tuple[str, ...]
    age: float

    @property
    def links(self) -> list[str]:
        """Paths on the file port."""
        return [f"{self.path.name}/{name}" for name in self.files if name != DIGEST]


class Shelf:
    """``spool/`` and ``public/`` of one data folder."""

    def __init__(self, data: Path) -> None:
        self.public = data / "public"
        self._spool = data / "spool"
        for folder in (self.public, self._spool):
            folder.mkdir(parents=True, exist_ok=True)

    def enlist(self) -> "Workspace":
        """A folder for this process, with an id that no process had before."""
        host = re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())[:60]
        name = f"{host}-{os.getpid()}-{secrets.token_hex(6)}"
        young = self._spool / f".{name}"
        young.mkdir()
        lock = os.open(young / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = young.rename(self._spool / name)
        return Workspace(name, path, self.public, lock)

    def dead_workers(self) -> Iterator[tuple[str, Path]]:
        """Processes that ended without clearing up, with their folders.

        A folder goes after its turn, unless the caller gave up on it.
        """
        for path in list(self._spool.iterdir()):
            try:
                lock = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                continue  # being made, or being removed by another node
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield path.name.removeprefix("."), path
                shutil.rmtree(path, ignore_errors=True)
            except BlockingIOError:
                pass
            finally:
                os.close(lock)

    def published(self, batch: str = "") -> Iterator[Published]:
        """All folders of ``public/``, or those of one batch."""
        now = time.time()
        for path in list(self.public.iterdir()):
            match = FOLDER.fullmatch(path.name)
            if match is None or (batch and match[1] != batch):
                continue
            with contextlib.suppress(FileNotFoundError):
                files = tuple(sorted(os.listdir(path)))
                yield Published(path, match[1], files, now - path.stat().st_mtime)

    def withdraw(self, path: Path) -> None:
        """Remove a published zip; its empty folder stays, to say that it is gone."""
        for file in list(path.iterdir()):
            file.unlink(missing_ok=True)


class Workspace:
    """This process's folder in ``spool/``."""

    def __init__(self, worker: str, path: Path, public: Path, lock: int) -> None:
        self.worker = worker
        self.path = path
        self._public = public
        self._lock = lock

    def make_folder(self) -> Path:
        """A new empty folder for one attempt at one part."""
        folder = self.path / secrets.token_hex(8)
        folder.mkdir()
        return folder

    def publish(self, folder: Path, batch: str, file: str, sha256: str) -> str:
        """Make a finished zip visible, durably. Blocks.

        :returns: its path on the file port
        """
        with open(folder / DIGEST, "x", encoding="ascii") as digest:
            digest.write(f"{sha256}  {file}\n")
            digest.flush()
            os.fsync(digest.fileno())
        sync(folder)
        target = self._public / f"{batch}-{secrets.token_hex(16)}"
        folder.rename(target)
        sync(self._public)
        return f"{target.name}/{file}"

    def withdraw(self, link: str) -> None:
        """Undo a :meth:`publish` that came too late; nobody knows the link."""
        shutil.rmtree(self._public / link.split("/")[0], ignore_errors=True)

    def close(self) -> None:
        """Remove the folder: this process holds nothing any more.

        What could not be delivered to the queue stays, for the next process to find.
        """
        if not any(self.path.glob("*.acks")):
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
