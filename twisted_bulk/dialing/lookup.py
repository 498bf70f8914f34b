"""One look-up of a host name by the system's resolver, which blocks, and threads for look-ups."""

import socket
from functools import partial
from threading import Thread

from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool


class LookupThreads(ThreadPool):
    """Threads that the end of the process does not wait for."""

    threadFactory = staticmethod(partial(Thread, daemon=True))  # type: ignore[assignment]

    def stop(self) -> None:
        self.threads.clear()
        super().stop()


def look_up(host: str) -> list[str]:
    """All addresses of ``host`` from the system's resolver. Blocks.

    :raises OSError: there is none, or no server could be asked
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_no_answer(failure: Failure) -> bool:
    """Whether no server could be asked, so that nothing is known about the name."""
    return bool(failure.check(socket.gaierror)) and failure.value.errno == socket.EAI_AGAIN  # type: ignore[union-attr]
