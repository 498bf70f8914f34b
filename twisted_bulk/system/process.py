"""This process: its clock, its memory, its open files, its id."""

import ctypes
import gc
import os
import re
import resource
import secrets
import socket
import time
from dataclasses import dataclass
from typing import Any

#: Python code that runs ``twistd``; its arguments follow it.
RUN_TWISTD = "from twisted.scripts.twistd import run; run()"

#: Allocations after which Python looks for cycles in each of its three generations. Python's own
#: numbers are 700, 10, 10.
YOUNG_OBJECTS, MIDDLE_ROUNDS, OLD_ROUNDS = 7_000, 10, 10
#: Bytes from which malloc maps a block of its own, which goes back to the kernel when it is freed.
MAP_BYTES = 4 << 20
#: Free bytes at the end of the heap, from which malloc gives these back to the kernel.
TRIM_BYTES = 64 << 20
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of <malloc.h>


def use_monotonic_clock(reactor: Any) -> None:
    """Make every timer of ``reactor`` follow ``time.monotonic``.

    Twisted's reactors count in ``time.time``, so a step of the wall clock stops or hurries all
    timers (twisted#2424). Calls that are already pending keep the delay they have left.
    """
    if reactor.seconds is time.monotonic:
        return
    shift = time.monotonic() - reactor.seconds()
    for call in reactor.getDelayedCalls():
        call.time += shift
        call.seconds = time.monotonic
    reactor.seconds = time.monotonic


def keep_buffers() -> None:
    """Let malloc keep the memory of freed buffers for the next ones.

    glibc by itself gives a buffer of a few hundred kilobytes back to the kernel at once, and takes
    it again page by page. That is a sixth of the time that an archive of recordings needs.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl and others have none
        mallopt(_MMAP_THRESHOLD, MAP_BYTES)
        mallopt(_TRIM_THRESHOLD, TRIM_BYTES)


def collect_rarely() -> None:
    """Let Python look for garbage in cycles less often, and not among objects that stay for good.

    Requests under way are alive whenever Python looks at them: that would take a sixth of the
    intake's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, MIDDLE_ROUNDS, OLD_ROUNDS)


@dataclass(frozen=True)
class FileShares:
    """How many of the files that a process may have open each use may take, at most.

    :param connections: connections to both ports together
    :param waiting: downloads that wait for their servers
    :param callbacks: callbacks on their way
    :param idle: connections that are kept for another request
    :param parts: archives that are being written
    """

    connections: int
    waiting: int
    callbacks: int
    idle: int
    parts: int


def share_files(most: int) -> FileShares:
    """Divide the files of a process that may have ``most`` open (``ulimit -n``).

    A connection is one file. An eighth is given to nobody: the process itself needs it for its log,
    the queue, downloads that have a place and members that are written.
    """
    sixteenth = most // 16
    return FileShares(
        connections=8 * sixteenth,
        waiting=3 * sixteenth,
        callbacks=sixteenth,
        idle=sixteenth,
        parts=sixteenth,
    )


def files_allowed() -> int:
    """How many files this process may have open, sockets included."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 30 if most == resource.RLIM_INFINITY else most


def host_name() -> str:
    """This host's name as a part of file names: 60 of ``A-Za-z0-9.-_`` at most."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())[:60]


def new_worker_id() -> str:
    """An id of this process that no process had before: host name, process id, random digits."""
    return f"{host_name()}-{os.getpid()}-{secrets.token_hex(6)}"
