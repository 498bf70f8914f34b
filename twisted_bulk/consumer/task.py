"""A job in the hands of its function, and how that may end."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from twisted_bulk.jobs.model import Job


class Retry(Exception):
    """Raised by a job's function: not this time, again after ``delay`` seconds."""

    def __init__(self, error: str, delay: float) -> None:
        super().__init__(error)
        self.delay = delay


class Fatal(Exception):
    """Raised by a job's function: no further try can help."""


class GiveBack(Exception):
    """Raised by a job's function: not here and now; it does not count as an attempt.

    :param delay: seconds before anybody takes it again
    """

    def __init__(self, why: str, delay: float = 0.0) -> None:
        super().__init__(why)
        self.delay = delay


@dataclass(frozen=True)
class Backoff:
    """Seconds before a job that broke is tried again: ``base`` doubled up to ``cap``, +- 25 %."""

    base: float = 1.0
    cap: float = 600.0

    def __call__(self, attempt: int) -> float:
        return min(self.cap, self.base * 2.0 ** min(attempt - 1, 60)) * random.uniform(0.75, 1.25)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a job's function returns.

    :param ok: units of the job that succeeded
    :param undo: called if the result came too late to count
    """

    ok: int = 1
    data: bytes = b""
    undo: Callable[[], object] = lambda: None


@dataclass(eq=False)
class Task:
    """One job being worked on.

    :param alone: it is a suspect: nothing else runs in this process
    :param progress: set by the function; thousandths of units over, and opaque bytes
    :param waits: set by the function; since when it has been waiting for somebody else's server
        only, on the reactor's clock, or None: it gets on
    :param yield_room: set by the function; makes it give its job back soon, as it only waits
    :param over: the function has returned
    :param cancelled: by us, not by something that the function waited for
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
        """End it."""
        self.cancelled = True
        self.running.cancel()


Function = Callable[[Task], Awaitable[Result]]
