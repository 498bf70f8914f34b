"""Room on the disk: when batches are refused, when downloads wait, and when all goes on again.

Two marks with a third below them, so that a disk at the edge does not switch to and fro.
"""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_bulk.errors import DiskFull

log = Logger()

EVERY = 1.0  # seconds between looks
UNSEEN = 1 / 16  # of the room that was there, taken until the system is asked again
HELD = 2.0  # seconds that a refusal counts of which df shows nothing: a quota, no inodes
FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


class NoRoom(OSError):
    """What would go beyond the hard mark was not written."""


class Space(Service):
    """The disk that has ``folder``.

    :param back: percent in use below which all goes on
    :param soft: from which batches are refused
    :param hard: from which nothing is downloaded
    """

    def __init__(self, folder: Path, clock: IReactorTime, back: int, soft: int, hard: int) -> None:
        self._folder = folder
        self._soft, self._hard, self._back = soft / 100, hard / 100, back / 100
        self.tight = self.full = False
        self._clock = clock
        self._held = self._share = 0.0
        self._claiming = threading.Lock()
        self._granted = 0.0  # bytes for which nobody needs to ask
        self._heard: list[Callable[[], object]] = []
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def startService(self) -> None:
        super().startService()
        self._looking.start(EVERY)

    def stopService(self) -> None:
        super().stopService()
        self._looking.stop()

    def listen(self, heard: Callable[[], object]) -> None:
        """Call ``heard`` when downloads may go on."""
        self._heard.append(heard)

    def _used(self, more: int = 0) -> float:
        """The share in use, as df counts it, with ``more`` bytes."""
        found = os.statvfs(self._folder)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize + more
        total = max(1, used - more + found.f_bavail * found.f_frsize)
        with self._claiming:
            self._granted = UNSEEN * (self._hard * total - used)
        return used / total

    def _look(self) -> None:
        try:
            used = self._used()
        except OSError:
            return  # the folder itself is gone; whoever needs it will say so
        before, self._share = self.full, used
        if used < self._back and self._clock.seconds() >= self._held:
            self.tight = self.full = False
        elif used >= self._hard:
            self.tight = self.full = True
        elif used >= self._soft:
            self.tight = True
        if self.full and not before:
            log.warn("{n} % of the disk are in use: downloads wait", n=round(100 * used))
        if before and not self.full:
            log.info("there is room on the disk again")
            for heard in self._heard:
                heard()

    def check(self) -> None:
        """:raises DiskFull: no batch is taken in"""
        if self.tight:
            what = f"{round(100 * self._share)} % of the disk are in use, and batches are taken in"
            raise DiskFull(f"{what} below {round(100 * self._back)} % again", retry_after=60)

    def claim(self, size: int) -> None:
        """Before ``size`` bytes are written; may be called in any thread.

        :raises OSError: they would go beyond the hard mark
        """
        with self._claiming:
            self._granted -= size
            granted = self._granted >= 0
        if not granted and self._used(size) >= self._hard:
            raise NoRoom(errno.ENOSPC, "the disk is nearly full")

    def fits(self, size: int) -> bool:
        """Whether ``size`` bytes have room between the lower mark and the upper one."""
        found = os.statvfs(self._folder)
        total = (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize
        return size < (self._hard - self._back) * total

    def refused(self, error: OSError) -> bool:
        """Whether ``error`` says that the disk is full; if so, downloads wait."""
        if error.errno not in FULL:
            return False
        if not self.full:
            log.warn("the disk is full: downloads wait")
        if not isinstance(error, NoRoom) and self._used() < self._back:
            self._held = self._clock.seconds() + HELD
        self.full = True
        return True
