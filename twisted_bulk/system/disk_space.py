"""The space on the disk: when batches are refused, and when downloads wait.

Batches are refused from ``soft`` percent of the disk in use, downloads wait from ``hard`` percent,
and both go on below ``back`` percent. ``back`` is lower than the others, so that a disk at the edge
does not change its state each second.
"""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_bulk.errors import DiskFull
from twisted_bulk.system.periodic import Periodic

log = Logger()

LOOK_SECONDS = 1.0  # between two looks at the disk
GRANTED_SHARE = 1 / 16  # of the free space that is written before the system is asked again
#: Seconds for which the disk is taken for full after a write failed though statvfs shows room: a
#: quota is used up, or there are no inodes left.
REFUSAL_SECONDS = 2.0
RETRY_AFTER = 60  # seconds after which the client of a refused batch may try again
FULL_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT))


class NoRoom(OSError):
    """Bytes were not written, as they would go beyond the hard mark."""


class DiskSpace(MultiService):
    """The disk that has ``folder``.

    ``is_tight``: batches are refused; ``is_full``: downloads wait, too.

    :param back: percent in use below which batches are taken in and downloads go on
    :param soft: percent in use from which batches are refused
    :param hard: percent in use from which nothing is downloaded
    """

    def __init__(self, folder: Path, clock: IReactorTime, back: int, soft: int, hard: int) -> None:
        super().__init__()
        self._folder = folder
        self._soft, self._hard, self._back = soft / 100, hard / 100, back / 100
        self.is_tight = self.is_full = False
        self._clock = clock
        self._refused_until = self._used_share = 0.0
        self._claiming = threading.Lock()
        self._granted = 0.0  # bytes that may be written without a look at the disk
        self._listeners: list[Callable[[], object]] = []
        Periodic(log, clock, LOOK_SECONDS, self._look, name="looking at the disk").setServiceParent(
            self
        )

    def listen(self, heard: Callable[[], object]) -> None:
        """Call ``heard`` when downloads may go on."""
        self._listeners.append(heard)

    def _used(self, more: int = 0) -> float:
        """The share of the disk in use, as df counts it, with ``more`` bytes."""
        found = os.statvfs(self._folder)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize + more
        total = max(1, used - more + found.f_bavail * found.f_frsize)
        with self._claiming:
            self._granted = GRANTED_SHARE * (self._hard * total - used)
        return used / total

    def _look(self) -> None:
        try:
            used = self._used()
        except OSError:
            return  # the folder is gone; the next write into it reports that
        was_full, self._used_share = self.is_full, used
        if used < self._back and self._clock.seconds() >= self._refused_until:
            self.is_tight = self.is_full = False
        elif used >= self._hard:
            self.is_tight = self.is_full = True
        elif used >= self._soft:
            self.is_tight = True
        if self.is_full and not was_full:
            log.warn("{n} % of the disk are in use: downloads wait", n=round(100 * used))
        if was_full and not self.is_full:
            log.info("there is room on the disk again")
            for heard in self._listeners:
                heard()

    def shown(self) -> dict[str, Any]:
        """For the operator: bytes, and what is refused for want of room."""
        found = os.statvfs(self._folder)
        total = (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize
        state = "full" if self.is_full else "tight" if self.is_tight else "ok"
        return {"total": total, "free": found.f_bavail * found.f_frsize, "state": state}

    def check(self) -> None:
        """:raises DiskFull: no batch is taken in now"""
        if self.is_tight:
            used, back = round(100 * self._used_share), round(100 * self._back)
            raise DiskFull(
                f"{used} % of the disk are in use, and batches are taken in below {back} % again",
                RETRY_AFTER,
            )

    def claim(self, size: int) -> None:
        """Ask for room before ``size`` bytes are written. Any thread may call it.

        :raises NoRoom: they would go beyond the hard mark
        """
        with self._claiming:
            self._granted -= size
            granted = self._granted >= 0
        if not granted and self._used(size) >= self._hard:
            raise NoRoom(errno.ENOSPC, "the disk is nearly full")

    def fits(self, size: int) -> bool:
        """Whether ``size`` bytes have room between the marks ``back`` and ``hard``."""
        found = os.statvfs(self._folder)
        total = (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize
        return size < (self._hard - self._back) * total

    def refused(self, error: OSError) -> bool:
        """Whether ``error`` means that the disk is full; if it does, downloads wait."""
        if error.errno not in FULL_ERRORS:
            return False
        if not self.is_full:
            log.warn("the disk is full: downloads wait")
        if not isinstance(error, NoRoom) and self._used() < self._back:
            self._refused_until = self._clock.seconds() + REFUSAL_SECONDS
        self.is_full = True
        return True
