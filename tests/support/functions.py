"""Functions that consumers run in tests; a child process imports them by name."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from twisted_bulk.consumer.consumer import Consumer
from twisted_bulk.consumer.task import Fatal, GiveBack, Retry
from twisted_bulk.queue import open_queue


def add(a: int, b: int = 1) -> int:
    """A sum."""
    return a + b


def where(path: str) -> list[int]:
    """The process's id and its parent's."""
    Path(path).write_text(str(os.getpid()))
    return [os.getpid(), os.getppid()]


def hang(path: str) -> None:
    """Write down who we are, and never return."""
    Path(path).write_text(str(os.getpid()))
    while True:
        time.sleep(0.1)


def leave() -> None:
    """End the process."""
    sys.exit(3)


def raise_task(kind: str) -> None:
    """Raise what consumers know."""
    raise {
        "fatal": Fatal("no luck"),
        "retry": Retry("busy", 300),
        "back": GiveBack("not here", 300),
    }[kind]


def fail(word: str) -> None:
    """Raise."""
    raise ValueError(word)


def die(code: int) -> None:
    """End the process."""
    os._exit(code)


def orphan(path: str) -> None:
    """Leave a process behind that has all our descriptors, and die."""
    if not os.fork():
        new = Path(f"{path}.new")  # its reader must not find it empty
        new.write_text(str(os.getpid()))
        new.rename(path)
        time.sleep(60)
        os._exit(0)
    while not Path(path).exists() or not Path(path).read_text():
        time.sleep(0.01)
    os._exit(1)


async def main(reactor: Any, url: str) -> None:
    """Stop in the middle of a call."""
    began: Deferred[None] = Deferred()

    async def function(word: str) -> None:
        print("began", flush=True)
        reactor.callLater(0, began.callback, None)
        await deferLater(reactor, 0.5)
        print("ended", flush=True)

    queue = open_queue(reactor, url, "q")
    Consumer(queue, function, reactor).startService()
    await queue.publisher.push("x")
    await began


async def look(reactor: Any, url: str) -> None:
    """What the run before has left."""
    counts = (await open_queue(reactor, url, "q").stats()).counts
    print("done" if counts["done"] == 1 else counts)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        words = [sys.executable, "-m", "tests.support.functions", sys.argv[1], "look"]
        with contextlib.suppress(SystemExit):
            react(lambda reactor: Deferred.fromCoroutine(main(reactor, sys.argv[1])))
        sys.exit(subprocess.run(words).returncode)
    react(lambda reactor: Deferred.fromCoroutine(look(reactor, sys.argv[1])))
