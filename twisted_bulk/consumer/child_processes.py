"""Plain functions in child processes, so that a time-out can kill them.

A child is this module run as a program. It imports the function by its name, says so with an empty
reply, and then answers one request after the other. A request is a length and a payload. The reply
is a length, then ``+`` and the value as JSON, ``-`` and the error, or ``!`` and what the function
raised of task.py, as JSON. The child ends when its parent ends, also by ``kill -9`` and in the
middle of a call: a thread waits for the pipe to end.
"""

import importlib
import json
import os
import runpy
import struct
import sys
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeadlinePassed
from twisted.python.failure import Failure

from twisted_bulk.calls.arguments import decode, encode_value
from twisted_bulk.consumer.task import Fatal, GiveBack, Retry, TookTooLong, said
from twisted_bulk.system.child_process import ChildProcess

LENGTH = struct.Struct(">I")  # stands before each request and each reply
REQUESTS, REPLIES = 3, 4  # descriptors in the child
MAIN = "__mp_main__"  # the __name__ of the script in a child; its `__main__` block does not run
START_SECONDS = 60.0  # for a child to import its function
ERROR_LENGTH = 500  # characters of an error in a reply


class FunctionFailed(Exception):
    """The function raised an error; the message has it."""


class ProcessDied(Exception):
    """The process ended before the function did."""


def name_of(function: Callable[..., Any]) -> list[str]:
    """How a child finds ``function``: its module, its qualified name, and a script's file.

    :raises ValueError: it cannot be imported by name
    """
    module, name = function.__module__, function.__qualname__
    if "<" in name:
        raise ValueError(f"{name} cannot run in a process of its own: it has no name to import")
    path = getattr(sys.modules.get(module), "__file__", None) if module == "__main__" else None
    return [module, name, os.path.abspath(path) if path else ""]


class _Child(ChildProcess):
    """One child: one call at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._calling: Deferred[bytes] | None = None
        self._received = bytearray()
        self.ready: Deferred[None] = Deferred(lambda _: self.kill())  # the function is imported

    def call(self, payload: bytes) -> Deferred[bytes]:
        """The function's value, as JSON. Cancelling it kills the process."""
        assert self.transport is not None
        self._calling = Deferred(lambda _: self.kill())
        self.transport.writeToChild(REQUESTS, LENGTH.pack(len(payload)) + payload)
        return self._calling

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._received += data
        while len(self._received) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._received)
            end = LENGTH.size + length
            if len(self._received) < end:
                return
            reply = bytes(self._received[LENGTH.size : end])
            del self._received[:end]
            self._answer(reply)

    def _answer(self, reply: bytes) -> None:
        if not reply:
            if not self.ready.called:
                self.ready.callback(None)
            return
        calling, self._calling = self._calling, None
        if calling is None or calling.called:
            return
        if reply[:1] == b"+":
            calling.callback(reply[1:])
        elif reply[:1] == b"!":
            calling.errback(_raised(*json.loads(reply[1:])))
        else:
            calling.errback(FunctionFailed(reply[1:].decode()))

    def processExited(self, reason: Failure) -> None:
        # Not at the end of its pipes: a process that the child started may have them open.
        assert self.transport is not None
        for descriptor in (0, REQUESTS, REPLIES):
            self.transport.closeChildFD(descriptor)
        for waiting in (self.ready, self._calling):
            if waiting is not None and not waiting.called:
                waiting.errback(ProcessDied(reason.getErrorMessage()))
        self.ended.callback(reason.getErrorMessage())


class ChildPool(Service):
    """Children that run ``function``: as many as there are calls at once. They are kept."""

    def __init__(self, reactor: Any, function: Callable[..., Any]) -> None:
        self._reactor = reactor
        self._words = [*name_of(function), json.dumps(sys.path)]
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()

    def stopService(self) -> Deferred[None]:
        """Kill all children."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for child in list(self._all):
            child.kill()
            await child.ended

    async def call(self, payload: bytes, timeout: float = 0) -> bytes:
        """Run the function once; cancelling the call kills its process.

        :param timeout: seconds, from when the function is called; 0: any time
        :raises TookTooLong: it did; its process is killed
        :raises FunctionFailed: the function raised an error
        :raises ProcessDied: the process ended
        """
        child = self._idle.pop() if self._idle else self._spawn()
        if not child.ready.called:
            await child.ready.addTimeout(START_SECONDS, self._reactor)
        calling = child.call(payload)
        if timeout:
            calling.addTimeout(timeout, self._reactor)
        try:
            value = await calling
        except DeadlinePassed:
            raise TookTooLong() from None
        except (FunctionFailed, Fatal, Retry, GiveBack):
            self._idle.append(child)
            raise
        self._idle.append(child)
        return value

    def _spawn(self) -> _Child:
        child = _Child()
        words = ["-m", "twisted_bulk.consumer.child_processes", *self._words]
        descriptors: dict[int, Any] = {0: "w", 1: 1, 2: 2, REQUESTS: "w", REPLIES: "r"}
        child.start(self._reactor, words, descriptors=descriptors)
        self._all.add(child)

        def ended(_: object) -> None:
            self._all.discard(child)
            if child in self._idle:
                self._idle.remove(child)

        child.ended.addCallback(ended)
        return child


def _raised(kind: str, text: str, delay: float | None) -> Exception:
    """What the function raised."""
    if kind == "Fatal":
        return Fatal(text)
    return Retry(text, delay) if kind == "Retry" else GiveBack(text, delay or 0.0)


def _load(module: str, name: str, path: str) -> Callable[..., Any]:
    if path:
        found: Any = runpy.run_path(path, run_name=MAIN)
        first, *rest = name.split(".")
        found = found[first]
    else:
        found, rest = importlib.import_module(module), name.split(".")
    for word in rest:
        found = getattr(found, word)
    function: Callable[..., Any] = found
    return function


def _listen(requests: "SimpleQueue[bytes]") -> None:
    with open(REQUESTS, "rb") as pipe:
        while head := pipe.read(LENGTH.size):
            requests.put(pipe.read(*LENGTH.unpack(head)))
    os._exit(0)  # the parent is gone: nobody waits for the function


def _answer(function: Callable[..., Any], payload: bytes) -> bytes:
    try:
        asked = decode(payload)
        return b"+" + encode_value(function(*asked.args, **asked.kwargs))
    except (Fatal, Retry, GiveBack) as raised:
        kind = next(one for one in (Fatal, Retry, GiveBack) if isinstance(raised, one)).__name__
        told = [kind, said(raised), getattr(raised, "delay", None)]
        return b"!" + json.dumps(told).encode()
    except Exception as error:
        return b"-" + f"{type(error).__name__}: {said(error)}"[:ERROR_LENGTH].encode()


def main() -> None:
    """Run as a child."""
    module, name, path, search = sys.argv[1:]
    sys.path[:] = json.loads(search)
    requests: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_listen, args=(requests,), daemon=True).start()
    function = _load(module, name, path)
    with open(REPLIES, "wb", buffering=0) as replies:
        replies.write(LENGTH.pack(0))
        while True:
            reply = _answer(function, requests.get())
            replies.write(LENGTH.pack(len(reply)) + reply)


if __name__ == "__main__":
    main()
