"""Members fetched from servers that do as tests tell them."""

import socket
import struct
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Client
from twisted.web.resource import Resource
from twisted.web.server import Site as WebSite
from twisted.web.static import Data

from tests.support.certificates import authority, issue
from tests.support.downloads import Bucket, DownloadTestCase, Hole
from tests.support.origin_server import Exchange, Site, ok, respond
from tests.support.reactor import reactor
from tests.support.timed_store import Timed
from twisted_bulk.downloads import retries
from twisted_bulk.downloads.fetch import Fetch
from twisted_bulk.downloads.host_backoff import HostBackoff
from twisted_bulk.downloads.part_fetches import PartFetches
from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.content import Content
from twisted_bulk.jobs.cluster import Cluster


class NoTLS(Protocol):
    """Says something else than TLS, to whomever."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"220 mail.example ESMTP\r\n")


class EndlessTLS(Protocol):
    """Over TLS, a body without a length, and one of several ends."""

    def __init__(self, end: str) -> None:
        self.end = end

    def dataReceived(self, data: bytes) -> None:
        tls: Any = self.transport
        tls.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        ends = {
            "alert": tls.loseConnection,
            "closed": tls.transport.loseConnection,
            "reset": tls.transport.abortConnection,
        }
        reactor.callLater(0.05, ends[self.end])


class DownloadTests(DownloadTestCase):
    """Each way in which a fetch can end."""

    async def test_good(self) -> None:
        """Length, body and headers, the member's before the batch's."""
        self.site.answers["/a"] = ok(b"hello", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT")
        fetch = self.one("/a", headers={"x-own": "o"})
        await self.get(fetch)
        self.assertEqual((self.sinks[0].data, self.errors), (b"hello", {"/a": None}))
        self.assertEqual(
            (fetch.reception.verified, fetch.reception.content),
            (True, Content(5, 784111777, url=f"{self.site.url}/a")),
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
        """Followed, checked anew; only harmless headers go to another origin."""
        other = Site(self)
        other.answers["/c"] = ok(b"there")
        self.site.answers["/a"] = respond("302 Found", b"x" * 99, "Location: b?q=1")
        self.site.answers["/b?q=1"] = respond("307 T", b"", f"Location: {other.url}/c")
        secret = {"Authorization": "Bearer s", "X-My-Secret": "k", "accept-language": "de"}
        await self.get(self.one("/a", headers=secret))
        self.assertEqual(self.sinks[0].data, b"there")
        self.assertEqual(self.site.headers()["authorization"], "Bearer s")
        self.assertNotIn("authorization", other.headers())
        self.assertNotIn("x-my-secret", other.headers())
        self.assertEqual(other.headers()["accept-language"], "de")
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
        """With TLS's own end or without; a connection that is reset is another thing."""
        ca, key = authority("ours")
        for end, error in (("alert", None), ("closed", None), ("reset", "body_short")):
            factory = Factory.forProtocol(partial(EndlessTLS, end))
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
            async def open(self, fetch: Fetch) -> Bucket:
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
