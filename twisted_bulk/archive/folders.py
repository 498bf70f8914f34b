"""The folders: ``spool/`` for unfinished work, ``public/`` for what is finished.

The finished zips of a part lie in a folder of their own, ``public/<batch>-<128 random
bits>/``, each beside a file ``<zip>.sha256`` that ``sha256sum -c`` understands, and all
beside their manifest; a part without a zip has a manifest only. The folder is moved
there as a whole, so a zip is visible complete or not at all. An empty folder means: gone.

Each worker process has a folder in ``spool/``, named by its worker id, with a lock
that lives as long as the process does. It has a folder for each attempt at a job; what an
attempt leaves unfinished goes to ``spool/left/<job>`` for the next one.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from twisted_bulk.system.data_folder import share
from twisted_bulk.system.disk import sync_folder

DIGEST = ".sha256"
JOURNAL = "journal"  # the name of an archive's, in its folder
LOCK = "lock"
NUMBER = "node"
LEFT = "left"
OF = "~of~"  # between the name of a job and what tells its attempts apart
#: The batch's key is the name of its token, if there is one, and its id.
FOLDER = re.compile(r"((?:[A-Za-z0-9._~-]{1,64}:)?[A-Za-z0-9._~-]{1,128})-[0-9a-f]{32}")
FILE = re.compile(r"[A-Za-z0-9._~-]{1,200}\.zip")


def _number_of(data: Path) -> str:
    """What tells this data folder from others of its host; kept in it."""
    path = data / NUMBER
    with contextlib.suppress(FileNotFoundError):
        return path.read_text().strip()
    young = path.with_name(f".{NUMBER}-{secrets.token_hex(4)}")
    young.write_text(secrets.token_hex(3) + "\n")
    with contextlib.suppress(FileExistsError):  # another process of this node was faster
        os.link(young, path)
    young.unlink()
    return path.read_text().strip()


def node_name() -> str:
    """This host's name, as ids of workers begin."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())[:60]


def members_kept(worker: Path) -> dict[str, int]:
    """How many members a worker has put into archives that are unfinished, by the job's id."""
    kept = {}
    for folder in worker.glob(f"*{OF}*"):
        group, _, part = folder.name.rpartition(OF)[0].rpartition(".")
        with contextlib.suppress(OSError):
            kept[f"{group}/{part}"] = (folder / JOURNAL).read_bytes().count(b"\n")
    return kept


