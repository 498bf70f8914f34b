"""Fewer calls of the system for what one turn of the reactor does with a TCP transport."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.tcp import Connection


@contextmanager
def prompt(transport: Any) -> Iterator[None]:
    """Send what is written meanwhile at once, as far as that goes.

    Twisted would ask the system when it may write, and take that back: two calls of it.
    """
    if not isinstance(transport, Connection) or "startWriting" in vars(transport):
        yield  # TLS; or within another such
        return
    asked: list[None] = []
    vars(transport)["startWriting"] = lambda: asked.append(None)
    try:
        yield
    finally:
        del vars(transport)["startWriting"]
        if asked:
            # What goes wrong now will go wrong again, in the reactor's turn.
            sent = bool(transport._tempDataLen) and transport.doWrite() is None
            if not sent or transport.dataBuffer:
                transport.startWriting()


@contextmanager
def steady(transport: Any) -> Iterator[None]:
    """While what was read is handled: reading that is stopped and goes on again was not stopped.

    Twisted's client stops at the end of the headers, until somebody takes the body.
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
