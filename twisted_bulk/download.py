"""Members fetched with treq under a Cooperator limit. Rooms: downloads/, http_client/.

One attempt at one member is one run of :meth:`Downloader._attempt`; a failed one that may pass
goes back into its lane after a pause, so that it holds no place meanwhile. An attempt that gets
next to nothing from its server gives its place away, and goes on beside.
"""

import random
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Cooperator, LoopingCall, SchedulerStopped
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_bulk.batch.model import host_of
from twisted_bulk.downloads.attempt import Fetch, Fetcher, Redirected
from twisted_bulk.downloads.attempt_watch import AttemptWatch
from twisted_bulk.downloads.fetch_queue import FetchQueue, Speed
from twisted_bulk.downloads.host_backoff import LONGEST, HostBackoff
from twisted_bulk.downloads.limits import Limits
from twisted_bulk.downloads.part_fetches import Flight, PartFetches, Waits
from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.resolver import OWNER

log = Logger()

BACKOFF = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
PARTIALS = 64  # members in a pause of which what has come is kept: each may hold a file
THROTTLED = 20  # times that a host may say "not now" beside the tries that count
FRESH = 10.0  # seconds after which what a redirect names may have expired
EXPIRED = frozenset((400, 401, 403, 404, 410))  # answers that say so
RENEWALS = 3  # times that a member's redirect is asked for anew then
BEYOND = 8  # redirects of one host that wait for others, for each part, before it is asked for more
LOOK = 0.05  # seconds between looks at how attempts get on