def leave(folder: Path, spool: Path) -> None:
    """Keep unfinished work for the next attempt at its job, if there is any."""
    target = spool / LEFT / folder.name.rpartition(OF)[0]
    with contextlib.suppress(OSError):
        if (folder / JOURNAL).stat().st_size:
            target.parent.mkdir(exist_ok=True)
            folder.rename(target)  # not over one that has something in it
            return
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _dead(worker: Path) -> Iterator[None]:
    """:raises OSError: the process whose folder this is lives"""
    if worker.name == LEFT:
        yield
        return
    lock = os.open(worker / LOCK, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


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
        return [f"{self.path.name}/{name}" for name in self.files if name.endswith(".zip")]


class DataFolders:
    """``spool/`` and ``public/`` of one data folder.

    ``node`` is the name of this data folder among those of all nodes.

    :param group: may read what is published, beside this user
    """

    def __init__(self, data: Path, group: int | None = None) -> None:
        self._group = group
        self.public = data / "public"
        self._spool = data / "spool"
        for folder in (self.public, self._spool):
            folder.mkdir(parents=True, exist_ok=True)
        self.node = f"{node_name()}-{_number_of(data)}"

    def enlist(self) -> "Workspace":
        """A folder for this process, with an id that no process had before."""
        name = f"{node_name()}-{os.getpid()}-{secrets.token_hex(6)}"
        young = self._spool / f".{name}"
        young.mkdir()
        lock = os.open(young / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = young.rename(self._spool / name)
        return Workspace(name, path, self.public, lock, self._spool, self._group, self.node)

    def worker_of(self, pid: int) -> str:
        """The id of a process of this host that has a folder, or empty."""
        found = next(self._spool.glob(f"{node_name()}-{pid}-*"), None) if pid else None
        return found.name if found else ""

    def dead_workers(self, worker: str = "*") -> Iterator[tuple[str, Path]]:
        """Processes that ended without clearing up, with their folders; or one of them.

        A folder goes after its turn, unless the caller gave up on it.
        """
        for path in list(self._spool.glob(worker)):
            try:
                lock = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                continue  # being made, or being removed by another node
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield path.name.removeprefix("."), path
                for folder in path.glob(f"*{OF}*"):
                    leave(folder, self._spool)
                shutil.rmtree(path, ignore_errors=True)
            except BlockingIOError:
                pass
            finally:
                os.close(lock)

    def folder_of(self, job: str) -> Path | None:
        """The folder of the attempt at a job that runs on this node, if one does."""
        pattern = f"*/{job.replace('/', '.')}{OF}*"
        return next((path for path in self._spool.glob(pattern) if path.parent.name != LEFT), None)

    def left(self) -> Iterator[tuple[str, Path]]:
        """Unfinished work that nobody has taken up: the job's group, and the folder."""
        with contextlib.suppress(FileNotFoundError):
            for path in list((self._spool / LEFT).iterdir()):
                yield path.name.rpartition("@")[0], path
        with contextlib.suppress(OSError):  # what is still wanted stays in it
            (self._spool / LEFT).rmdir()

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

    def withdraw(self, path: Path, pattern: str = "*") -> None:
        """Remove published files; an empty folder stays, to say that they are gone."""
        for file in list(path.glob(pattern)):
            file.unlink(missing_ok=True)


class Workspace:
    """This process's folder in ``spool/``."""

    def __init__(
        self,
        worker: str,
        path: Path,
        public: Path,
        lock: int,
        spool: Path,
        group: int | None = None,
        node: str = "",
    ) -> None:
        self._group = group
        self.node = node
        self.worker = worker
        self.path = path
        self.public = public
        self._lock = lock
        self._spool = spool

    def make_folder(self, job: str) -> Path:
        """A folder for one attempt at a job, with what an earlier one has left."""
        key = job.replace("/", ".")
        folder = self.path / f"{key}{OF}{secrets.token_hex(8)}"
        for found in (self._spool / LEFT / key, *self._spool.glob(f"*/{key}{OF}*")):
            with contextlib.suppress(OSError), _dead(found.parent):
                found.rename(folder)
                break
        else:
            folder.mkdir()
        with contextlib.suppress(OSError):
            (self._spool / LEFT).rmdir()  # if that was the last one
        return folder

    def leave(self, folder: Path) -> None:
        """An attempt has failed; the next one may go on with what it has done."""
        leave(folder, self._spool)

    def publish(self, folder: Path, batch: str, notes: Mapping[str, bytes]) -> str:
        """Make finished zips visible, durably. Blocks.

        :param notes: small files beside them, by name
        :returns: the folder's name on the file port
        """
        for name, content in notes.items():
            with open(folder / name, "xb") as note:
                note.write(content)
                note.flush()
                os.fsync(note.fileno())
        for path in (folder, *folder.iterdir()):
            share(path, self._group)
        sync_folder(folder)
        target = self.public / f"{batch}-{secrets.token_hex(16)}"
        folder.rename(target)
        sync_folder(self.public)
        return target.name

    def withdraw(self, name: str) -> None:
        """Undo a :meth:`publish` that came too late; nobody knows the links."""
        shutil.rmtree(self.public / name, ignore_errors=True)

    def close(self) -> None:
        """Remove the folder: this process holds nothing any more.

        What could not be delivered to the queue stays, for the next process to find.
        """
        if not any(self.path.glob("*.acks")):
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
