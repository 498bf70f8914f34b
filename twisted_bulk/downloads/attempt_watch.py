"""How downloads get on, and what that tells of their hosts.

An attempt that gets next to nothing from its server holds no place, see
:mod:`twisted_bulk.downloads.fetch_queue`; a host that fails is told to
:mod:`twisted_bulk.downloads.host_backoff`.
"""

from collections.abc import Iterable
from typing import Any

from twisted.logger import Logger

from twisted_bulk.downloads.attempt import Fetch
from twisted_bulk.downloads.fetch_queue import FetchQueue, Speed
from twisted_bulk.downloads.host_backoff import HostBackoff
from twisted_bulk.downloads.part_fetches import Flight, PartFetches, Waits
from twisted_bulk.errors import MemberError

log = Logger()

TROUBLE = frozenset(
    ("http_throttled", "http_unavailable", "connect_timeout", "header_timeout", "idle_timeout")
)
TOLD = frozenset((10, 100, 1000, 10_000, 100_000))  # failures in a row that the log tells of
KNOWN = 10_000  # hosts of which failures are counted
SPEED = 20_000  # bytes a second that have to come over a while, for an attempt to have a place
WHILE, FIRST_WHILE = 1.0, 0.1  # seconds; the latter for the first attempt at a new host


class AttemptWatch:
    """Judges attempts. Pure but for what it tells.

    :param lanes: told of hosts, and of places that are free
    :param backoff: told of hosts in trouble, if there is one
    """

    def __init__(self, lanes: FetchQueue[Any], backoff: HostBackoff | None) -> None:
        self._queue = lanes
        self._backoff = backoff
        self._failures: dict[str, int] = {}  # in a row, by host; the latest last

    def look(self, parts: Iterable[PartFetches], now: float) -> bool:
        """Judge all attempts; a part of which nothing gets on is *stalled*.

        :returns: whether more may begin now
        """
        ceded = False
        for part in parts:
            for fetch, flight in part.active.items():
                ceded |= self._judge(part, fetch, flight, now)
            ours = any(f.finishing or f.busy_since is not None for f in part.active)
            if ours or self._queue.gets_on(part):
                part.stalled = None
            elif part.stalled is None:
                part.stalled = now
        return ceded

    def _judge(self, part: PartFetches, fetch: Fetch, flight: Flight, now: float) -> bool:
        """:returns: whether more may begin now"""
        passed, placed = now - flight.looked, flight.placed
        if passed < (FIRST_WHILE if flight.new else WHILE):
            return False
        held = fetch.held + (now - fetch.busy_since if fetch.busy_since is not None else 0.0)
        theirs = passed - (held - flight.held)  # seconds for which it was the server's turn
        fast = fetch.received - flight.received >= SPEED * theirs
        flight.received, flight.looked, flight.held = fetch.received, now, held
        news = False
        if fast:
            news = self._queue.note(flight.host, Speed.FAST)
            if not flight.placed:
                flight.placed = True
                self._queue.resume(part)
        elif flight.placed and not fetch.finishing:
            flight.placed = False
            self._queue.cede(part, flight.new)
            self._queue.note(flight.host, Speed.SLOW)
            flight.let_go()
        if flight.new and flight.placed:
            self._queue.known()
        flight.new = False
        return news or (placed and not flight.placed)

    def answered(self, fetch: Fetch, flight: Flight, now: float, good: bool = True) -> bool:
        """A host has answered, be it with a refusal.

        :param good: it was none
        :returns: whether more may be asked of it now
        """
        if good:
            self._failures.pop(flight.host, None)
        took = (now if fetch.came is None else fetch.came) - flight.began - fetch.held
        quick = took < WHILE or fetch.received >= SPEED * took
        if self._backoff is not None:
            self._backoff.good(flight.host)
        return self._queue.note(flight.host, Speed.FAST if quick else Speed.SLOW)

    def redirected(self, flight: Flight, now: float) -> bool:
        """A host has sent an attempt on to another one.

        :returns: as :meth:`answered`
        """
        if self._backoff is not None:
            self._backoff.good(flight.host)
        quick = now - flight.began < WHILE
        return self._queue.note(flight.host, Speed.FAST if quick else Speed.SLOW)

    def failed(
        self, part: PartFetches, fetch: Fetch, flight: Flight, failed: MemberError, now: float
    ) -> bool:
        """An attempt has failed.

        :returns: as :meth:`answered`
        """
        self._note_failure(flight.host, failed)
        if failed.answered and not failed.tells_of_host and failed.code not in TROUBLE:
            return self.answered(fetch, flight, now, good=False)
        if self._backoff is None or failed.stale:
            return False
        if failed.shows_host:
            self._backoff.there(flight.host)
        trouble, away = failed.code in TROUBLE, failed.tells_of_host
        if trouble or away:
            wait = failed.retry_after or 0.0
            self._backoff.bad(flight.host, part.batch, wait, trouble, away)
        return False

    def _note_failure(self, host: str, failed: MemberError) -> None:
        """Say it in the log where a host fails again and again."""
        if failed.stale or failed.ours:
            return
        count = self._failures[host] = self._failures.pop(host, 0) + 1
        if len(self._failures) > KNOWN:
            del self._failures[next(iter(self._failures))]
        if count in TOLD:
            log.warn(
                "{n} requests to {host} have failed in a row: {code}: {detail}",
                host=host, n=count, code=failed.code, detail=failed.detail,
            )  # fmt: skip

    def waits_for(self, part: PartFetches) -> Waits | None:
        """A host that is away, or wants a pause, for which something of the part waits."""
        backoff = self._backoff
        if backoff is None:
            return None
        for host in self._queue.hosts(part):
            if backoff.is_away(host, part.batch):
                return Waits(host, since=backoff.since(host))
            if backoff.until(host, part.batch):
                return Waits(host, until=backoff.until(host, part.batch))
        return None
