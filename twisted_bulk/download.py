"""Members fetched with treq under a Cooperator limit.

One attempt at one member is one run of :meth:`Downloader._attempt`; a failed one
that may pass goes back into its lane after a pause, so that it holds no place
meanwhile.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Cooperator, SchedulerStopped
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_bulk.batch import host_of
from twisted_bulk.errors import MemberError
from twisted_bulk.fetch import Fetch, Fetcher
from twisted_bulk.lanes import Lanes
from twisted_bulk.limits import Limits
from twisted_bulk.pace import LONGEST, Pace
from twisted_bulk.resolver import OWNER

log = Logger()

BACKOFF = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
PARTIALS = 64  # members in a pause of which what has come is kept: each may hold a file
THROTTLED = 20  # times that a host may say "not now" beside the tries that count
TROUBLE = frozenset(
    ("http_throttled", "http_unavailable", "connect_timeout", "header_timeout", "idle_timeout")
)


@dataclass(eq=False)
class Crew:
    """The fetches of one owner, and how to end them all."""

    left: int
    done: Deferred[None] = field(default_factory=Deferred)
    active: dict[Fetch, Deferred[None]] = field(default_factory=dict)
    pauses: dict[Fetch, IDelayedCall] = field(default_factory=dict)


class Downloader(Service):
    """All downloads of this node.

    :param limits: attempts at once, in all and to one host
    :param retries: further attempts for a member when that may help
    :param member_timeout: seconds for all attempts at one, with the pauses between them
    :param pace: told how hosts behave
    """

    def __init__(
        self,
        fetcher: Fetcher,
        clock: IReactorTime,
        *,
        limits: Limits,
        retries: int,
        member_timeout: float = 6 * 3600.0,
        pace: Pace | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._clock = clock
        self._concurrency = limits.concurrency
        self._retries = retries
        self._member_timeout = member_timeout
        self._pace = pace
        self._lanes: Lanes[tuple[Crew, Fetch]] = Lanes(limits.allowed)
        self._resting: deque[Deferred[None]] = deque()
        self._partials: set[Fetch] = set()
        limits.connect(self._lanes.demand, self._wake)
        if pace is not None:
            pace.connect(lambda: bool(self._lanes), self._wake)
        self._cooperator = Cooperator(
            terminationPredicateFactory=self._slice,
            scheduler=lambda step: clock.callLater(0, step),
            started=False,
        )

    def _slice(self) -> Callable[[], bool]:
        end = self._clock.seconds() + 0.01
        return lambda: self._clock.seconds() > end

    def startService(self) -> None:
        super().startService()
        for _ in range(self._concurrency):
            self._cooperator.coiterate(self._work()).addErrback(self._broken)
        self._cooperator.start()

    def stopService(self) -> None:
        super().stopService()
        self._cooperator.stop()

    def _broken(self, failure: Failure) -> None:
        if not failure.check(SchedulerStopped):
            log.failure("a downloader ended", failure)

    def _work(self) -> Iterator[Deferred[None]]:
        """One of ``concurrency`` hands: attempts, one after the other, as long as we run."""
        while True:
            taken = self._lanes.take()
            if taken is None:
                rest: Deferred[None] = Deferred()
                self._resting.append(rest)
                yield rest
            else:
                yield self._begin(*taken)

    def _begin(self, crew: Crew, fetch: Fetch) -> Deferred[None]:
        self._partials.discard(fetch)
        attempt = Deferred.fromCoroutine(self._attempt(crew, fetch))
        crew.active[fetch] = attempt
        host = host_of(fetch.member.url)

        def ended(result: Any) -> None:
            crew.active.pop(fetch, None)
            self._lanes.release(crew, host)
            broke = isinstance(result, Failure) and not result.check(CancelledError)
            if broke and not crew.done.called:
                # Not the member's fault (a full disk, a mistake of ours): the crew fails.
                crew.done.errback(result)

        return attempt.addBoth(ended)

    def _wake(self) -> None:
        """More may be out than before."""
        for _ in range(len(self._resting)):
            self._resting.popleft().callback(None)

    def _add(self, crew: Crew, fetch: Fetch, first: bool = False) -> None:
        self._lanes.add(crew, host_of(fetch.member.url), (crew, fetch), first)
        if self._resting:
            self._resting.popleft().callback(None)

    async def fetch(self, crew: Crew, fetches: Iterable[Fetch]) -> None:
        """Fetch all of a crew; returns when each has ended. May be cancelled."""
        for one in fetches:
            self._add(crew, one)
        try:
            await crew.done
        finally:
            self._drop(crew, finishing=True)

    def give_up(self, crew: Crew, error: MemberError) -> None:
        """End what has not all come yet with ``error``."""
        for fetch in self._drop(crew, finishing=False):
            self._end(crew, fetch, error)

    def _drop(self, crew: Crew, finishing: bool) -> list[Fetch]:
        dropped = [fetch for _, fetch in self._lanes.drop(crew)]
        for fetch, pause in list(crew.pauses.items()):
            pause.cancel()
            dropped.append(fetch)
        crew.pauses.clear()
        for fetch, attempt in list(crew.active.items()):
            # What is on its way into the archive cannot be taken back half-way.
            if finishing or not fetch.finishing:
                attempt.cancel()
                dropped.append(fetch)
        for fetch in dropped:
            fetch.forget()
        self._partials.difference_update(dropped)
        return dropped

    def _end(self, crew: Crew, fetch: Fetch, error: MemberError | None) -> None:
        # First: who is told may give the whole crew up, but not this one again.
        crew.active.pop(fetch, None)
        fetch.target.ended(fetch, error)
        crew.left -= 1
        if not crew.left and not crew.done.called:
            crew.done.callback(None)

    async def _attempt(self, crew: Crew, fetch: Fetch) -> None:
        OWNER.set(crew)
        fetch.attempts += 1
        fetch.asked = fetch.member.url
        alarm = self._alarm(crew, fetch)
        try:
            await self._fetcher.attempt(fetch)
        except MemberError as failed:
            if self._pace is not None and failed.code in TROUBLE:
                self._pace.bad(host_of(fetch.asked), failed.retry_after or 0.0)
            self._failed(crew, fetch, failed)
            return
        except CancelledError:
            if not fetch.late:
                raise
            what = f"not fetched within {self._member_timeout:g} s"
            self._failed(crew, fetch, MemberError("member_timeout", what))
            return
        finally:
            if alarm.active():
                alarm.cancel()
        if self._pace is not None:
            self._pace.good(host_of(fetch.asked))
        self._end(crew, fetch, None)

    def _alarm(self, crew: Crew, fetch: Fetch) -> IDelayedCall:
        """Ends the attempt when what is left of the member's time has passed."""

        def stop() -> None:
            # What is on its way into the archive cannot be taken back half-way.
            if not fetch.finishing:
                fetch.late = True
                crew.active[fetch].cancel()

        now = self._clock.seconds()
        if fetch.deadline is None:
            fetch.deadline = now + self._member_timeout
        return self._clock.callLater(max(0.0, fetch.deadline - now), stop)

    def _failed(self, crew: Crew, fetch: Fetch, failed: MemberError) -> None:
        """Try it again later, where that can help."""
        if failed.stale and not fetch.stale:
            # It shows in the attempts; the member can do nothing for it.
            fetch.stale = 1
            self._add(crew, fetch, first=True)
            return
        throttled = failed.code == "http_throttled"
        fetch.throttled += throttled
        tries = fetch.attempts - fetch.stale - min(fetch.throttled, THROTTLED)
        if not failed.retry or tries > self._retries or not self._retries:
            fetch.forget()
            self._end(crew, fetch, failed)
            return
        step = min(fetch.throttled if throttled else tries, len(BACKOFF))
        pause = BACKOFF[step - 1] * random.uniform(0.5, 1.0)
        if failed.retry_after is not None:
            pause = max(pause, min(failed.retry_after, LONGEST))
        if fetch.partial is not None and len(self._partials) >= PARTIALS:
            fetch.forget()
        elif fetch.partial is not None:
            self._partials.add(fetch)
        crew.pauses[fetch] = self._clock.callLater(pause, self._again, crew, fetch)

    def _again(self, crew: Crew, fetch: Fetch) -> None:
        del crew.pauses[fetch]
        # It has waited; behind ten thousand others it would wait for ever.
        self._add(crew, fetch, first=True)
