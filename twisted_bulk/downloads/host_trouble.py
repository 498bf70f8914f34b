"""A host in trouble: how many requests it gets, and when. Pure, over ``now``."""

from dataclasses import dataclass

from twisted_bulk.downloads.retries import MAX_WAIT
from twisted_bulk.jobs.cluster import HostNews, HostReport

AWAY_FAILURES = 3  # in a row, after which a host is away; as in lua/report_hosts.lua
FIRST_PAUSE, LAST_PAUSE = 1.0, 15.0  # seconds between two requests to it: doubled up to the last


@dataclass(slots=True)
class HostTrouble:
    """A host in trouble. Times are on the reactor's clock.

    :param limit: requests at once
    :param until: it gets none before that, as it has asked for a pause
    :param fails: failures in a row that tell of the host, and not of one request
    :param since: when the first of these was
    :param pause: seconds between two requests while it is away
    :param again: when it is asked next while it is away
    :param first: number of the batch that had trouble with it, or 0
    :param second: number of another one, or 0
    """

    limit: int
    until: float = 0.0
    fails: int = 0
    since: float = 0.0
    pause: float = 0.0
    again: float = 0.0
    first: int = 0
    second: int = 0

    @property
    def is_away(self) -> bool:
        """Whether it failed so often that it is only asked now and then."""
        return self.fails >= AWAY_FAILURES

    def counts(self, batch: int) -> bool:
        """Whether its trouble holds for ``batch``: one batch's own, or that of two batches."""
        return bool(self.second) or self.first == batch

    def add_batch(self, batch: int) -> None:
        """This batch has trouble with it, too."""
        if not self.first:
            self.first = batch
        elif batch != self.first:
            self.second = self.second or batch

    def wait(self, seconds: float, now: float) -> None:
        """It has asked for a pause of so many seconds."""
        self.until = max(self.until, now + min(seconds, MAX_WAIT))

    def fail(self, now: float) -> bool:
        """One more failure; returns whether it is away from now on."""
        self.fails += 1
        if self.fails == 1:
            self.since = now
        if self.is_away and now >= self.again:
            self.pause = min(LAST_PAUSE, max(FIRST_PAUSE, 2 * self.pause))
            self.again = now + self.pause
        return self.fails == AWAY_FAILURES

    def recover(self) -> bool:
        """It has answered; returns whether it was away."""
        was_away = self.is_away
        self.fails, self.pause, self.again = 0, 0.0, 0.0
        return was_away

    @classmethod
    def of(cls, news: HostNews, now: float, pause: float) -> "HostTrouble":
        """A host as all nodes together know it.

        :param pause: between two requests, as this node knew it before
        """
        return cls(
            news.limit,
            until=now + news.wait,
            fails=news.fails,
            since=now - news.age,
            pause=pause,
            again=now + news.again,
            first=news.first,
            second=news.second,
        )


@dataclass(slots=True)
class Unreported:
    """What happened with a host since the other nodes were told.

    :param trouble: it had too much to do
    :param there: it has answered
    :param good: it has served a request
    :param fails: failures after that
    """

    trouble: bool = False
    there: bool = False
    good: bool = False
    fails: int = 0

    def put_back(self, old: "Unreported") -> None:
        """``old`` could not be told; this one came after it, and is newer."""
        self.trouble |= old.trouble
        if not self.there:
            self.there, self.good, self.fails = old.there, old.good, old.fails + self.fails

    def report(self, name: str, host: HostTrouble, now: float) -> HostReport:
        """The report for the other nodes."""
        wait = max(0.0, host.until - now)
        return HostReport(
            name, self.trouble, wait, self.there, self.good, self.fails, host.first, host.second
        )
