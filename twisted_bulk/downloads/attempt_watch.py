"""Judges how attempts progress, and tells the queue and the backoff of their hosts.

An attempt to which its server sends next to nothing has no place, see
:mod:`twisted_bulk.downloads.fetch_queue`. A host that fails is reported to
:mod:`twisted_bulk.downloads.host_backoff`.
"""

from collections.abc import Iterable
from typing import Any

from twisted.logger import Logger

from twisted_bulk.downloads.fetch import Fetch
from twisted_bulk.downloads.fetch_queue import FetchQueue
from twisted_bulk.downloads.host_backoff import HostBackoff
from twisted_bulk.downloads.part_fetches import Flight, PartFetches, Waits
from twisted_bulk.downloads.queue_state import Speed
from twisted_bulk.errors import MemberError

log = Logger()

#: Codes of failures after which a host gets fewer requests.
TROUBLE_CODES = frozenset(
    ("http_throttled", "http_unavailable", "connect_timeout", "header_timeout", "idle_timeout")
)
LOGGED_FAILURES = frozenset((10, 100, 1000, 10_000, 100_000))  # in a row; each is a line in the log
MAX_HOSTS = 10_000  # whose failures are counted; beyond it the oldest count is dropped
MIN_SPEED = 20_000  # bytes a second that must come, for an attempt to have a place
#: Seconds over which the speed of an attempt is judged. At a host that has not answered yet it is
#: FIRST_WINDOW, so that its place is soon free if no answer comes.
WINDOW, FIRST_WINDOW = 1.0, 0.1


class AttemptWatch:
    """Judges attempts. Pure, but for the log.

    :param queue: told of the speeds of hosts, and of places that are given back
    :param backoff: told of hosts in trouble; None: nobody is
    """

    def __init__(self, queue: FetchQueue[Any], backoff: HostBackoff | None) -> None:
        self._queue = queue
        self._backoff = backoff
        self._failures: dict[str, int] = {}  # in a row, by host; the latest last

    def look(self, parts: Iterable[PartFetches], now: float) -> bool:
        """Judge all attempts. A part of which no attempt makes progress is *stalled*.

        :returns: whether more attempts may begin now
        """
        ceded = False
        for part in parts:
            for fetch, flight in part.active.items():
                ceded |= self._judge(part, fetch, flight, now)
            at_work = any(
                f.reception.finishing or f.reception.busy_since is not None for f in part.active
            )
            if at_work or self._queue.gets_on(part):
                part.stalled = None
            elif part.stalled is None:
                part.stalled = now
        return ceded

    def _judge(self, part: PartFetches, fetch: Fetch, flight: Flight, now: float) -> bool:
        """:returns: whether more attempts may begin now"""
        reception = fetch.reception
        passed, placed = now - flight.looked, flight.placed
        if passed < (FIRST_WINDOW if flight.new else WINDOW):
            return False
        busy = now - reception.busy_since if reception.busy_since is not None else 0.0
        held = reception.held + busy
        reading = passed - (held - flight.held)  # seconds for which the server could send
        fast = reception.received - flight.received >= MIN_SPEED * reading
        flight.received, flight.looked, flight.held = reception.received, now, held
        news = False
        if fast:
            news = self._queue.note(flight.host, Speed.FAST)
            if not flight.placed:
                flight.placed = True
                self._queue.resume(part)
        elif flight.placed and not reception.finishing:
            flight.placed = False
            self._queue.cede(part, flight.new)
            self._queue.note(flight.host, Speed.SLOW)
            flight.give_place()
        if flight.new and flight.placed:
            self._queue.host_answered()
        flight.new = False
        return news or (placed and not flight.placed)

    def answered(self, fetch: Fetch, flight: Flight, now: float, good: bool = True) -> bool:
        """A host has answered, be it with a refusal.

        :param good: it was no refusal
        :returns: whether more attempts may begin now
        """
        if good:
            self._failures.pop(flight.host, None)
        reception = fetch.reception
        came = now if reception.came is None else reception.came
        took = came - flight.began - reception.held
        quick = took < WINDOW or reception.received >= MIN_SPEED * took
        if self._backoff is not None:
            self._backoff.good(flight.host)
        return self._queue.note(flight.host, Speed.FAST if quick else Speed.SLOW)

    def redirected(self, flight: Flight, now: float) -> bool:
        """A host has redirected an attempt to another one.

        :returns: as :meth:`answered`
        """
        if self._backoff is not None:
            self._backoff.good(flight.host)
        quick = now - flight.began < WINDOW
        return self._queue.note(flight.host, Speed.FAST if quick else Speed.SLOW)

    def failed(
        self, part: PartFetches, fetch: Fetch, flight: Flight, failed: MemberError, now: float
    ) -> bool:
        """An attempt has failed.

        :returns: as :meth:`answered`
        """
        self._note_failure(flight.host, failed)
        if failed.answered and not failed.tells_of_host and failed.code not in TROUBLE_CODES:
            return self.answered(fetch, flight, now, good=False)
        if self._backoff is None or failed.stale:
            return False
        if failed.shows_host:
            self._backoff.there(flight.host)
        trouble, away = failed.code in TROUBLE_CODES, failed.tells_of_host
        if trouble or away:
            wait = failed.retry_after or 0.0
            self._backoff.bad(flight.host, part.batch, wait, trouble, away)
        return False

    def _note_failure(self, host: str, failed: MemberError) -> None:
        """Count the failures of a host in a row; the log tells of some numbers."""
        if failed.stale or failed.ours:
            return
        count = self._failures[host] = self._failures.pop(host, 0) + 1
        if len(self._failures) > MAX_HOSTS:
            del self._failures[next(iter(self._failures))]
        if count in LOGGED_FAILURES:
            log.warn(
                "{n} requests to {host} have failed in a row: {code}: {detail}",
                host=host, n=count, code=failed.code, detail=failed.detail,
            )  # fmt: skip

    def waits_for(self, part: PartFetches) -> Waits | None:
        """A host for which fetches of the part wait, as it is away or wants a pause; or None."""
        backoff = self._backoff
        if backoff is None:
            return None
        for host in self._queue.hosts(part):
            if backoff.is_away(host, part.batch):
                return Waits(host, since=backoff.since(host))
            if backoff.until(host, part.batch):
                return Waits(host, until=backoff.until(host, part.batch))
        return None
