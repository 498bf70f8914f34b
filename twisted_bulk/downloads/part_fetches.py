"""The downloads of one part: what waits, what is on its way, and how to end them all."""

from collections import deque
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from twisted_bulk.downloads.attempt import Fetch


@dataclass(eq=False, slots=True)
class Flight:
    """One attempt on its way.

    :param placed: it has a place; ``new``: its host had not answered yet when it began
    :param began: on the clock
    :param received: bytes that had come when it was last judged, at ``looked``; ``held``: seconds
        for which it had waited for our own disk until then
    :param waited: seconds for which a redirect to its host had waited
    :param free: fires when its place is another's
    """

    host: str
    placed: bool
    new: bool
    began: float
    looked: float
    received: int = 0
    held: float = 0.0
    waited: float = 0.0
    free: Deferred[None] = field(default_factory=Deferred)
    running: Deferred[None] | None = None

    def cancel(self) -> None:
        """End it."""
        if self.running is not None:
            self.running.cancel()

    def let_go(self) -> None:
        """Its place is another's."""
        if not self.free.called:
            self.free.callback(None)


@dataclass(frozen=True)
class Waits:
    """A host that somebody waits for.

    :param since: when it began to fail, or ``until``: when the pause ends that it asked for; on
        the clock
    """

    host: str
    since: float | None = None
    until: float = 0.0


@dataclass(eq=False)
class PartFetches:
    """The fetches of one owner, and how to end them all.

    :param left: fetches that have not ended
    :param began: when its batch began, on the clock
    :param batch: a number that tells its batch from others, above 0
    :param beyond: by host: when fetches were redirected from it that wait for another one
    :param stalled: since when nothing of it gets on, on the clock, or None
    """

    left: int
    began: float = 0.0
    batch: int = 1
    beyond: dict[str, deque[float]] = field(default_factory=dict)
    done: Deferred[None] = field(default_factory=Deferred)
    active: dict[Fetch, Flight] = field(default_factory=dict)
    pauses: dict[Fetch, IDelayedCall] = field(default_factory=dict)
    stalled: float | None = None
