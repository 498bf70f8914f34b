"""Runs one attempt after the other at a member, until it is there or has failed."""

from collections.abc import Callable, Hashable, Iterable

from msgspec.structs import replace
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_bulk.dialing.resolver import OWNER
from twisted_bulk.downloads import retries as policy
from twisted_bulk.downloads.attempt import Fetcher, Redirected
from twisted_bulk.downloads.attempt_watch import AttemptWatch
from twisted_bulk.downloads.fetch import Fetch
from twisted_bulk.downloads.fetch_queue import FetchQueue
from twisted_bulk.downloads.host_backoff import HostBackoff
from twisted_bulk.downloads.part_fetches import Flight, PartFetches
from twisted_bulk.errors import MemberError

#: Members that wait for their next attempt and keep the bytes that have come: each may have a file
#: open. Further ones begin anew.
MAX_PARTIALS = 64

Add = Callable[[PartFetches, Fetch, bool], object]


class AttemptRunner:
    """Makes attempts, and decides what follows each.

    :param add: puts a fetch into the queue, at the head of its line or at its end
    :param rouse: called when more attempts may begin
    :param retries: further attempts for a member when that may help
    :param member_timeout: seconds for all attempts at one member, with the pauses between them
    :param host_patience: seconds that a host may be away before its members fail
    """

    def __init__(
        self,
        fetcher: Fetcher,
        clock: IReactorTime,
        queue: FetchQueue[tuple[PartFetches, Fetch]],
        watch: AttemptWatch,
        backoff: HostBackoff | None,
        add: Add,
        rouse: Callable[[], object],
        *,
        retries: int,
        member_timeout: float,
        host_patience: float,
    ) -> None:
        self._fetcher = fetcher
        self._clock = clock
        self._queue = queue
        self._watch = watch
        self._backoff = backoff
        self._add = add
        self._rouse = rouse
        self._retries = retries
        self._member_timeout = member_timeout
        self._host_patience = host_patience
        self._partials: set[Fetch] = set()

    def begin(self, fetch: Fetch) -> None:
        """An attempt begins: the bytes that have come are its own."""
        self._partials.discard(fetch)

    def discard(self, fetches: Iterable[Fetch]) -> None:
        """Drop the bytes that have come of these fetches."""
        for fetch in fetches:
            fetch.reception.forget()
            self._partials.discard(fetch)

    def end(self, part: PartFetches, fetch: Fetch, error: MemberError | None) -> None:
        """The member is there (None), or has failed."""
        # First: the target may give the whole part up, but must not end this fetch again.
        part.active.pop(fetch, None)
        fetch.target.ended(fetch, error)
        part.left -= 1
        if not part.left and not part.done.called:
            part.done.callback(None)

    async def run(self, part: PartFetches, fetch: Fetch, flight: Flight) -> None:
        """Make one attempt; the member ends, or the fetch goes back into the queue.

        :raises CancelledError: it was cancelled
        """
        OWNER.set(part)
        hop, fetch.hop = fetch.hop, None
        if hop is None and fetch.first_host:  # without a host nothing is asked
            fetch.tries = replace(fetch.tries, attempts=fetch.tries.attempts + 1)
        alarm = self._alarm(part, fetch)
        try:
            await self._fetcher.attempt(fetch, hop)
        except Redirected as redirected:
            fetch.hop = redirected.hop
            if self._watch.redirected(flight, self._clock.seconds()):
                self._rouse()
            part.active.pop(fetch, None)
            part.note_redirect(fetch.first_host, self._clock.seconds())
            self._add(part, fetch, True)
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
        self.end(part, fetch, None)

    def _alarm(self, part: PartFetches, fetch: Fetch) -> IDelayedCall:
        """Ends the attempt at the member's deadline."""

        def stop() -> None:
            # A member that is put into the archive cannot be taken back.
            if not fetch.reception.finishing:
                fetch.late = True
                part.active[fetch].cancel()

        now = self._clock.seconds()
        if fetch.deadline is None:
            fetch.deadline = now + self._member_timeout
        return self._clock.callLater(max(0.0, fetch.deadline - now), stop)

    def _failed(self, part: PartFetches, fetch: Fetch, flight: Flight, failed: MemberError) -> None:
        """An attempt has failed: another one follows, or the member has failed."""
        # First: a target may give the whole part up, but must not end this fetch, too.
        part.active.pop(fetch, None)
        if failed.stale and not fetch.tries.stale:
            fetch.tries = replace(fetch.tries, stale=1)  # no fault of the member's
            self._add(part, fetch, True)
            return
        if policy.is_expired(fetch.tries, failed, flight.waited):
            fetch.tries = policy.renew(fetch.tries)
            self._add(part, fetch, True)
            return
        if failed.tells_of_host and self._is_away(part, fetch, flight.host, failed):
            return
        fetch.tries = policy.count(fetch.tries, failed)
        if fetch.reception.partial is not None:  # the next attempt may continue
            fetch.tries = policy.advance(fetch.tries, fetch.reception.received)
        pause = policy.pause_before_next(fetch.tries, failed, self._retries)
        if pause is None:
            fetch.reception.forget()
            self.end(part, fetch, failed)
            return
        self._keep_partial(fetch)
        part.pauses[fetch] = self._clock.callLater(pause, self._again, part, fetch)

    def _keep_partial(self, fetch: Fetch) -> None:
        """Keep the bytes that have come for the next attempt, unless too many members do."""
        if fetch.reception.partial is None:
            return
        if len(self._partials) >= MAX_PARTIALS:
            fetch.reception.forget()
        else:
            self._partials.add(fetch)

    def _is_away(self, part: PartFetches, fetch: Fetch, host: str, failed: MemberError) -> bool:
        """A member whose host is away waits, and uses up no try, until that is too long."""
        if self._backoff is None or not self._backoff.is_away(host, part.batch):
            return False
        now, since = self._clock.seconds(), self._backoff.since(host)
        fetch.tries = policy.excuse(fetch.tries)
        # It goes to the end of the line: another member asks next, in case only this one fails.
        self._keep_partial(fetch)
        self._add(part, fetch, False)

        def is_too_long(owner: Hashable) -> bool:
            assert isinstance(owner, PartFetches)
            counts = self._backoff is not None and self._backoff.is_away(host, owner.batch)
            return counts and now - max(since, owner.began) >= self._host_patience

        what = f"{failed.detail}; the host has been away for {now - since:.0f} s"
        late = MemberError(failed.code, what)
        for owner, one in self._queue.drop_host(host, is_too_long):
            self.discard([one])
            self.end(owner, one, late)
        return True

    def _again(self, part: PartFetches, fetch: Fetch) -> None:
        del part.pauses[fetch]
        # At the head: behind ten thousand others it would wait for ever.
        self._add(part, fetch, True)
