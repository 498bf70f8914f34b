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

log = Logger()

BACKOFF = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


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
    """

    def __init__(
        self,
        fetcher: Fetcher,
        clock: IReactorTime,
        *,
        limits: Limits,
        retries: int,
    ) -> None:
        self._fetcher = fetcher
        self._clock = clock
        self._concurrency = limits.concurrency
        self._retries = retries
        self._lanes: Lanes[tuple[Crew, Fetch]] = Lanes(limits.allowed)
        self._resting: deque[Deferred[None]] = deque()
        limits.connect(self._lanes.demand, self._wake)
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
        attempt = Deferred.fromCoroutine(self._attempt(crew, fetch))
        crew.active[fetch] = attempt
        host = host_of(fetch.member.url)

        def ended(result: Any) -> None:
            crew.active.pop(fetch, None)
            self._lanes.release(host)
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
        return dropped

    def _end(self, crew: Crew, fetch: Fetch, error: MemberError | None) -> None:
        # First: who is told may give the whole crew up, but not this one again.
        crew.active.pop(fetch, None)
        fetch.ended(fetch, error)
        crew.left -= 1
        if not crew.left and not crew.done.called:
            crew.done.callback(None)

    async def _attempt(self, crew: Crew, fetch: Fetch) -> None:
        fetch.attempts += 1
        try:
            await self._fetcher.attempt(fetch)
        except MemberError as failed:
            if not failed.retry or fetch.attempts > self._retries:
                self._end(crew, fetch, failed)
                return
            pause = BACKOFF[min(fetch.attempts, len(BACKOFF)) - 1] * random.uniform(0.5, 1.0)
            if failed.retry_after is not None:
                pause = max(pause, min(failed.retry_after, BACKOFF[-1]))
            crew.pauses[fetch] = self._clock.callLater(pause, self._again, crew, fetch)
            return
        self._end(crew, fetch, None)

    def _again(self, crew: Crew, fetch: Fetch) -> None:
        del crew.pauses[fetch]
        # It has waited; behind ten thousand others it would wait for ever.
        self._add(crew, fetch, first=True)
