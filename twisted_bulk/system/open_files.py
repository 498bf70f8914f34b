"""How the files that a process may have open (``ulimit -n``) are shared out.

A connection is one of these files. What is not shared out, an eighth, is for the process itself:
its log, the queue, downloads that have a place, members that are written.
"""

import resource
from dataclasses import dataclass


@dataclass(frozen=True)
class Shares:
    """So many files at once, at most.

    :param connections: to both ports together
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


def share(most: int) -> Shares:
    """The shares of a process that may have ``most`` files open."""
    piece = most // 16
    return Shares(
        connections=8 * piece, waiting=3 * piece, callbacks=piece, idle=piece, parts=piece
    )


def allowed() -> int:
    """Files that this process may have open, sockets included."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 30 if most == resource.RLIM_INFINITY else most
