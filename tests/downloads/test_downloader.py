"""Members fetched from servers that do as tests tell them."""

import socket
import struct
import time
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.tcp import Client
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse
from twisted.web.resource import Resource
from twisted.web.server import Site as WebSite
from twisted.web.static import Data
from zope.interface import implementer

from tests.jobs.test_rate import Timed
from tests.support.certificates import authority, issue
from tests.support.origin_server import Exchange, Site, ok, respond
from tests.support.reactor import reactor
from twisted_bulk.batch.model import Member
from twisted_bulk.download import Downloader
from twisted_bulk.downloads import attempt_runner, host_backoff, host_trouble, retries
from twisted_bulk.downloads.attempt import Fetcher
from twisted_bulk.downloads.body import BodyLimits
from twisted_bulk.downloads.fetch import Content, Fetch
from twisted_bulk.downloads.fetch_queue import ALL
from twisted_bulk.downloads.host_backoff import HostBackoff
from twisted_bulk.downloads.limits import Limits
from twisted_bulk.downloads.part_fetches import PartFetches
from twisted_bulk.downloads.queue_state import Speed
from twisted_bulk.errors import MemberError, QueueUnavailable
from twisted_bulk.http_client.agent import GuardedAgent
from twisted_bulk.http_client.guard import Guard
from twisted_bulk.jobs.cluster import Cluster

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
    """A sink that keeps what it gets."""

    def __init__(self, busy: bool = False) -> None:
        self.data = b""
        self.finished = self.discarded = False
        self._writing: Deferred[None] = succeed(None)
        self._busy = busy

    def write(self, data: bytes) -> Deferred[None] | None:
        self.data += data
        if not self._busy:
            return None
        self._writing = Deferred()
        reactor.callLater(0.001, self._writing.callback, None)
        return self._writing

    async def finish(self) -> None:
        while not self._writing.called:
            await deferLater(reactor, 0.001)
        self.finished = True

    def discard(self) -> None:
        self.discarded = True


