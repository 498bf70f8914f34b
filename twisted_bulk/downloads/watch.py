"""How downloads get on, and what that tells of their hosts.

An attempt that gets next to nothing from its server holds no place, see
:mod:`twisted_bulk.downloads.lanes`; a host that fails is told to
:mod:`twisted_bulk.downloads.host_backoff`.
"""

from collections.abc import Iterable
from typing import Any

from twisted.logger import Logger

from twisted_bulk.downloads.attempt import Fetch
from twisted_bulk.downloads.crew import Flight, PartFetches, Waits
from twisted_bulk.downloads.host_backoff import HostBackoff
from twisted_bulk.downloads.lanes import FetchQueue, Speed
from twisted_bulk.errors import MemberError

log = Logger()

TROUBLE = frozenset(
    ("http_throttled", "http_unavailable", "connect_timeout", "header_timeout", "idle_timeout")
)
TOLD = frozenset((10, 100, 1000, 10_000, 100_000))  # failures in a row that the log tells of
KNOWN = 10_000  # hosts of which failures are counted
SPEED = 20_000  # bytes a second that have to come over a while, for an attempt to have a place
WHILE, FIRST_WHILE = 1.0, 0.1  # seconds; the latter for the first attempt at a new host


class Watch:
    """Judges attempts. Pure but for what it tells.

    :param lanes: told of hosts, and of places that are free
    :param pace: told of hosts in trouble, if there is one
    """

    def __init__(self, lanes: FetchQueue[Any], pace: HostBackoff | None) -> None:
        self._lanes = lanes
        self._pace = pace
        self._failures: dict[str, int] = {}  # in a row, by host; the latest last

    def look(self, crews: Iterable[PartFetches], now: float) -> bool:
        """Judge all attempts; a crew of which nothing gets on is *stalled*.

        :returns: whether more may begin now
        """
        ceded = False
        for crew in crews:
            for fetch, flight in crew.active.items():
                ceded |= self._judge(crew, fetch, flight, now)
            ours = any(f.finishing or f.busy_since is not None for f in crew.active)
            if ours or self._lanes.gets_on(crew):
                crew.stalled = None
            elif crew.stalled is None:
                crew.stalled = now
        return ceded

    def _judge(self, crew: PartFetches, fetch: Fetch, flight: Flight, now: float) -> bool:
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
            news = self._lanes.note(flight.host, Speed.FAST)
            if not flight.placed:
                flight.placed = True
                self._lanes.resume(crew)
        elif flight.placed and not fetch.finishing:
            flight.placed = False
            self._lanes.cede(crew, flight.new)
            self._lanes.note(flight.host, Speed.SLOW)
            flight.let_go()
        if flight.new and flight.placed:
            self._lanes.known()
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
        if self._pace is not None:
            self._pace.good(flight.host)
        return self._lanes.note(flight.host, Speed.FAST if quick else Speed.SLOW)

    def redirected(self, flight: Flight, now: float) -> bool:
        """A host has sent an attempt on to another one.

        :returns: as :meth:`answered`
        """
        if self._pace is not None:
            self._pace.good(flight.host)
        quick = now - flight.began < WHILE
        return self._lanes.note(flight.host, Speed.FAST if quick else Speed.SLOW)

    def failed(
        self, crew: PartFetches, fetch: Fetch, flight: Flight, failed: MemberError, now: float
    ) -> bool:
        """An attempt has failed.

        :returns: as :meth:`answered`
        """
        self._note_failure(flight.host, failed)
        if failed.answered and not failed.tells_of_host and failed.code not in TROUBLE:
            return self.answered(fetch, flight, now, good=False)
        if self._pace is None or failed.stale:
            return False
        if failed.shows_host:
            self._pace.there(flight.host)
        trouble, away = failed.code in TROUBLE, failed.tells_of_host
        if trouble or away:
            wait = failed.retry_after or 0.0
            self._pace.bad(flight.host, crew.batch, wait, trouble, away)
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

    def waits_for(self, crew: PartFetches) -> Waits | None:
        """A host that is away, or wants a pause, for which something of the crew waits."""
        pace = self._pace
        if pace is None:
            return None
        for host in self._lanes.hosts(crew):
            if pace.is_away(host, crew.batch):
                return Waits(host, since=pace.since(host))
            if pace.until(host, crew.batch):
                return Waits(host, until=pace.until(host, crew.batch))
        return None
