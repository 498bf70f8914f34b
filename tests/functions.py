"""Functions that consumers run in tests; a child process imports them by name."""

import os
import time
from pathlib import Path


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


def fail(word: str) -> None:
    """Raise."""
    raise ValueError(word)


def die(code: int) -> None:
    """End the process."""
    os._exit(code)
