"""Hosts in trouble get fewer requests, from all nodes together.

A host that answers 429 or 503, or not in time, has its limit halved. While it serves requests the
limit grows by one a second. A host of which several requests in a row show that it is not there is
*away*: one request now and then asks it, and the others wait. Nothing is kept of hosts that were
never in trouble.

Trouble that one batch alone has counts for that batch only: its requests may differ from others'.
Once two batches have trouble with a host, that counts for all.
"""

from collections.abc import Callable, Sequence

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_bulk.downloads.host_trouble import HostTrouble, Unreported
from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs.cluster import Cluster, HostNews
from twisted_bulk.system.periodic import Periodic

log = Logger()

EXCHANGE_SECONDS = 1.0  # between two exchanges with the other nodes


class HostBackoff(MultiService):
    """What hosts in trouble get.

    While the queue is away the last news hold.

    :param most: requests at once to a host that is not in trouble
    """

    def __init__(self, cluster: Cluster, clock: IReactorTime, most: int) -> None:
        super().__init__()
        self._cluster = cluster
        self._clock = clock
        self._most = most
        self._hosts: dict[str, HostTrouble] = {}
        self._unreported: dict[str, Unreported] = {}
        self._changed: Callable[[], object] = lambda: None
        self._needed: Callable[[], bool] = lambda: False
        self._soon = False  # an exchange was ordered for this turn of the reactor
        Periodic(
            log, clock, EXCHANGE_SECONDS, self._exchange, name="telling of hosts", at_once=False
        ).setServiceParent(self)

    def connect(self, needed: Callable[[], bool], changed: Callable[[], object]) -> None:
        """:param needed: whether hosts are asked at all now
        :param changed: called when a host may get another number of requests
        """
        self._needed = needed
        self._changed = changed

    def _known(self, host: str, batch: int) -> HostTrouble | None:
        """The trouble of a host, if it counts for ``batch``."""
        found = self._hosts.get(host)
        return found if found is not None and found.counts(batch) else None

    def allowed(self, host: str, batch: int) -> int:
        """How many requests for ``batch`` there may be to ``host`` at once."""
        found, now = self._known(host, batch), self._clock.seconds()
        if found is None:
            return self._most
        if found.until > now:
            return 0
        if found.is_away:
            return int(found.again <= now)
        return min(found.limit, self._most)

    def is_away(self, host: str, batch: int) -> bool:
        """Whether ``host`` is away, as ``batch`` sees it."""
        found = self._known(host, batch)
        return found is not None and found.is_away

    def since(self, host: str) -> float:
        """When ``host``, which is away, began to fail, on the reactor's clock."""
        return self._hosts[host].since

    def until(self, host: str, batch: int) -> float:
        """When the pause ends that ``host`` asked for, on the reactor's clock; 0: there is none."""
        found = self._known(host, batch)
        return found.until if found is not None and found.until > self._clock.seconds() else 0.0

    def there(self, host: str) -> None:
        """``host`` has answered, be it with a refusal."""
        found = self._hosts.get(host)
        if found is None:
            return
        if found.fails and found.recover():
            log.info("{host} is back", host=host)
            self._clock.callLater(0, self._changed)
        report = self._report(host)
        report.there, report.fails = True, 0

    def good(self, host: str) -> None:
        """``host`` has served a request."""
        if host in self._hosts:
            self.there(host)
            self._report(host).good = True

    def bad(
        self, host: str, batch: int, wait: float, trouble: bool = True, away: bool = False
    ) -> None:
        """A request to ``host`` has failed.

        :param batch: number of the batch that made it
        :param wait: seconds of pause that it asked for, or 0
        :param trouble: it has too much to do, and shall get less
        :param away: it may not be there at all
        """
        now = self._clock.seconds()
        found = self._hosts.get(host)
        if found is None:
            found = self._hosts[host] = HostTrouble(self._most)
            if trouble:
                found.limit = max(1, self._most // 2)  # until the other nodes' news are known
        found.add_batch(batch)
        found.wait(wait, now)
        report = self._report(host)
        report.trouble |= trouble
        if away:
            report.fails += 1
            if found.fail(now):
                log.warn("{host} is away: it is asked now and then, its members wait", host=host)
        self._exchange_soon()

    def _report(self, host: str) -> Unreported:
        return self._unreported.setdefault(host, Unreported())

    def _exchange_soon(self) -> None:
        if not self._soon and self.running:
            self._soon = True
            self._clock.callLater(0, self._exchange_now)

    def _exchange_now(self) -> None:
        exchanging = Deferred.fromCoroutine(self._exchange())
        exchanging.addErrback(
            lambda f: None if f.check(Unavailable) else log.failure("telling of hosts failed", f)
        )

    async def _exchange(self) -> None:
        """Tell the other nodes, and learn from them."""
        self._soon = False
        if not (self._unreported or self._hosts or self._needed()):
            return
        try:
            await self._tell()
        finally:
            self._changed()  # time has passed, also where the queue is away

    async def _tell(self) -> None:
        unreported, self._unreported = self._unreported, {}
        now = self._clock.seconds()
        reports = [
            one.report(name, self._hosts.get(name, HostTrouble(self._most)), now)
            for name, one in unreported.items()
        ]
        try:
            news = await self._cluster.report_hosts(self._most, reports)
        except Unavailable:
            for name, old in unreported.items():
                new = self._unreported.setdefault(name, old)
                if new is not old:
                    new.put_back(old)
            raise
        self._learn(news)

    def _learn(self, news: Sequence[HostNews]) -> None:
        """Take over what all nodes together know."""
        now, before = self._clock.seconds(), self._hosts
        # Events of this node since it sent its report are newer than the reply.
        self._hosts = {host: before[host] for host in self._unreported if host in before}
        for told in news:
            pause = before[told.name].pause if told.name in before else 0.0
            self._hosts.setdefault(told.name, HostTrouble.of(told, now, pause))
