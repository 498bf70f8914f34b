"""The fetches of one part of a batch: those that wait, those under way, and their redirects."""

from collections import deque
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from twisted_bulk.downloads.fetch import Fetch

#: Redirects of one host that may wait for other hosts, for each part. Then the host is not asked:
#: further redirects would only grow old.
MAX_REDIRECTS_WAITING = 8


@dataclass(eq=False, slots=True)
class Flight:
    """One attempt that is under way; times are on the reactor's clock.

    :param placed: it has a place
    :param new: its host had not answered yet when it began
    :param began: when it began
    :param looked: when its progress was judged last
    :param received: bytes that had come by then
    :param held: seconds for which its sink had been busy by then
    :param waited: seconds for which a redirect to its host had waited
    :param free: fires when its place is given to another
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
        """End the attempt."""
        if self.running is not None:
            self.running.cancel()

    def give_place(self) -> None:
        """Another download may have its place."""
        if not self.free.called:
            self.free.callback(None)


@dataclass(frozen=True)
class Waits:
    """A host for which a part waits; times are on the reactor's clock.

    :param since: when it began to fail; None: it asked for a pause
    :param until: when that pause ends
    """

    host: str
    since: float | None = None
    until: float = 0.0


@dataclass(eq=False)
class PartFetches:
    """All fetches of one part; the owner of its items in the queue.

    :param left: fetches that have not ended
    :param began: when its batch began, on the reactor's clock
    :param batch: a number that tells its batch from others, above 0
    :param redirects: by host: when it redirected fetches that wait for another host since
    :param done: fires when all fetches have ended; fails with what ends the part
    :param stalled: since when no fetch makes progress, on the reactor's clock; None: one does
    """

    left: int
    began: float = 0.0
    batch: int = 1
    redirects: dict[str, deque[float]] = field(default_factory=dict)
    done: Deferred[None] = field(default_factory=Deferred)
    active: dict[Fetch, Flight] = field(default_factory=dict)
    pauses: dict[Fetch, IDelayedCall] = field(default_factory=dict)
    stalled: float | None = None

    def has_many_redirects(self, host: str) -> bool:
        """Whether so many redirects of ``host`` wait that it is not asked for more."""
        return len(self.redirects.get(host, ())) >= MAX_REDIRECTS_WAITING

    def note_redirect(self, host: str, now: float) -> None:
        """``host`` has redirected a fetch to another host."""
        self.redirects.setdefault(host, deque()).append(now)

    def drop_redirects(self, host: str, until: float) -> bool:
        """Redirects of ``host`` that came up to ``until`` do not wait any more, or do not count.

        :returns: whether there were any
        """
        waiting = self.redirects[host]
        before = len(waiting)
        while waiting and waiting[0] <= until:
            waiting.popleft()
        return len(waiting) < before
