"""A job while its function runs, and the ways in which that ends."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from twisted_bulk.jobs.model import Job

ERROR_LENGTH = 500  # characters of an error that the queue keeps
MAX_DELAY_SECONDS = 366 * 86400.0  # that a function may ask for


class TookTooLong(Exception):
    """The function took longer than its policy allows."""


def _checked(delay: float) -> float:
    if not 0 <= delay <= MAX_DELAY_SECONDS:
        raise ValueError(f"delay: expected 0 to {MAX_DELAY_SECONDS:g} seconds, not {delay!r}")
    return delay


class Retry(Exception):
    """Raised by a job's function: the attempt failed; again after ``delay`` s.

    :param delay: None: as the backoff says
    """

    def __init__(self, error: str, delay: float | None = None) -> None:
        super().__init__(error)
        self.delay = None if delay is None else _checked(delay)


class Fatal(Exception):
    """Raised by a job's function: the job failed, and another attempt cannot help."""


class GiveBack(Exception):
    """Raised by a job's function: not here and now. It does not count as an attempt.

    :param delay: seconds before another worker takes the job
    """

    def __init__(self, why: str, delay: float = 0.0) -> None:
        super().__init__(why)
        self.delay = _checked(delay)


@dataclass(frozen=True)
class Backoff:
    """Seconds before a failed job is tried again: ``base``, doubled up to ``cap``, +- 25 %."""

    base: float = 1.0
    cap: float = 600.0

    def __call__(self, attempt: int) -> float:
        return min(self.cap, self.base * 2.0 ** min(attempt - 1, 60)) * random.uniform(0.75, 1.25)


@dataclass(frozen=True)
class Policy:
    """How the attempts at one job go.

    :param timeout: seconds that the function may take; 0: any time
    :param backoff: the pause before the next attempt
    :param has_own_clock: the function itself raises TookTooLong
    """

    timeout: float = 0.0
    backoff: Backoff = Backoff()
    has_own_clock: bool = False


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a job's function.

    :param ok: units of the job that succeeded
    :param data: bytes that are kept with the job
    :param tags: words by which its group is found, with commas between them
    :param undo: called if the result came too late to count
    """

    ok: int = 1
    data: bytes = b""
    tags: str = ""
    undo: Callable[[], object] = lambda: None


@dataclass(eq=False)
class Task:
    """One job that runs.

    :param alone: it is a suspect: nothing else runs in this process
    :param progress: set by the function; returns thousandths of units that ended, and bytes that
        are kept with the job
    :param waits: set by the function; returns since when it only waits for somebody else's server,
        on the reactor's clock; None: it makes progress
    :param yield_room: set by the function; makes it give its job back soon, as it only waits
    :param over: the function has returned
    :param cancelled: by this process, not by something that the function waited for
    """

    job: Job
    alone: bool = False
    progress: Callable[[], tuple[int, bytes]] = lambda: (0, b"")
    waits: Callable[[], float | None] = lambda: None
    yield_room: Callable[[], object] = lambda: None
    running: Deferred[None] = field(default_factory=Deferred)
    over: bool = False
    cancelled: bool = False

    def cancel(self) -> None:
        """End the function."""
        self.cancelled = True
        self.running.cancel()


Function = Callable[[Task], Awaitable[Result]]


def said(error: BaseException) -> str:
    """An exception's message, as the queue can keep it, whatever the function put into it."""
    try:
        text = str(error)
    except Exception:
        text = "its message cannot be read"
    return text.encode("utf-8", "replace").decode()[:ERROR_LENGTH]
