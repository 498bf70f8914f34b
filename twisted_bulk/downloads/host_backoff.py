"""Hosts that are in trouble get fewer requests, from all nodes alike.

A host that answers 429 or 503, or not in time, has its limit halved; while it goes well the
limit grows by one a second. One of which several requests in a row tell that it is not there
is *away*: it is asked by one member now and then, and the others wait. Of hosts that were
never in trouble nothing is kept.

What one batch alone says of a host counts for that batch: it may ask in a way that others do not.
Once two batches say it, it counts for all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs.cluster import Cluster, HostNews, HostReport

log = Logger()

EVERY = 1.0  # seconds between looks at what the others know
LONGEST = 600.0  # seconds that a host may make us wait
AWAY = 3  # failures in a row after which a host is away, as in lua/backoff.lua
FIRST, LAST = 1.0, 15.0  # seconds between two requests to it: doubled from the first to the last


@dataclass(slots=True)
class Host:
    """A host in trouble. Times are on the clock.

    :param limit: requests at once; ``until``: none before that, as it has asked
    :param fails: failures in a row that tell of the host; ``since``: when the first was
    :param pause: seconds between two requests while it is away; ``again``: when the next one is
    :param first: the batch that had trouble with it, and ``second``: another one, or 0
    """

    limit: int
    until: float = 0.0
    fails: int = 0
    since: float = 0.0
    pause: float = 0.0
    again: float = 0.0
    first: int = 0
    second: int = 0

    def counts(self, batch: int) -> bool:
        """Whether what is known of it counts for ``batch``."""
        return bool(self.second) or self.first == batch

    def complain(self, batch: int) -> None:
        """One more batch has trouble with it."""
        if not self.first:
            self.first = batch
        elif batch != self.first:
            self.second = self.second or batch


@dataclass(slots=True)
class _Report:
    """What the others have not been told yet: it had trouble; it has answered, and served a
    request; and, after that, so many failures."""

    trouble: bool = False
    there: bool = False
    good: bool = False
    fails: int = 0


class HostBackoff(Service):
    """What hosts in trouble get.

    :param most: requests at once to any other host
    """

    def __init__(self, cluster: Cluster, clock: IReactorTime, most: int) -> None:
        self._cluster = cluster
        self._clock = clock
        self._most = most
        self._hosts: dict[str, Host] = {}
        self._reports: dict[str, _Report] = {}
        self._changed: Callable[[], object] = lambda: None
        self._needed: Callable[[], bool] = lambda: False
        self._telling = False
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def connect(self, needed: Callable[[], bool], changed: Callable[[], object]) -> None:
        """Learn whether hosts are being asked at all, and whom to tell of changes."""
        self._needed = needed
        self._changed = changed

    def startService(self) -> None:
        super().startService()
        self._looking.start(EVERY, now=False)

    def stopService(self) -> None:
        super().stopService()
        self._looking.stop()

    def _known(self, host: str, batch: int) -> Host | None:
        """What is known of a host, as far as it counts for ``batch``."""
        found = self._hosts.get(host)
        return found if found is not None and found.counts(batch) else None

    def allowed(self, host: str, batch: int) -> int:
        """How many requests there may be to ``host`` at once, where ``batch`` asks."""
        found, now = self._known(host, batch), self._clock.seconds()
        if found is None:
            return self._most
        if found.until > now:
            return 0
        if found.fails >= AWAY:
            return int(found.again <= now)
        return min(found.limit, self._most)

    def is_away(self, host: str, batch: int) -> bool:
        """Whether ``host`` has failed several times in a row."""
        found = self._known(host, batch)
        return found is not None and found.fails >= AWAY

    def since(self, host: str) -> float:
        """When ``host``, which is away, began to fail, on the clock."""
        return self._hosts[host].since

    def until(self, host: str, batch: int) -> float:
        """Until when ``host`` gets nothing, as it has asked for that, on the clock; 0: it may."""
        found = self._known(host, batch)
        return found.until if found is not None and found.until > self._clock.seconds() else 0.0

    def there(self, host: str) -> None:
        """``host`` has answered, however little that helped."""
        found = self._hosts.get(host)
        if found is None:
            return
        if found.fails:
            was_away, found.fails, found.pause, found.again = found.fails >= AWAY, 0, 0.0, 0.0
            if was_away:
                log.info("{host} is back", host=host)
                self._clock.callLater(0, self._changed)
        report = self._report(host)
        report.there, report.fails = True, 0

    def good(self, host: str) -> None:
        """``host`` served a request."""
        if host in self._hosts:
            self.there(host)
            self._report(host).good = True

    def bad(
        self, host: str, batch: int, wait: float, trouble: bool = True, away: bool = False
    ) -> None:
        """A request to ``host`` has failed.

        :param batch: whose it was
        :param wait: seconds of pause that it asked for, or 0
        :param trouble: it has too much to do, and shall get less
        :param away: it may not be there at all, or be there for nobody
        """
        now = self._clock.seconds()
        found = self._hosts.get(host)
        if found is None:
            found = self._hosts[host] = Host(self._most)
            if trouble:
                found.limit = max(1, self._most // 2)  # until the others' opinion is known
        found.complain(batch)
        found.until = max(found.until, now + min(wait, LONGEST))
        report = self._report(host)
        report.trouble |= trouble
        if away:
            report.fails += 1
            self._fails(host, found, now)
        self._tell_soon()

    def _fails(self, name: str, host: Host, now: float) -> None:
        host.fails += 1
        if host.fails == 1:
            host.since = now
        if host.fails >= AWAY and now >= host.again:
            host.pause = min(LAST, max(FIRST, 2 * host.pause))
            host.again = now + host.pause
        if host.fails == AWAY:
            log.warn("{host} is away: it is asked now and then, its members wait", host=name)

    def _report(self, host: str) -> _Report:
        return self._reports.setdefault(host, _Report())

    def _tell_soon(self) -> None:
        if not self._telling and self.running:
            self._telling = True
            self._clock.callLater(0, self._look)

    def _look(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._tell()).addErrback(self._failed)

    def _failed(self, failure: Any) -> None:
        # While the queue is away what is known holds, and time passes for it.
        if not failure.check(Unavailable):
            log.failure("telling of hosts failed", failure)
        self._changed()

    async def _tell(self) -> None:
        self._telling = False
        if not (self._reports or self._hosts or self._needed()):
            return
        reports, self._reports = self._reports, {}
        now = self._clock.seconds()
        words = [self._told(name, report, now) for name, report in reports.items()]
        try:
            news = await self._cluster.report_hosts(self._most, words)
        except Unavailable:
            for name, report in reports.items():
                self._put_back(name, report)
            raise
        self._learn(news)

    def _put_back(self, name: str, old: _Report) -> None:
        """A report that nobody has heard; what came after it is newer."""
        new = self._reports.setdefault(name, old)
        if new is not old:
            new.trouble |= old.trouble
            if not new.there:
                new.there, new.good, new.fails = old.there, old.good, old.fails + new.fails

    def _told(self, name: str, report: _Report, now: float) -> HostReport:
        host = self._hosts.get(name, Host(self._most))
        wait = max(0.0, host.until - now)
        return HostReport(
            name,
            report.trouble,
            wait,
            report.there,
            report.good,
            report.fails,
            host.first,
            host.second,
        )

    def _learn(self, news: Sequence[HostNews]) -> None:
        """What all nodes together know."""
        now, before = self._clock.seconds(), self._hosts
        # What happened meanwhile is newer than the reply.
        self._hosts = {host: before[host] for host in self._reports if host in before}
        for told in news:
            pause = before[told.name].pause if told.name in before else 0.0
            self._hosts.setdefault(
                told.name,
                Host(
                    told.limit,
                    until=now + told.wait,
                    fails=told.fails,
                    since=now - told.age,
                    pause=pause,
                    again=now + told.again,
                    first=told.first,
                    second=told.second,
                ),
            )
        self._changed()
