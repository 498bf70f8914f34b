"""Members fetched with treq under a Cooperator limit. Rooms: downloads/, http_client/.

One attempt at one member is one run of :meth:`AttemptRunner.run`. A failed attempt that may work
later goes back into the queue after a pause, and has no place meanwhile. An attempt to which its
server sends next to nothing gives its place back, and goes on without one.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, cast

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator, SchedulerStopped
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_bulk.downloads import retries as policy
from twisted_bulk.downloads.attempt import Fetcher
from twisted_bulk.downloads.attempt_runner import AttemptRunner
from twisted_bulk.downloads.attempt_watch import AttemptWatch
from twisted_bulk.downloads.fetch import Fetch
from twisted_bulk.downloads.fetch_queue import FetchQueue
from twisted_bulk.downloads.host_backoff import HostBackoff
from twisted_bulk.downloads.limits import Limits
from twisted_bulk.downloads.part_fetches import Flight, PartFetches, Waits
from twisted_bulk.downloads.queue_state import Speed
from twisted_bulk.errors import MemberError
from twisted_bulk.system.periodic import Periodic

log = Logger()

LOOK_SECONDS = 0.05  # between two looks at the progress of attempts
SLICE_SECONDS = 0.01  # that the Cooperator works in one turn of the reactor


class Downloader(MultiService):
    """All downloads of this node.

    :param limits: attempts at once, in all and to one host
    :param retries: further attempts for a member when that may help
    :param member_timeout: seconds for all attempts at one member, with the pauses between them
    :param host_patience: seconds that a host may be away before its members fail
    :param most_waiting: attempts at once that have no place, at most
    :param backoff: told how hosts behave; None: nobody is
    """

    def __init__(
        self,
        fetcher: Fetcher,
        clock: IReactorTime,
        *,
        limits: Limits,
        retries: int,
        member_timeout: float = 6 * 3600.0,
        host_patience: float = 600.0,
        most_waiting: int = 1 << 30,
        backoff: HostBackoff | None = None,
    ) -> None:
        super().__init__()
        self._clock = clock
        self._concurrency = limits.concurrency
        self._limits = limits
        self._queue: FetchQueue[tuple[PartFetches, Fetch]] = FetchQueue(self._allowed, most_waiting)
        self._watch = AttemptWatch(self._queue, backoff)
        self._parts: set[PartFetches] = set()
        self._resting: deque[Deferred[None]] = deque()  # iterators without an attempt
        self._attempts = AttemptRunner(
            fetcher, clock, self._queue, self._watch, backoff, self._add, self._rouse,
            retries=retries, member_timeout=member_timeout, host_patience=host_patience,
        )  # fmt: skip
        limits.connect(self._queue.demand, self._wake)
        if backoff is not None:
            backoff.connect(lambda: bool(self._queue), self._wake)
        self._cooperator = Cooperator(
            terminationPredicateFactory=self._slice,
            scheduler=lambda step: clock.callLater(0, step),
            started=False,
        )
        Periodic(
            log, clock, LOOK_SECONDS, self._look, name="judging attempts", at_once=False
        ).setServiceParent(self)

    def _allowed(self, host: str, owner: Hashable) -> int:
        part = cast(PartFetches | None, owner)
        if part is not None and part.has_many_redirects(host):
            return 0
        return self._limits.allowed(host, part.batch if part is not None else 0)

    def _slice(self) -> Callable[[], bool]:
        end = self._clock.seconds() + SLICE_SECONDS
        return lambda: self._clock.seconds() > end

    def startService(self) -> None:
        super().startService()
        for _ in range(self._concurrency):
            self._cooperator.coiterate(self._work()).addErrback(self._broken)
        self._cooperator.start()

    def stopService(self) -> Deferred[Any]:
        self._cooperator.stop()
        stopped: Deferred[Any] = super().stopService()
        return stopped

    def _broken(self, failure: Failure) -> None:
        if not failure.check(SchedulerStopped):
            log.failure("a downloader ended", failure)

    def _work(self) -> Iterator[Deferred[None]]:
        """One of ``concurrency`` iterators: begins an attempt, and waits while that has a place."""
        while True:
            taken = self._queue.take()
            if taken is None:
                rest: Deferred[None] = Deferred()
                self._resting.append(rest)
                yield rest
            else:
                yield self._begin(*taken.item, taken.placed)

    def _begin(self, part: PartFetches, fetch: Fetch, placed: bool) -> Deferred[None]:
        """Begin an attempt; returns a Deferred that fires when its place is free."""
        host, now = fetch.host, self._clock.seconds()
        self._attempts.begin(fetch)
        new = placed and self._queue.speed(host) is Speed.NEW
        flight = Flight(host, placed, new, now, now, fetch.reception.received)
        part.active[fetch] = flight
        if fetch.hop is not None:
            flight.waited = now - fetch.hop.since
            self._drop_redirects(part, fetch.first_host, fetch.hop.since)
        if not placed:
            flight.give_place()
        flight.running = running = Deferred.fromCoroutine(self._attempts.run(part, fetch, flight))

        def ended(result: Any) -> None:
            part.active.pop(fetch, None)
            self._queue.release(part, host, flight.placed, flight.new)
            if not flight.free.called:
                flight.give_place()
            elif self._resting:
                self._resting.popleft().callback(None)
            broke = isinstance(result, Failure) and not result.check(CancelledError)
            if broke and not part.done.called:
                # No fault of the member's (a full disk, a mistake of ours): the part fails.
                part.done.errback(result)

        running.addBoth(ended)
        return flight.free

    def _drop_redirects(self, part: PartFetches, host: str, until: float) -> bool:
        """As :meth:`PartFetches.drop_redirects`; the host may be asked for more then."""
        dropped = part.drop_redirects(host, until)
        if dropped:
            self._queue.look_at(host)
        return dropped

    def _look(self) -> None:
        now = self._clock.seconds()
        news = self._watch.look(self._parts, now)
        for part in self._parts:
            for host in part.redirects:
                news |= self._drop_redirects(part, host, now - policy.EXPIRY_SECONDS)
        if news:
            self._rouse()

    def _wake(self) -> None:
        """More attempts may be under way than before."""
        self._queue.look_again()
        self._rouse()

    def _rouse(self) -> None:
        for _ in range(len(self._resting)):
            self._resting.popleft().callback(None)

    def _add(self, part: PartFetches, fetch: Fetch, first: bool = False) -> None:
        self._queue.add(part, fetch.host, (part, fetch), first)
        if self._resting:
            self._resting.popleft().callback(None)

    async def fetch(self, part: PartFetches, fetches: Iterable[Fetch]) -> None:
        """Fetch all members of a part; returns when each has ended. May be cancelled."""
        self._parts.add(part)
        for one in fetches:
            self._add(part, one)
        try:
            await part.done
        finally:
            self._parts.discard(part)
            part.stalled = None
            self._drop(part, finishing=True)

    def give_up(self, part: PartFetches, error: MemberError) -> None:
        """End all members with ``error`` that have not come yet."""
        for fetch in self._drop(part, finishing=False):
            self._attempts.end(part, fetch, error)

    def waits_for(self, part: PartFetches) -> Waits | None:
        """A host for which members of the part wait, as it is away or wants a pause; or None."""
        return self._watch.waits_for(part)

    def _drop(self, part: PartFetches, finishing: bool) -> list[Fetch]:
        """End the fetches of a part; those that are put into the archive only if ``finishing``."""
        dropped = [fetch for _, fetch in self._queue.drop(part)]
        for fetch, pause in list(part.pauses.items()):
            pause.cancel()
            dropped.append(fetch)
        part.pauses.clear()
        for fetch, flight in list(part.active.items()):
            if finishing or not fetch.reception.finishing:
                flight.cancel()
                dropped.append(fetch)
        self._attempts.discard(dropped)
        return dropped
