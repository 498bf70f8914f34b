"""A downloader on loopback, with sinks that keep what they get."""

import time
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.support.origin_server import Site
from tests.support.reactor import reactor
from twisted_bulk.batch.model import Member
from twisted_bulk.dialing.guard import Guard
from twisted_bulk.dialing.tls import TLSPolicy
from twisted_bulk.download import Downloader
from twisted_bulk.downloads import retries
from twisted_bulk.downloads.attempt import Fetcher
from twisted_bulk.downloads.body import BodyLimits
from twisted_bulk.downloads.fetch import Fetch
from twisted_bulk.downloads.limits import Limits
from twisted_bulk.downloads.part_fetches import PartFetches
from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.agent import GuardedAgent

PORTS = (range(1, 22), range(80, 81), range(443, 444), range(1024, 65536))


def look_up(host: str) -> list[str]:
    """Some names that tests use; ``slow.example`` takes its time."""
    if host == "localhost" or host.endswith("_files.localhost"):
        return ["127.0.0.1"]
    if host.endswith("two.localhost"):
        return ["127.0.0.1", "127.0.0.2"]
    if host == "slow.example":
        time.sleep(3)
    raise OSError(host)


def limits(concurrency: int, per_host: int) -> Limits:
    """The same for each host."""
    return Limits(concurrency, lambda host, batch: per_host)


class Bucket:
    """A sink that keeps what it gets.

    ``most_at_once``: bytes that came while it was busy, and those for which it was.
    """

    def __init__(self, busy: bool = False) -> None:
        self.data = b""
        self.most_at_once = self._at_once = 0
        self.finished = self.discarded = False
        self._writing: Deferred[None] = succeed(None)
        self._busy = busy

    def write(self, data: bytes) -> Deferred[None] | None:
        self.data += data
        if not self._busy:
            return None
        self._at_once += len(data)
        self.most_at_once = max(self.most_at_once, self._at_once)
        self._writing = Deferred()
        reactor.callLater(0.001, self._written, self._writing)
        return self._writing

    def _written(self, writing: Deferred[None]) -> None:
        self._at_once = 0
        writing.callback(None)

    async def finish(self) -> None:
        while not self._writing.called:
            await deferLater(reactor, 0.001)
        self.finished = True

    def discard(self) -> None:
        self.discarded = True


@dataclass
class Hole:
    """Where a fetch of a test goes."""

    case: "DownloadTestCase"
    url: str
    busy: bool

    async def open(self, fetch: Fetch) -> Bucket:
        self.case.sinks.append(Bucket(self.busy))
        return self.case.sinks[-1]

    def ended(self, fetch: Fetch, error: MemberError | None) -> None:
        self.case.errors[self.url] = error


class DownloadTestCase(TestCase):
    """A downloader, sinks, and a server that does as it is told."""

    timeout = 20

    def setUp(self) -> None:
        self.site = Site(self)
        self.patch(retries, "PAUSES", (0.01,))
        self.sinks: list[Bucket] = []
        self.errors: dict[str, MemberError | None] = {}

    def start(self, **settings: Any) -> Downloader:
        guard = Guard([ip_network("127.0.0.0/8")], PORTS)
        authorities = settings.pop("authorities", ())
        agent = GuardedAgent(
            reactor,
            guard,
            8,
            dns_timeout=settings.pop("dns_timeout", 1),
            connect_timeout=1,
            tls=TLSPolicy(authorities, settings.pop("pins", None)),
            find=look_up,
        )
        shared = limits(settings.pop("concurrency", 8), settings.pop("per_host", 8))
        given: dict[str, Any] = {"limits": shared, "retries": 2}
        patience = BodyLimits(
            idle=settings.pop("idle_timeout", 5.0),
            speed=settings.pop("min_speed", 0),
            window=settings.pop("window", 60.0),
            most=settings.pop("member_bytes", 1 << 40),
        )
        fetcher = Fetcher(agent, reactor, settings.pop("header_timeout", 5.0), patience)
        self.agent = agent
        downloader = Downloader(fetcher, reactor, **given | settings)
        agent.startService()
        downloader.startService()
        self.addCleanup(agent.stopService)
        self.addCleanup(downloader.stopService)
        # Not from within the event that ended the test.
        self.addCleanup(deferLater, reactor, 0)
        return downloader

    def one(self, url: str, busy: bool = False, **member: Any) -> Fetch:
        where = url if "://" in url else self.site.url + url
        return Fetch(Member(where, **member), {"X-Batch": "b"}, Hole(self, url, busy))

    async def get(self, *fetches: Fetch, **settings: Any) -> None:
        await self.start(**settings).fetch(PartFetches(left=len(fetches)), fetches)

    async def fails(self, url: str, **settings: Any) -> tuple[str, int]:
        """The code with which ``url`` fails, and after how many attempts."""
        fetch = self.one(url)
        await self.get(fetch, **settings)
        error = self.errors[url]
        assert error is not None
        self.assertFalse(any(sink.finished for sink in self.sinks))
        self.assertTrue(all(sink.discarded for sink in self.sinks))
        return error.code, fetch.tries.attempts