class NoTLS(Protocol):
    """Says something else than TLS, to whomever."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"220 mail.example ESMTP\r\n")


class Endless(Protocol):
    """Over TLS, a body without a length; ``properly`` says whether it ends with an alert."""

    def __init__(self, properly: bool) -> None:
        self.properly = properly

    def dataReceived(self, data: bytes) -> None:
        tls: Any = self.transport
        tls.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        ending = tls if self.properly else tls.transport
        reactor.callLater(0.05, ending.loseConnection)


@dataclass
class Hole:
    """Where a fetch of a test goes."""

    case: "DownloadTestCase"
    url: str
    busy: bool

    def open(self, fetch: Fetch) -> Bucket:
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
            dns_timeout=1,
            connect_timeout=1,
            authorities=authorities,
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


class DownloadTests(DownloadTestCase):
    """Each way in which a fetch can end."""

    async def test_good(self) -> None:
        """Length, body and headers, the member's before the batch's."""
        self.site.answers["/a"] = ok(b"hello", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT")
        fetch = self.one("/a", headers={"x-own": "o"})
        await self.get(fetch)
        self.assertEqual((self.sinks[0].data, self.errors), (b"hello", {"/a": None}))
        self.assertEqual(
            (fetch.reception.verified, fetch.reception.content), (True, Content(5, 784111777))
        )
        headers = self.site.headers()
        self.assertEqual((headers["x-batch"], headers["x-own"]), ("b", "o"))
        self.assertEqual(headers["accept-encoding"], "identity")

    async def test_little_is_asked_of_the_system(self) -> None:
        """A further request over a connection is sent, and its answer read, without a change of
        what the reactor waits for."""
        asked: list[Any] = []

        def watch(name: str) -> None:
            original = getattr(reactor, name)

            def note(selectable: Any) -> None:
                if isinstance(selectable, Client):
                    asked.append(name)
                original(selectable)

            self.patch(reactor, name, note)

        watch("removeReader")
        watch("addWriter")
        self.site.answers["/a"] = ok(b"hello")
        downloader = self.start()
        await downloader.fetch(PartFetches(left=1), [self.one("/a")])
        self.assertTrue(asked)  # to connect
        asked.clear()
        for _ in range(5):
            await downloader.fetch(PartFetches(left=1), [self.one("/a")])
        self.assertEqual((self.site.connections, asked), (1, []))
        self.assertEqual([sink.data for sink in self.sinks], [b"hello"] * 6)

    async def test_chunked(self) -> None:
        """A chunked body's end is certain."""
        self.site.answers["/a"] = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
        fetch = self.one("/a")
        await self.get(fetch)
        self.assertEqual((self.sinks[0].data, fetch.reception.verified), (b"abc", True))

    async def test_until_close(self) -> None:
        """A body that ends with the connection is not certain."""

        def answer(exchange: Exchange) -> None:
            exchange.write(b"HTTP/1.0 200 OK\r\n\r\nabc")
            exchange.close()

        self.site.answers["/a"] = answer
        fetch = self.one("/a")
        await self.get(fetch)
        self.assertEqual((self.sinks[0].data, fetch.reception.verified), (b"abc", False))

    async def test_slow_sink(self) -> None:
        """A busy sink pauses the server; nothing is lost or doubled."""
        body = bytes(range(256)) * 8000
        self.site.answers["/a"] = ok(body)
        await self.get(self.one("/a", busy=True))
        self.assertEqual(self.sinks[0].data, body)

    async def test_statuses(self) -> None:
        """4xx is final; 5xx, 429 and 408 may pass."""
        for number, status in enumerate((404, 403, 410, 451, 204, 304)):
            self.site.answers[f"/{number}"] = respond(f"{status} No")
            self.assertEqual(await self.fails(f"/{number}"), ("http_error", 1))
        for status in (500, 503, 408):
            self.site.answers["/a"] = respond(f"{status} No")
            self.assertEqual(await self.fails("/a"), ("http_unavailable", 3))

    async def test_throttled(self) -> None:
        """Who says "not now" is asked again more often than who breaks, but not for ever."""
        self.patch(retries, "MAX_THROTTLED", 4)
        for answer in (respond("429 No"), respond("503 No", b"", "Retry-After: 0")):
            self.site.answers["/a"] = answer
            self.assertEqual(await self.fails("/a"), ("http_throttled", 7))
            self.assertEqual(await self.fails("/a", retries=0), ("http_throttled", 1))

    async def test_passes(self) -> None:
        """What fails at first and then works is done, each attempt from the start."""

        def cut(exchange: Exchange) -> None:
            exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            exchange.close()

        self.site.answers["/a"] = [respond("503 No"), cut, ok(b"abcdefghi")]
        await self.get(self.one("/a"))
        self.assertEqual(self.errors, {"/a": None})
        self.assertEqual([sink.data for sink in self.sinks], [b"abc", b"abcdefghi"])
        self.assertEqual([sink.discarded for sink in self.sinks], [True, False])

    async def test_short(self) -> None:
        """A body shorter than announced fails."""

        def cut(exchange: Exchange) -> None:
            exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            exchange.close()

        self.site.answers["/a"] = cut
        self.assertEqual(await self.fails("/a"), ("body_short", 3))

    async def test_broken_chunks(self) -> None:
        """A chunked body cut off fails."""

        def cut(exchange: Exchange) -> None:
            exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc")
            exchange.close()

        self.site.answers["/a"] = cut
        self.assertEqual(await self.fails("/a"), ("body_short", 3))

    async def test_silences(self) -> None:
        """No answer, half an answer, an answer that stops: each has its deadline."""
        self.site.answers["/none"] = lambda exchange: None
        self.site.answers["/half"] = b"HTTP/1.1 200 OK\r\nContent-"
        self.site.answers["/stop"] = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"
        brief = {"header_timeout": 0.2, "idle_timeout": 0.2, "retries": 0}
        self.assertEqual(await self.fails("/none", **brief), ("header_timeout", 1))
        self.assertEqual(await self.fails("/half", **brief), ("header_timeout", 1))
        self.assertEqual(await self.fails("/stop", **brief), ("idle_timeout", 1))
        self.assertEqual(await self.fails("/stop", member_timeout=0.2), ("member_timeout", 1))

    async def test_unreachable(self) -> None:
        """Names, ports and addresses that lead nowhere."""
        port = Site(self)
        dead = port.url
        await port.port.stopListening()
        self.assertEqual(await self.fails(dead + "/", retries=0), ("connect_failed", 1))
        self.assertEqual(await self.fails("http://no.invalid/", retries=1), ("dns_failed", 2))
        self.assertEqual(await self.fails("http://10.0.0.1/"), ("address_refused", 1))
        self.assertEqual(await self.fails("http://[::1]:1/"), ("address_refused", 1))
        self.assertEqual(await self.fails("http://a..b/"), ("bad_url", 1))

    async def test_nonsense(self) -> None:
        """Not HTTP, or no TLS where TLS was asked for."""
        self.site.answers["/a"] = b"+PONG\r\n\r\n"
        code, _ = await self.fails("/a", retries=0)
        self.assertEqual(code, "bad_response")
        port = reactor.listenTCP(0, Factory.forProtocol(NoTLS), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        tls = f"https://127.0.0.1:{port.getHost().port}/"
        self.assertEqual(await self.fails(tls, retries=0), ("tls_failed", 1))
        self.site.answers["/b"] = lambda exchange: exchange.abort()
        self.assertEqual((await self.fails("/b", retries=0))[0], "connection_lost")

    async def test_encoded(self) -> None:
        """A gzip bomb is not inflated."""
        self.site.answers["/a"] = ok(b"\x1f\x8b...", "Content-Encoding: gzip")
        self.assertEqual(await self.fails("/a"), ("content_encoded", 1))

    async def test_redirects(self) -> None:
        """Followed, at most five, checked anew; secrets stay with their host."""
        other = Site(self)
        other.answers["/c"] = ok(b"there")
        self.site.answers["/a"] = respond("302 Found", b"x" * 99, "Location: b?q=1")
        self.site.answers["/b?q=1"] = respond("307 T", b"", f"Location: {other.url}/c")
        secret = {"Authorization": "Bearer s", "X-Keep": "k"}
        await self.get(self.one("/a", headers=secret))
        self.assertEqual(self.sinks[0].data, b"there")
        self.assertEqual(self.site.headers()["authorization"], "Bearer s")
        self.assertNotIn("authorization", other.headers())
        self.assertEqual(other.headers()["x-keep"], "k")
        self.sinks.clear()
        self.site.answers["/loop"] = respond("301 M", b"", "Location: /loop")
        self.site.answers["/file"] = respond("301 M", b"", "Location: file:///etc/passwd")
        self.site.answers["/meta"] = respond("301 M", b"", "Location: http://169.254.169.254/")
        self.assertEqual(await self.fails("/loop"), ("too_many_redirects", 1))
        self.assertEqual(await self.fails("/file"), ("bad_response", 1))
        self.assertEqual(await self.fails("/meta"), ("address_refused", 1))

    async def test_odd_headers(self) -> None:
        """Headers that mean nothing harm nobody."""
        odd = ["Last-Modified:", "Last-Modified: yesterday", "Last-Modified: \xff"]
        for number, header in enumerate(odd):
            url = f"/{number}"
            self.site.answers[url] = ok(b"a", header)
            fetch = self.one(url)
            await self.get(fetch)
            self.assertEqual((self.errors[url], fetch.reception.content.modified), (None, None))
        self.sinks.clear()
        for target in ("http://[foo/", "http://[1.2.3.4]/"):
            self.site.answers["/l"] = respond("302 F", b"", f"Location: {target}")
            self.assertEqual((await self.fails("/l"))[0], "bad_response", target)
        self.site.answers["/r"] = respond("503 N", b"", "Retry-After: \xb2")
        self.assertEqual(await self.fails("/r"), ("http_unavailable", 3))

    async def test_userinfo(self) -> None:
        """A password in the URL goes into a header, decoded."""
        self.site.answers["/"] = respond("302 Found", b"", "Location: /a")
        self.site.answers["/a"] = ok(b"")
        await self.get(self.one(self.site.url.replace("//", "//u%40x:p@") + "/"))
        self.assertEqual(self.site.headers()["authorization"], "Basic dUB4OnA=")
        self.assertNotIn("@", self.site.headers()["host"])

    async def test_limits(self) -> None:
        """Never more at once than concurrency, and than per_host to one host."""
        flying, most = 0, 0
        waiting: list[Exchange] = []

        def answer(exchange: Exchange) -> None:
            nonlocal flying, most
            flying += 1
            most = max(most, flying)
            waiting.append(exchange)
            reactor.callLater(0.005, release)

        def release() -> None:
            nonlocal flying
            flying -= 1
            waiting.pop(0).write(ok(b"x"))

        fetches = []
        for number in range(30):
            self.site.answers[f"/{number}"] = answer
            fetches.append(self.one(f"/{number}"))
        await self.get(*fetches, concurrency=8, per_host=3)
        self.assertEqual((most, len(self.errors)), (3, 30))
        self.assertLessEqual(self.site.connections, 3)

    async def test_cancelled(self) -> None:
        """A fetch that nobody wants any more closes its connections and leaves no trace."""
        reached: Deferred[None] = Deferred()

        def answer(exchange: Exchange) -> None:
            exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            reached.callback(None)

        self.site.answers["/a"] = answer
        downloader = self.start(concurrency=1)
        fetches = [self.one("/a"), self.one("/b")]
        running = Deferred.fromCoroutine(downloader.fetch(PartFetches(left=2), fetches))
        await reached
        running.cancel()
        with self.assertRaises(CancelledError):
            await running
        self.assertEqual(self.errors, {})
        self.assertTrue(all(sink.discarded for sink in self.sinks))
        self.site.answers["/c"] = ok(b"c")
        await downloader.fetch(PartFetches(left=1), [self.one("/c")])
        self.assertEqual(self.errors, {"/c": None})

    async def test_redirects_as_they_come(self) -> None:
        """A Location with bytes that should have been encoded; a fragment is for browsers."""
        raw = "/фа\u00a0йл#top".encode()
        self.site.answers["/a"] = (
            b"HTTP/1.1 302 F\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % raw
        )
        self.site.answers["/%D1%84%D0%B0%C2%A0%D0%B9%D0%BB"] = ok(b"hello")
        await self.get(self.one("/a#x"))
        self.assertEqual(self.sinks[-1].data, b"hello")

    async def test_whose_trouble(self) -> None:
        """A 429 slows the host that said it, not the one that led there."""
        store = Timed()
        self.addCleanup(store.close)
        backoff = HostBackoff(
            Cluster(store), Clock(), 8
        )  # its own hands lie still: nothing is told to others
        backoff.connect(lambda: True, lambda: None)
        there = self.site.url.replace("127.0.0.1", "localhost")
        self.site.answers["/a"] = respond("302 F", b"", f"Location: {there}/b")
        self.site.answers["/b"] = respond("429 No", b"", "Retry-After: 300")
        self.assertEqual(await self.fails("/a", retries=0, backoff=backoff), ("http_throttled", 1))
        hosts = [self.site.url[7:], there[7:]]
        self.assertEqual([backoff.allowed(host, 1) for host in hosts], [8, 0])

    async def test_broken_without_length(self) -> None:
        """A reset is no end, also where nothing says where the end would be."""

        def reset(exchange: Exchange) -> None:
            exchange.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
            linger = struct.pack("ii", 1, 0)
            transport: Any = exchange.transport
            transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            exchange.later(0.05, Exchange.abort)

        self.site.answers["/a"] = reset
        self.assertEqual(await self.fails("/a"), ("body_short", 3))

    async def test_broken_tls(self) -> None:
        """Without its closing alert TLS may have been cut by anybody (RFC 9112, 9.8)."""
        ca, key = authority("ours")
        for properly, error in ((True, None), (False, "body_short")):
            factory = Factory.forProtocol(partial(Endless, properly))
            context = issue(ca, key, "localhost")
            port: Any = reactor.listenSSL(0, factory, context, interface="127.0.0.1")
            self.addCleanup(port.stopListening)
            url = f"https://localhost:{port.getHost().port}/a"
            fetch = self.one(url)
            await self.get(fetch, authorities=[ca], retries=0)
            found = self.errors[url]
            self.assertEqual(
                (found.code if found else None, fetch.reception.verified), (error, False)
            )

    async def test_names_that_idna_refuses(self) -> None:
        """DNS has them, and certificates, too."""
        ca, key = authority("ours")
        root = Resource()
        root.putChild(b"a", Data(b"secret", "text/plain"))
        context = issue(ca, key, "my_files.localhost")
        port: Any = reactor.listenSSL(0, WebSite(root), context, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number = port.getHost().port
        for host, error in (("my_files", None), ("your_files", "tls_failed")):
            url = f"https://{host}.localhost:{number}/a"
            await self.get(self.one(url), authorities=[ca], retries=0)
            found = self.errors[url]
            self.assertEqual(found.code if found else None, error)

    async def test_idna_refuses_with_two_addresses(self) -> None:
        """The name stands in no more than the request, however many addresses it has."""
        self.site.answers["/a"] = ok(b"hello")
        number = self.site.port.getHost().port
        urls = [f"http://{host}.localhost:{number}/a" for host in ("my_two", "ab--cd-two")]
        await self.get(*map(self.one, urls), retries=0)
        self.assertEqual(self.errors, dict.fromkeys(urls))

    async def test_letters_stand_as_they_were_sent(self) -> None:
        """Composed and decomposed letters are two names to a server."""
        paths = {"/e\u0301?e\u0301": "/e%CC%81?e%CC%81", "/\u00e9?\u00e9": "/%C3%A9?%C3%A9"}
        for sent in paths.values():
            self.site.answers[sent] = ok(b"hello")
        await self.get(*map(self.one, paths), retries=0)
        self.assertEqual([path for path, *_ in self.site.requests], list(paths.values()))

    async def test_give_up(self) -> None:
        """What has not come yet ends with the reason given; what has, stays."""
        self.site.answers["/a"] = ok(b"a")
        reason = MemberError("batch_failed", "enough")
        part = PartFetches(left=3)
        downloader = self.start(concurrency=1)
        self.site.answers["/b"] = lambda exchange: downloader.give_up(part, reason)
        await downloader.fetch(part, [self.one(f"/{name}") for name in "abc"])
        self.assertEqual(self.errors, {"/a": None, "/b": reason, "/c": reason})

    async def test_broken_sink(self) -> None:
        """A full disk is not the member's fault: the whole fetch fails."""

        class Full(Bucket):
            def write(self, data: bytes) -> None:
                raise OSError(28, "No space left on device")

        class Hopeless(Hole):
            def open(self, fetch: Fetch) -> Bucket:
                return Full()

        self.site.answers["/a"] = ok(b"a")
        fetch = self.one("/a")
        fetch.target = Hopeless(self, "/a", False)
        with self.assertRaises(OSError):
            await self.get(fetch)
        self.flushLoggedErrors(OSError)

    async def test_closed_in_the_handshake(self) -> None:
        """A server that closes or resets while TLS is set up may be back soon: tried again.

        Fails on ecffb8f: tls_failed, after one attempt.
        """
        for end in ("loseConnection", "abortConnection"):

            class Ends(Protocol):
                def dataReceived(self, data: bytes) -> None:
                    getattr(self.transport, end)()  # noqa: B023

            port: Any = reactor.listenTCP(0, Factory.forProtocol(Ends), interface="127.0.0.1")
            self.addCleanup(port.stopListening)
            url = f"https://127.0.0.1:{port.getHost().port}/"
            self.assertEqual(await self.fails(url), ("connection_lost", 3))


class AwayTests(DownloadTestCase):
    """Hosts that are away, without a cluster."""

    def backoff(self) -> HostBackoff:
        """One that nobody else hears of."""

        class Nobody:
            async def run(self, *words: Any, **options: Any) -> Any:
                raise QueueUnavailable("away")

        self.patch(host_trouble, "FIRST_PAUSE", 0.02)
        self.patch(host_trouble, "LAST_PAUSE", 0.05)
        self.patch(host_backoff, "EXCHANGE_SECONDS", 0.05)
        found = HostBackoff(Cluster(Nobody()), reactor, 8)  # type: ignore[arg-type]
        found.startService()
        self.addCleanup(found.stopService)
        return found

    async def test_given_up_together(self) -> None:
        """Each member of a host that is given up ends once, though the first end makes the batch
        hopeless and gives all of it up."""
        ended: list[tuple[str, str]] = []
        downloader = self.start(backoff=self.backoff(), host_patience=0.2)
        part = PartFetches(left=20, began=reactor.seconds())

        class Strict(Hole):
            def ended(self, fetch: Fetch, error: MemberError | None) -> None:
                assert error is not None
                ended.append((self.url, error.code))
                downloader.give_up(part, MemberError("batch_failed", "hopeless"))

        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            dead = f"http://127.0.0.1:{sock.getsockname()[1]}"
        fetches = [Fetch(Member(f"{dead}/{n}"), {}, Strict(self, f"{n}", False)) for n in range(20)]
        await downloader.fetch(part, fetches)
        self.assertEqual(len({url for url, _ in ended}), 20)
        self.assertEqual((len(ended), part.left, part.stalled), (20, 0, None))
        await deferLater(reactor, 0)
        self.assertEqual(downloader._queue.demand(), {ALL: (0, 0)})

    async def test_comes_back(self) -> None:
        """While the queue is away as well: who waits is woken by the clock."""
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        fetches = [self.one(f"http://127.0.0.1:{port}/{n}") for n in range(20)]
        downloader = self.start(backoff=self.backoff(), retries=1)
        going = Deferred.fromCoroutine(downloader.fetch(PartFetches(left=20), fetches))
        await deferLater(reactor, 0.5)
        self.site.answers |= {f"/{n}": ok(b"x") for n in range(20)}
        listening: Any = reactor.listenTCP(port, self.site, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        await going
        self.assertEqual(set(self.errors.values()), {None})

    async def test_answers_that_do_not_help(self) -> None:
        """A host that answers is there, whatever it says: a refusal between them ends nothing."""
        found = self.backoff()
        downloader = self.start(backoff=found, retries=0)
        self.site.answers |= {
            "/a": ok(b"x", "Content-Encoding: br"),
            "/b": respond("500 No"),
            "/c": b"nonsense\r\n\r\n",
        }
        host = self.site.url[7:]
        for path in "abc":
            found.bad(host, 1, 0.0, False, True)
            found.bad(host, 1, 0.0, False, True)
            await downloader.fetch(PartFetches(left=1), [self.one(f"/{path}")])
        self.assertFalse(found.is_away(host, 1))

    async def test_our_own_disk(self) -> None:
        """A sink that takes its time makes no host slow."""

        class Slow(Bucket):
            async def finish(self) -> None:
                await deferLater(reactor, 1.3)
                self.finished = True

        class SlowHole(Hole):
            def open(self, fetch: Fetch) -> Bucket:
                return Slow()

        self.site.answers["/a"] = ok(b"x")
        downloader = self.start()
        await downloader.fetch(
            PartFetches(left=1),
            [Fetch(Member(f"{self.site.url}/a"), {}, SlowHole(self, "/a", False))],
        )
        self.assertIs(downloader._queue.speed(self.site.url[7:]), Speed.FAST)


class ResumeTests(DownloadTestCase):
    """What a broken attempt has brought is not fetched again, and not mixed with other versions."""

    body = bytes(range(256)) * 40

    def file(self, tag: str, *headers: str, cut: int = 4000, body: bytes = b"") -> Any:
        """A server of a file: broken off after ``cut`` bytes, then by ranges."""
        body = body or self.body

        def answer(exchange: Exchange) -> None:
            asked = self.site.headers().get("range", "")
            lines = [*headers, *([f"ETag: {tag}"] if tag else [])]
            if not asked:
                exchange.write(ok(body, *lines)[: cut - len(body)])
                exchange.close()
                return
            begin = int(asked[6:-1])
            where = f"Content-Range: bytes {begin}-{len(body) - 1}/{len(body)}"
            exchange.write(respond("206 Partial Content", body[begin:], where, *lines))

        return answer

    async def whole(self, *answers: Any) -> list[str]:
        """The ranges that were asked for until the body was there."""
        self.sinks.clear()
        self.site.answers["/a"] = list(answers) if len(answers) > 1 else answers[0]
        fetch = self.one("/a")
        await self.get(fetch)
        self.assertEqual(self.errors, {"/a": None})
        self.assertEqual(self.sinks[-1].data, self.body)
        self.assertTrue(all(sink.discarded for sink in self.sinks[:-1]))
        self.assertEqual(
            (fetch.reception.received, fetch.reception.content.length),
            (len(self.body), len(self.body)),
        )
        return [self.site.headers(n).get("range", "") for n in range(len(self.site.requests))]

    async def test_continues(self) -> None:
        """With a strong ETag, named in If-Range."""
        self.assertEqual(await self.whole(self.file('"v1"')), ["", "bytes=4000-"])
        self.assertEqual(self.site.headers()["if-range"], '"v1"')
        self.assertEqual(len(self.sinks), 1)

    async def test_continues_by_date(self) -> None:
        """With a date, if it is well before the answer's."""
        when = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"
        now = "Date: Sun, 06 Nov 1994 08:59:37 GMT"
        self.assertEqual(await self.whole(self.file("", when, now)), ["", "bytes=4000-"])

    async def test_starts_afresh(self) -> None:
        """Without a validator that tells versions apart, or where the server cannot."""
        when = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"
        good = ok(self.body)
        for first in (
            self.file('W/"weak"'),
            self.file(""),
            self.file("", when, when.replace("Last-Modified", "Date")),
            self.file('"v1"', "Accept-Ranges: none"),
        ):
            self.site.requests.clear()
            self.assertEqual(await self.whole(first, good), ["", ""])

    async def test_ignored_range(self) -> None:
        """A 200 to a range: all of it, from the start."""
        good = ok(self.body, 'ETag: "v2"')
        self.assertEqual(await self.whole(self.file('"v1"'), good), ["", "bytes=4000-"])

    async def test_gone_range(self) -> None:
        """A 416: at once again, without a range."""
        no = respond("416 No", b"", "Content-Range: bytes */9")
        ranges = await self.whole(self.file('"v1"'), no, ok(self.body))
        self.assertEqual(ranges, ["", "bytes=4000-", ""])

    async def test_never_mixed(self) -> None:
        """Another version, other bytes, another length: nothing of it is used."""
        other = bytes(len(self.body))
        part = other[4000:]
        length = len(self.body)
        wrong = [
            (f"bytes 4000-{length - 1}/{length}", 'ETag: "v2"'),
            (f"bytes 4000-{length - 1}/{length}", 'ETag: W/"v1"'),
            (f"bytes 4000-{length - 1}/{length}", "X-None: 1"),
            (f"bytes 3999-{length - 2}/{length}", 'ETag: "v1"'),
            (f"bytes 4000-{length - 1}/{length + 1}", 'ETag: "v1"'),
            (f"bytes 4000-{length}/{length + 1}", 'ETag: "v1"'),
            (f"bytes 4000-{length - 1}/*", 'ETag: "v1"'),
            ("bytes nonsense", 'ETag: "v1"'),
        ]
        for where, tag in wrong:
            self.site.requests.clear()
            lie = respond("206 P", part, f"Content-Range: {where}", tag)
            ranges = await self.whole(self.file('"v1"'), lie, ok(self.body))
            self.assertEqual(ranges, ["", "bytes=4000-", ""], where)

    async def test_last_try_is_of_another(self) -> None:
        """Where no try is left to begin afresh, it is said what was wrong."""
        lie = respond("206 P", bytes(6240), "Content-Range: bytes 4000-10239/10240", 'ETag: "v2"')
        self.site.answers["/a"] = [self.file('"v1"'), lie]
        self.assertEqual(await self.fails("/a", retries=1), ("bad_range", 2))

    async def test_range_that_ends_early(self) -> None:
        """The rest was announced, and a part of it came with a length of its own: not whole."""
        length = len(self.body)
        for part in (self.body[4000:4050], self.body[4000:] + b"more"):
            self.site.requests.clear()
            where = f"Content-Range: bytes 4000-{length - 1}/{length}"
            early = respond("206 P", part, where, 'ETag: "v1"')
            answers = [self.file('"v1"'), early, ok(self.body)]
            if len(part) < 100:
                self.assertEqual(await self.whole(*answers), ["", "bytes=4000-", ""])
                continue
            self.sinks.clear()
            self.site.answers["/b"] = answers
            self.assertEqual((await self.fails("/b"))[0], "body_long")
            # There may be room for as much as was announced, and no more.
            self.assertLessEqual(max(len(sink.data) for sink in self.sinks), length)

    async def test_partials_are_bounded(self) -> None:
        """Of what waits for its next try only so much is kept: each may hold a file."""
        self.patch(attempt_runner, "MAX_PARTIALS", 2)
        for name in "abcd":
            self.site.answers[f"/{name}"] = [self.file('"v1"'), ok(self.body)]
        downloader = self.start()
        downloader._queue.note(self.site.url[7:], Speed.FAST)
        await downloader.fetch(PartFetches(left=4), [self.one(f"/{name}") for name in "abcd"])
        self.assertEqual(set(self.errors.values()), {None})
        asked = [self.site.headers(n).get("range") for n in range(len(self.site.requests))]
        self.assertEqual(sorted(filter(None, asked)), ["bytes=4000-"] * 2)
        self.assertEqual(sum(sink.discarded for sink in self.sinks), 4)

    @given(st.data())
    def test_random_servers(self, data: st.DataObject) -> None:
        """Whatever a server does between attempts, what is kept is one version of the file."""
        versions = [b"a" * 50, b"b" * 50, b"c" * 60]
        fetch = self.one("/x")
        clock = Clock()

        class Agent:
            """Answers as Hypothesis says."""

            def request(self, method: bytes, uri: bytes, headers: Any, body: Any = None) -> Any:
                asked = headers.getRawHeaders(b"range", [b""])[0]
                return succeed(answer(asked))

        def answer(asked: bytes) -> Any:
            version = data.draw(st.sampled_from(versions))
            tag = data.draw(st.sampled_from([b'"t"', b'"%c"' % version[0], b'W/"w"', None]))
            begin = int(asked[6:-1]) if asked and data.draw(st.booleans()) else 0
            # An honest server changes the tag with the content.
            if tag == b'"t"':
                version = versions[0]
            rest = version[begin:] or b""
            headers = Headers({b"ETag": [tag]} if tag else {})
            shift = data.draw(st.sampled_from([0, 0, 0, 1]))
            if begin:
                where = b"bytes %d-%d/%d" % (begin + shift, len(version) - 1, len(version))
                headers.setRawHeaders(b"Content-Range", [where])
            upto = data.draw(st.integers(0, len(rest)))
            return Scripted(206 if begin else 200, headers, rest, upto)

        fetcher = Fetcher(Agent(), clock, 9.0, BodyLimits())  # type: ignore[arg-type]
        for _ in range(6):
            trying = Deferred.fromCoroutine(fetcher.attempt(fetch))
            result: list[Any] = []
            trying.addBoth(result.append)
            if result == [None]:
                self.assertIn(self.sinks[-1].data, versions)
                return
            self.assertIsInstance(result[0].value, MemberError)
            for sink in self.sinks:
                kept = sink.data
                self.assertTrue(sink.discarded or any(v.startswith(kept) for v in versions))


@implementer(IResponse)
class Scripted:
    """A response that ends where it was told to."""

    version = (b"HTTP", 1, 1)
    phrase = b""
    previousResponse = None

    def __init__(self, code: int, headers: Headers, body: bytes, upto: int) -> None:
        self.code, self.headers, self.length = code, headers, len(body)
        self._body, self._upto = body, upto
        self.request: Any = None

    def setPreviousResponse(self, response: IResponse) -> None:
        """There is none."""

    def deliverBody(self, protocol: Any) -> None:
        """All at once."""
        protocol.makeConnection(StringTransport())
        protocol.dataReceived(self._body[: self._upto])
        if self._upto == self.length:
            protocol.connectionLost(Failure(ResponseDone()))
        else:
            protocol.connectionLost(Failure(ResponseFailed([Failure(ConnectionLost())])))
