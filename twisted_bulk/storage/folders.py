"""``spool/`` and ``public/`` of a data folder: who works in them, what stands there, what goes."""

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twisted_bulk.storage.names import (
    ATTEMPT,
    LEFT,
    LOCK,
    NODE,
    PUBLIC_FOLDER,
    job_name,
    leave,
)
from twisted_bulk.storage.workspace import Workspace
from twisted_bulk.system import disk
from twisted_bulk.system.process import host_name, new_worker_id


def _node_digits(data: Path) -> str:
    """Digits that tell this data folder from others of its host; they are kept in it."""
    path = data / NODE
    with contextlib.suppress(FileNotFoundError):
        return path.read_text().strip()
    new = path.with_name(f".{NODE}-{secrets.token_hex(4)}")
    new.write_text(secrets.token_hex(3) + "\n")
    with contextlib.suppress(FileExistsError):  # another process of this node was faster
        os.link(new, path)
    new.unlink()
    return path.read_text().strip()


@dataclass(frozen=True)
class Published:
    """A folder of ``public/``.

    :param batch: the batch's key
    :param files: the names of its files; none: they are gone
    :param age: seconds since the folder was changed
    """

    path: Path
    batch: str
    files: tuple[str, ...]
    age: float


class DataFolders:
    """``spool/`` and ``public/`` of one data folder.

    ``node`` is the name of this data folder among those of all nodes: the host's name, and digits
    that tell it from other data folders of the host.

    :param group: number of the group that may read published files; None: nobody else may
    """

    def __init__(self, data: Path, group: int | None = None) -> None:
        self._group = group
        self.public = data / "public"
        self._spool = data / "spool"
        for folder in (self.public, self._spool):
            folder.mkdir(parents=True, exist_ok=True)
        self.node = f"{host_name()}-{_node_digits(data)}"

    def enlist(self) -> "Workspace":
        """Make a locked folder for this process, named by a new worker id."""
        name = new_worker_id()
        new = self._spool / f".{name}"
        new.mkdir()
        lock = disk.lock(new / LOCK, wait=True)
        path = new.rename(self._spool / name)
        return Workspace(name, path, self.public, lock, self._spool, self._group, self.node)

    def worker_of(self, pid: int) -> str:
        """The worker id of a process of this host that has a folder, or empty."""
        found = next(self._spool.glob(f"{host_name()}-{pid}-*"), None) if pid else None
        return found.name if found else ""

    def dead_workers(self, worker: str = "*") -> Iterator[tuple[str, Path]]:
        """Worker ids of processes that ended without clearing up, and their folders.

        A folder is locked until the next one is asked for, see :meth:`remove_worker`.

        :param worker: a glob pattern, or the id of one worker
        """
        for path in list(self._spool.glob(worker)):
            try:
                lock = disk.lock(path / LOCK, create=False)
            except OSError:
                # Its process lives; or it is being made, or removed by another node; or it cannot
                # be opened now, and the other folders must be looked at nevertheless.
                continue
            try:
                yield path.name.removeprefix("."), path
            finally:
                os.close(lock)

    def remove_worker(self, path: Path) -> None:
        """Remove the folder of a dead worker; its unfinished work is kept for the next attempts."""
        for folder in path.glob(f"*{ATTEMPT}*"):
            leave(folder, self._spool)
        shutil.rmtree(path, ignore_errors=True)

    def folder_of(self, job: str) -> Path | None:
        """The folder of the attempt at a job that runs on this node, if one does."""
        pattern = f"*/{job_name(job)}{ATTEMPT}*"
        return next((path for path in self._spool.glob(pattern) if path.parent.name != LEFT), None)

    def left(self) -> Iterator[tuple[str, Path]]:
        """Unfinished work that no attempt goes on with: the batch's key, and the folder."""
        with contextlib.suppress(FileNotFoundError):
            for path in list((self._spool / LEFT).iterdir()):
                yield path.name.rpartition("@")[0], path
        with contextlib.suppress(OSError):  # folders that are still wanted stay in it
            (self._spool / LEFT).rmdir()

    def published(self, batch: str = "") -> Iterator[Published]:
        """All folders of ``public/``, or those of one batch."""
        now = time.time()
        for path in list(self.public.iterdir()):
            match = PUBLIC_FOLDER.fullmatch(path.name)
            if match is None or (batch and match[1] != batch):
                continue
            with contextlib.suppress(FileNotFoundError):
                files = tuple(sorted(os.listdir(path)))
                yield Published(path, match[1], files, now - path.stat().st_mtime)

    def withdraw(self, path: Path, pattern: str = "*") -> None:
        """Remove published files; the empty folder stays, so that their links answer 410."""
        for file in list(path.glob(pattern)):
            file.unlink(missing_ok=True)
