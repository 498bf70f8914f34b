"""Twisted's TCP transports: fewer system calls within one turn of the reactor; who ended one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.tcp import Connection


@contextmanager
def prompt(transport: Any) -> Iterator[None]:
    """At the end of the block, send at once the bytes that were written in it.

    Twisted would ask epoll whether the socket can be written, and take that back later. The bytes
    that the kernel does not take are sent in Twisted's way.
    """
    if not isinstance(transport, Connection) or "startWriting" in vars(transport):
        yield  # with TLS, or within another block
        return
    asked: list[None] = []
    vars(transport)["startWriting"] = lambda: asked.append(None)
    try:
        yield
    finally:
        del vars(transport)["startWriting"]
        if asked:
            # An error comes again in the reactor's turn, and is handled there.
            sent = bool(transport._tempDataLen) and transport.doWrite() is None
            if not sent or transport.dataBuffer:
                transport.startWriting()


@contextmanager
def steady(transport: Any) -> Iterator[None]:
    """At the end of the block, stop reading if the last call in it was ``stopReading``.

    Twisted's client stops reading at the end of the headers and starts again for the body. Each
    would be a system call.
    """
    if not isinstance(transport, Connection):
        yield
        return
    reading = True

    def stop() -> None:
        nonlocal reading
        reading = False

    def start() -> None:
        nonlocal reading
        reading = True

    vars(transport).update(stopReading=stop, startReading=start)
    try:
        yield
    finally:
        del vars(transport)["stopReading"], vars(transport)["startReading"]
        if not reading:
            transport.stopReading()


def is_cancelled(broken: Exception) -> bool:
    """Whether this program ended a request of Twisted's client, for example after a time-out."""
    return any(reason.check(CancelledError) for reason in getattr(broken, "reasons", ()))
