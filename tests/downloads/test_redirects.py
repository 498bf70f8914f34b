"""Redirects to other hosts: each hop takes a place of its own host, and answers for it."""

from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.support.downloads import DownloadTestCase
from tests.support.origin_server import Exchange, Site, ok, respond
from tests.support.reactor import reactor
from twisted_bulk.downloads import retries
from twisted_bulk.downloads.fetch import Fetch
from twisted_bulk.downloads.host_backoff import HostBackoff
from twisted_bulk.downloads.part_fetches import MAX_REDIRECTS_WAITING, PartFetches


class HopTests(DownloadTestCase):
    """Redirects from several hosts to one."""

    def setUp(self) -> None:
        super().setUp()
        self.other = Site(self)
        self.going = self.most = 0

    def slowly(self, exchange: Exchange) -> None:
        """Answer after a moment; ``most`` requests were on their way at once."""
        self.going += 1
        self.most = max(self.most, self.going)
        exchange.later(0.05, self.done)

    def done(self, exchange: Exchange) -> None:
        self.going -= 1
        exchange.write(ok(b"hello"))

    def redirecting(self, count: int, to: str = "") -> list[Fetch]:
        """Fetches of three hosts in turn, all of which lead to the other one."""
        port, fetches = self.site.port.getHost().port, []
        for number in range(count):
            name = ("127.0.0.1", "localhost", "a_files.localhost")[number % 3]
            target = f"{to or self.other.url}/{number}"
            self.site.answers[f"/{number}"] = respond("302 Found", b"", f"Location: {target}")
            fetches.append(self.one(f"http://{name}:{port}/{number}"))
        return fetches

    async def test_one_limit(self) -> None:
        """A host gets as many requests as one may have, from wherever they were sent to it."""
        fetches = self.redirecting(24)
        for number in range(24):
            self.other.answers[f"/{number}"] = self.slowly
        await self.get(*fetches, concurrency=24, per_host=4)
        self.assertEqual(set(self.errors.values()), {None})
        self.assertEqual(self.most, 4)
        self.assertEqual({fetch.tries.attempts for fetch in fetches}, {1})
        self.assertEqual(len(self.site.requests), 24)

    async def test_blame(self) -> None:
        """A failure counts for the host that failed, and the redirect speaks for the other."""
        backoff: Any = HostBackoff(None, reactor, 8)  # type: ignore[arg-type]
        (fetch,) = self.redirecting(1)
        self.other.answers["/0"] = respond("503 Service Unavailable")
        await self.get(fetch, retries=0, backoff=backoff)
        bad, good = (site.url.removeprefix("http://") for site in (self.other, self.site))
        part = PartFetches(left=0).batch
        self.assertEqual((backoff.allowed(bad, part), backoff.allowed(good, part)), (4, 8))
        self.assertEqual(backoff.allowed(bad, part + 1), 8)

    async def test_expired(self) -> None:
        """Where a redirect had to wait, and what it names has expired, it is asked for anew, and
        that costs no try; nothing else is."""
        self.patch(retries, "EXPIRY_SECONDS", 0.1)
        fetches = self.redirecting(4)
        late = [respond("403 Forbidden"), ok(b"hello")]
        for number in range(2):
            self.other.answers[f"/{number}"] = partial(Exchange.later, seconds=0.15, call=self.done)
        self.other.answers["/2"], self.other.answers["/3"] = late, ok(b"hello")
        self.going = 2
        await self.get(*fetches, per_host=2, retries=0)
        self.assertEqual(set(self.errors.values()), {None})
        self.assertEqual([fetch.tries.attempts for fetch in fetches], [1, 1, 2, 1])
        self.assertEqual(len(self.other.requests), 5)

    async def test_both_ways(self) -> None:
        """Two hosts that redirect to each other, with all their places taken, come to an end."""
        self.patch(retries, "EXPIRY_SECONDS", 0.05)
        hosts = self.site, self.other
        fetches = []
        for site, target in (hosts, hosts[::-1]):
            for number in range(12):
                location = f"Location: {target.url}/f{number}"
                site.answers[f"/r{number}"] = respond("302 Found", b"", location)
                site.answers[f"/f{number}"] = partial(Exchange.later, seconds=0.1, call=self.done)
                fetches.append(self.one(f"{site.url}/r{number}"))
        downloader = self.start(per_host=2, concurrency=32, retries=0)
        going = [
            Deferred.fromCoroutine(downloader.fetch(PartFetches(left=6), fetches[n : n + 6]))
            for n in range(0, 24, 6)
        ]
        for one in going:
            await one
        self.assertEqual(set(self.errors.values()), {None})
        # Nobody holds anything after that.
        self.site.answers["/a"] = ok(b"a")
        await downloader.fetch(PartFetches(left=1), [self.one("/a")])
        self.assertIsNone(self.errors["/a"])

    async def test_held_back(self) -> None:
        """While a host is busy, its redirectors are not asked for more than it can take soon; one
        that hangs does not keep those from others that lead elsewhere."""
        self.patch(retries, "EXPIRY_SECONDS", 0.2)
        fetches = self.redirecting(60)
        for number in range(60):
            self.other.answers[f"/{number}"] = lambda exchange: None
        url = f"{self.site.url}/last"
        self.site.answers["/last"] = respond("302 Found", b"", "Location: http://localhost:"
                                             f"{self.other.port.getHost().port}/good")  # fmt: skip
        self.other.answers["/good"] = ok(b"hello")
        downloader = self.start(per_host=2, concurrency=32, retries=0)
        last = self.one(url)
        going = Deferred.fromCoroutine(downloader.fetch(PartFetches(left=61), [*fetches, last]))
        going.addErrback(lambda _: None)
        await deferLater(reactor, 0.1)
        self.assertLess(len(self.site.requests), 3 * (MAX_REDIRECTS_WAITING + 4))
        while url not in self.errors:
            await deferLater(reactor, 0.05)
        self.assertIsNone(self.errors[url])
        going.cancel()