class Downloader(Service):
    """All downloads of this node.

    :param limits: attempts at once, in all and to one host
    :param retries: further attempts for a member when that may help
    :param member_timeout: seconds for all attempts at one, with the pauses between them
    :param host_patience: seconds that a host may be away before its members fail
    :param most_waiting: attempts at once that have no place, at most
    :param backoff: told how hosts behave
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
        self._fetcher = fetcher
        self._clock = clock
        self._concurrency = limits.concurrency
        self._retries = retries
        self._member_timeout = member_timeout
        self._host_patience = host_patience
        self._backoff = backoff
        self._limits = limits
        self._queue: FetchQueue[tuple[PartFetches, Fetch]] = FetchQueue(self._allowed, most_waiting)
        self._watch = AttemptWatch(self._queue, backoff)
        self._parts: set[PartFetches] = set()
        self._resting: deque[Deferred[None]] = deque()
        self._partials: set[Fetch] = set()
        limits.connect(self._queue.demand, self._wake)
        if backoff is not None:
            backoff.connect(lambda: bool(self._queue), self._wake)
        self._cooperator = Cooperator(
            terminationPredicateFactory=self._slice,
            scheduler=lambda step: clock.callLater(0, step),
            started=False,
        )
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def _allowed(self, host: str, owner: Hashable) -> int:
        part = cast(PartFetches | None, owner)
        if part is not None and len(part.beyond.get(host, ())) >= BEYOND:
            return 0  # what it redirects to is busy: further redirects would only grow old
        return self._limits.allowed(host, part.batch if part is not None else 0)

    def _slice(self) -> Callable[[], bool]:
        end = self._clock.seconds() + 0.01
        return lambda: self._clock.seconds() > end

    def startService(self) -> None:
        super().startService()
        for _ in range(self._concurrency):
            self._cooperator.coiterate(self._work()).addErrback(self._broken)
        self._cooperator.start()
        self._looking.start(LOOK, now=False)

    def stopService(self) -> None:
        super().stopService()
        self._looking.stop()
        self._cooperator.stop()

    def _broken(self, failure: Failure) -> None:
        if not failure.check(SchedulerStopped):
            log.failure("a downloader ended", failure)

    def _work(self) -> Iterator[Deferred[None]]:
        """One of ``concurrency`` hands: it begins attempts as long as we run, and waits while one
        has its place."""
        while True:
            taken = self._queue.take()
            if taken is None:
                rest: Deferred[None] = Deferred()
                self._resting.append(rest)
                yield rest
            else:
                yield self._begin(*taken.item, taken.placed)

    def _begin(self, part: PartFetches, fetch: Fetch, placed: bool) -> Deferred[None]:
        host, now = fetch.host, self._clock.seconds()
        self._partials.discard(fetch)
        new = placed and self._is_new(host)
        flight = part.active[fetch] = Flight(host, placed, new, now, now, fetch.received)
        if fetch.hop is not None:
            flight.waited = now - fetch.hop.since
            self._beyond(part, host_of(fetch.member.url), fetch.hop.since)
        if not placed:
            flight.let_go()
        flight.running = running = Deferred.fromCoroutine(self._attempt(part, fetch, flight))

        def ended(result: Any) -> None:
            part.active.pop(fetch, None)
            self._queue.release(part, host, flight.placed, flight.new)
            if not flight.free.called:
                flight.let_go()
            elif self._resting:
                self._resting.popleft().callback(None)
            broke = isinstance(result, Failure) and not result.check(CancelledError)
            if broke and not part.done.called:
                # Not the member's fault (a full disk, a mistake of ours): the part fails.
                part.done.errback(result)

        running.addBoth(ended)
        return flight.free

    def _is_new(self, host: str) -> bool:
        return self._queue.speed(host) is Speed.NEW

    def _beyond(self, part: PartFetches, origin: str, until: float) -> bool:
        """Redirects of a host that came up to then wait no more, or may do so for ever.

        :returns: whether there were any
        """
        waiting = part.beyond[origin]
        before = len(waiting)
        while waiting and waiting[0] <= until:
            waiting.popleft()
        if len(waiting) < before:
            self._queue.look_at(origin)
        return len(waiting) < before

    def _look(self) -> None:
        now = self._clock.seconds()
        news = self._watch.look(self._parts, now)
        for part in self._parts:
            for origin in part.beyond:
                news |= self._beyond(part, origin, now - FRESH)
        if news:
            self._rouse()

    def _wake(self) -> None:
        """More may be out than before."""
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
        """Fetch all of a part; returns when each has ended. May be cancelled."""
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
        """End what has not all come yet with ``error``."""
        for fetch in self._drop(part, finishing=False):
            self._end(part, fetch, error)

    def waits_for(self, part: PartFetches) -> Waits | None:
        """A host that is away, or wants a pause, for which something of the part waits."""
        return self._watch.waits_for(part)

    def _drop(self, part: PartFetches, finishing: bool) -> list[Fetch]:
        dropped = [fetch for _, fetch in self._queue.drop(part)]
        for fetch, pause in list(part.pauses.items()):
            pause.cancel()
            dropped.append(fetch)
        part.pauses.clear()
        for fetch, flight in list(part.active.items()):
            # What is on its way into the archive cannot be taken back half-way.
            if finishing or not fetch.finishing:
                flight.cancel()
                dropped.append(fetch)
        for fetch in dropped:
            fetch.forget()
        self._partials.difference_update(dropped)
        return dropped

    def _end(self, part: PartFetches, fetch: Fetch, error: MemberError | None) -> None:
        # First: who is told may give the whole part up, but not this one again.
        part.active.pop(fetch, None)
        fetch.target.ended(fetch, error)
        part.left -= 1
        if not part.left and not part.done.called:
            part.done.callback(None)

    async def _attempt(self, part: PartFetches, fetch: Fetch, flight: Flight) -> None:
        OWNER.set(part)
        fetch.attempts += fetch.hop is None
        alarm = self._alarm(part, fetch)
        try:
            await self._fetcher.attempt(fetch)
        except Redirected:
            if self._watch.redirected(flight, self._clock.seconds()):
                self._rouse()
            part.active.pop(fetch, None)
            waiting = part.beyond.setdefault(host_of(fetch.member.url), deque())
            waiting.append(self._clock.seconds())
            self._add(part, fetch, first=True)
            return
        except MemberError as failed:
            if self._watch.failed(part, fetch, flight, failed, self._clock.seconds()):
                self._rouse()
            self._failed(part, fetch, flight, failed)
            return
        except CancelledError:
            if not fetch.late:
                raise
            what = f"not fetched within {self._member_timeout:g} s"
            self._failed(part, fetch, flight, MemberError("member_timeout", what))
            return
        finally:
            if alarm.active():
                alarm.cancel()
        if self._watch.answered(fetch, flight, self._clock.seconds()):
            self._rouse()
        self._end(part, fetch, None)

    def _alarm(self, part: PartFetches, fetch: Fetch) -> IDelayedCall:
        """Ends the attempt when what is left of the member's time has passed."""

        def stop() -> None:
            # What is on its way into the archive cannot be taken back half-way.
            if not fetch.finishing:
                fetch.late = True
                part.active[fetch].cancel()

        now = self._clock.seconds()
        if fetch.deadline is None:
            fetch.deadline = now + self._member_timeout
        return self._clock.callLater(max(0.0, fetch.deadline - now), stop)

    def _failed(self, part: PartFetches, fetch: Fetch, flight: Flight, failed: MemberError) -> None:
        """Try it again later, where that can help."""
        # First: who gives the part up on the way shall not end this one as well.
        part.active.pop(fetch, None)
        if failed.stale and not fetch.stale:
            # It shows in the attempts; the member can do nothing for it.
            fetch.stale = 1
            self._add(part, fetch, first=True)
            return
        if flight.waited >= FRESH and failed.answered in EXPIRED and fetch.renewed < RENEWALS:
            # What the redirect named had a time, and we came too late: that is no fault of its.
            fetch.renewed += 1
            fetch.excused += 1
            self._add(part, fetch, first=True)
            return
        if failed.tells_of_host and self._is_away(part, fetch, flight.host, failed):
            return
        throttled = failed.code == "http_throttled"
        fetch.throttled += throttled
        tries = fetch.attempts - fetch.stale - fetch.excused - min(fetch.throttled, THROTTLED)
        if not failed.retry or tries > self._retries or not self._retries:
            fetch.forget()
            self._end(part, fetch, failed)
            return
        step = max(1, min(fetch.throttled if throttled else tries, len(BACKOFF)))
        pause = BACKOFF[step - 1] * random.uniform(0.5, 1.0)
        if failed.retry_after is not None:
            pause = max(pause, min(failed.retry_after, LONGEST))
        self._keep_partial(fetch)
        part.pauses[fetch] = self._clock.callLater(pause, self._again, part, fetch)

    def _keep_partial(self, fetch: Fetch) -> None:
        if fetch.partial is not None and len(self._partials) >= PARTIALS:
            fetch.forget()
        elif fetch.partial is not None:
            self._partials.add(fetch)

    def _is_away(self, part: PartFetches, fetch: Fetch, host: str, failed: MemberError) -> bool:
        """Where a member's host is away it waits, with no try used up, until that is too long."""
        if self._backoff is None or not self._backoff.is_away(host, part.batch):
            return False
        now, since = self._clock.seconds(), self._backoff.since(host)
        fetch.excused += 1
        # Another member asks next: it may be that this one alone is at fault.
        self._keep_partial(fetch)
        self._add(part, fetch)

        def given_up(owner: Hashable) -> bool:
            assert isinstance(owner, PartFetches)
            counts = self._backoff is not None and self._backoff.is_away(host, owner.batch)
            return counts and now - max(since, owner.began) >= self._host_patience

        what = f"{failed.detail}; the host has been away for {now - since:.0f} s"
        late = MemberError(failed.code, what)
        for owner, one in self._queue.drop_host(host, given_up):
            one.forget()
            self._partials.discard(one)
            self._end(owner, one, late)
        return True

    def _again(self, part: PartFetches, fetch: Fetch) -> None:
        del part.pauses[fetch]
        # It has waited; behind ten thousand others it would wait for ever.
        self._add(part, fetch, first=True)
