"""The folder of one worker process in ``spool/``, and how its finished zips are published."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from twisted_bulk.storage.names import ATTEMPT, LEFT, LOCK, job_name, leave
from twisted_bulk.system import disk
from twisted_bulk.system.data_folder import share


@contextlib.contextmanager
def _of_dead_worker(folder: Path) -> Iterator[None]:
    """The folder is nobody's, or its process has ended.

    :raises OSError: its process lives
    """
    if folder.name == LEFT:
        yield
        return
    lock = disk.lock(folder / LOCK, create=False)
    try:
        yield
    finally:
        os.close(lock)


class Workspace:
    """The folder of this process in ``spool/``.

    :param worker: id of this process
    :param lock: the locked file in it, which :meth:`close` closes
    :param group: number of the group that may read published files; None: nobody else may
    :param node: the name of the data folder
    """

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
        """A folder for an attempt at a job, with the unfinished work of the one before."""
        key = job_name(job)
        folder = self.path / f"{key}{ATTEMPT}{secrets.token_hex(8)}"
        for found in (self._spool / LEFT / key, *self._spool.glob(f"*/{key}{ATTEMPT}*")):
            with contextlib.suppress(OSError), _of_dead_worker(found.parent):
                found.rename(folder)
                break
        else:
            folder.mkdir()
        with contextlib.suppress(OSError):
            (self._spool / LEFT).rmdir()  # if that was the last one
        return folder

    def leave(self, folder: Path) -> None:
        """An attempt has failed: the next one may go on with its work."""
        leave(folder, self._spool)

    def publish(self, folder: Path, batch: str, notes: Mapping[str, bytes]) -> str:
        """Make finished zips visible, durably. Blocks.

        :param folder: of the attempt; it has the zips, and is moved
        :param batch: the batch's key
        :param notes: contents of small files beside the zips, by name
        :returns: the name of the folder in ``public/``
        """
        for name, content in notes.items():
            with open(folder / name, "xb") as note:
                note.write(content)
                note.flush()
                os.fsync(note.fileno())
        for path in (folder, *folder.iterdir()):
            share(path, self._group)
        disk.sync_folder(folder)
        target = self.public / f"{batch}-{secrets.token_hex(16)}"
        folder.rename(target)
        disk.sync_folder(self.public)
        return target.name

    def withdraw(self, name: str) -> None:
        """Undo a :meth:`publish` that came too late to count: nobody knows the links."""
        shutil.rmtree(self.public / name, ignore_errors=True)

    def close(self) -> None:
        """Remove the folder: this process has no work any more.

        Acknowledgements that could not be delivered to the queue stay, for another process.
        """
        if not any(self.path.glob("*.acks")):
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
