"""Connections as such: what is refused before any resource sees it, and when they end."""

import errno
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.test.requesthelper import DummyChannel
from zope.interface import implementer

from twisted_bulk.http_server.channel import SMALL_BODY_BYTES
from twisted_bulk.http_server.client_address import Clients
from twisted_bulk.http_server.connection_limits import Budget, ConnectionLimits
from twisted_bulk.http_server.deadline import (
    DRAIN_SECONDS,
    HEADER_SECONDS,
    LINGER_SECONDS,
    MAX_LEAD_SECONDS,
    MIN_BODY_SPEED,
)
from twisted_bulk.http_server.request import MAX_BODIES, MAX_BODIES_OF_CLIENT
from twisted_bulk.http_server.site import IDLE_SECONDS, MAX_ANSWER_BYTES, BoundedSite
from twisted_bulk.http_server.streamed_body import StreamedBody
from twisted_bulk.node.values import networks
from twisted_bulk.system.logs import as_line

GET = b"GET /first HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /first HTTP/1.1\r\nHost: x\r\n"
SECOND = b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n"


class Seen(Resource):
    """Answers everything, and keeps what was asked."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[bytes, bytes, bytes]] = []

    def render(self, request: Any) -> bytes:
        self.asked.append((request.method, request.path, request.content.read()))
        request.setHeader("From", request.client_address)
        request.setHeader("Key", request.client_key)
        return b"here"


class Transport(StringTransport):
    """Aborting is not closing: a socket's transport goes on passing what has come."""

    full = 0  # bytes from which on its producer shall pause

    def abortConnection(self) -> None:
        self.disconnected = True

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.full and len(self.value()) > self.full:
            cast(Any, self.producer).pauseProducing()


class ChannelTestCase(SynchronousTestCase):
    """A site with transports in memory, in a time of its own."""

    def setUp(self) -> None:
        self.clock, self.resource = Clock(), Seen()
        self.site = self.make()

    def make(self, *clients: Any) -> BoundedSite:
        return BoundedSite(
            self.resource, self.clock, 1000, ConnectionLimits(30, 20), Clients(*clients)
        )

    def connect(self, host: str = "1.2.3.4") -> tuple[Any, StringTransport]:
        """A new connection from ``host``."""
        transport = Transport(peerAddress=IPv4Address("TCP", host, 4711))
        channel: Any = self.site.buildProtocol(transport.getPeer())
        channel.makeConnection(transport)
        return channel, transport

    def say(self, data: bytes, host: str = "1.2.3.4") -> tuple[Any, StringTransport]:
        """A new connection that sends ``data``."""
        channel, transport = self.connect(host)
        channel.dataReceived(data)
        return channel, transport

    def ended(self, transport: StringTransport) -> bool:
        """Whether the server has let go."""
        return transport.disconnecting or transport.disconnected


class FramingTests(ChannelTestCase):
    """Requests that two servers might read differently (RFC 9112)."""

    bad = (
        b"GET /first HTTP/1.1\r\n\r\n",
        b"GET /first HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        b"GET /first HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET /first HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET /first HTTP/1.1\r\nHost: a..b\r\n\r\n",
        b"GET /first HTTP/1.1\r\nHost: .\r\n\r\n",
        b"GET /first HTTP/1.1\r\nHost: " + b"a" * 64 + b"\r\n\r\n",
        b"GET /first HTTP/1.1\r\nHost: a:b\r\n\r\n",
        b"GET /first HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
        b"GET /first HTTP/1.1\r\n Host: x\r\n\r\n",
        b" GET /first HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /first\r\nHost: x\r\n\r\n",
        b"GET  /first HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /first HTTP/1.1 \r\nHost: x\r\n\r\n",
        b"GET /first HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /first HTTP/1.1x\r\nHost: x\r\n\r\n",
        b"G\x00T /first HTTP/1.1\r\nHost: x\r\n\r\n",
        GET + b"Bad Name: y\r\n\r\n",
        GET + b"Name : y\r\n\r\n",
        GET + b": y\r\n\r\n",
        GET + b"no colon\r\n\r\n",
        GET + b"Name: a\x00b\r\n\r\n",
        GET + b"Name: a\nb\r\n\r\n",
        GET + b"Name: a\rb\r\n\r\n",
        GET + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
        GET + b"X: y\r\n" * 600 + b"\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        POST + b"Content-Length: 5, 5\r\n\r\nhello",
        POST + b"Content-Length: +5\r\n\r\nhello",
        POST + b"Content-Length: -5\r\n\r\nhello",
        POST + b"Content-Length: 0x5\r\n\r\nhello",
        POST + b"Content-Length: 5 5\r\n\r\nhello",
        POST + b"Content-Length: \r\n\r\nhello",
        POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nhello",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        b"POST /first HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    )

    def test_refused(self) -> None:
        """400, and whatever follows on the connection is not read any more."""
        for data in self.bad:
            for pieces in ([data + SECOND], [data, SECOND], [data[i : i + 1] for i in range(60)]):
                if len(pieces) == 60:
                    pieces.append(data[60:])
                channel, transport = self.connect()
                for piece in pieces:
                    channel.dataReceived(piece)
                self.assertEqual(transport.value()[:12], b"HTTP/1.1 400", data[:99])
                self.assertIn(b'"bad_request"', transport.value())
                self.assertEqual(transport.value().count(b"HTTP/1.1 "), 1, data[:99])
                self.clock.advance(LINGER_SECONDS)
                self.assertTrue(self.ended(transport), data[:99])
                channel.connectionLost(Failure(ConnectionError()))
        self.assertEqual(self.resource.asked, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.site.limits), 0)

    def test_chunks(self) -> None:
        """Bodies that are not chunks end the connection, and nothing of them is a request."""
        for chunks in (
            b"5\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"+5\r\nhello\r\n0\r\n\r\n",
            b"-5\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhelloX0\r\n\r\n",
            b"G\r\nhello\r\n0\r\n\r\n",
            b"\r\nhello\r\n0\r\n\r\n",
            b"1" * 5000 + b"\r\nhello",
        ):
            data = POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
            channel, transport = self.say(data + SECOND)
            self.clock.advance(IDLE_SECONDS + HEADER_SECONDS + LINGER_SECONDS)
            ok = transport.value().startswith(b"HTTP/1.1 400") or self.ended(transport)
            self.assertTrue(ok, chunks)
            self.assertNotIn(b"/second", [path for _, path, _ in self.resource.asked])
            channel.connectionLost(Failure(ConnectionError()))

    def test_good(self) -> None:
        """Unusual, and right."""
        for data, path, body in (
            (GET + b"\r\n", b"/first", b""),
            (b"\r\n" + GET + b"\r\n", b"/first", b""),
            (b"GET http://x/first HTTP/1.1\r\nHost: x\r\n\r\n", b"/first", b""),
            (b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", b"/", b""),
            (b"GET /first HTTP/1.1\r\nHost:\r\n\r\n", b"/first", b""),
            (b"GET /first HTTP/1.1\r\nhost: [::1]:80\r\n\r\n", b"/first", b""),
            (b"GET /first HTTP/1.0\r\n\r\n", b"/first", b""),
            (GET + b"Empty:\r\n\r\n", b"/first", b""),
            (POST + b"Content-Length: 5\r\n\r\nhello", b"/first", b"hello"),
            (POST + b"Content-Length: 005\r\n\r\nhello", b"/first", b"hello"),
            (
                POST + b"Transfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
                b"/first",
                b"hello",
            ),
        ):
            for cut in (len(data), 1, 7):
                channel, transport = self.connect()
                for at in range(0, len(data), cut):
                    channel.dataReceived(data[at : at + cut])
                self.assertEqual(self.resource.asked[-1][1:], (path, body))
                self.assertEqual(transport.value()[8:12], b" 200")
                channel.connectionLost(Failure(ConnectionError()))

    def test_pipeline(self) -> None:
        """Several at once, in order, until one says that it is the last."""
        _, transport = self.say((GET + b"\r\n") * 3 + SECOND)
        self.assertEqual(
            [path for _, path, _ in self.resource.asked], [b"/first"] * 3 + [b"/second"]
        )
        self.assertEqual(transport.value().count(b"HTTP/1.1 200"), 4)
        for value in (b"close", b"close, x", b"x, Close", b"x,close"):
            self.resource.asked.clear()
            _, transport = self.say(GET + b"Connection: " + value + b"\r\n\r\n" + SECOND)
            self.assertEqual(len(self.resource.asked), 1, value)
            self.assertIn(b"Connection: close\r\n", transport.value())
            self.assertTrue(self.ended(transport))

    def test_full(self) -> None:
        """While the client takes nothing, no more is read from it than fits the buffers."""
        for slow in (False, True):
            if slow:
                self.patch(self.resource, "render", lambda request: NOT_DONE_YET)
            channel, transport = self.connect()
            self.patch(transport, "full", 100)
            channel.dataReceived(GET + b"\r\n")
            if slow:
                channel.pauseProducing()
            sent = 0
            while transport.producerState == "producing" and sent < 10**6:
                channel.dataReceived((GET + b"\r\n") * 30)
                sent += 30 * len(GET)
            self.assertLess(sent, 20_000, slow)
            channel.resumeProducing()
            self.assertEqual(transport.producerState, "paused" if slow else "producing")

    def test_many_pieces(self) -> None:
        """What comes while a request is being answered is kept in few pieces."""
        self.patch(self.resource, "render", lambda request: NOT_DONE_YET)
        channel, _ = self.say(GET + b"\r\n")
        for _ in range(1000):
            channel.dataReceived(b"x")
        self.assertLess(len(channel._dataBuffer), 50)
        self.assertEqual(len(b"".join(channel._dataBuffer)), 1000)

    def test_star(self) -> None:
        """The whole server as a target is the resource's to answer, too."""
        self.say(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(self.resource.asked, [(b"OPTIONS", b"/*", b"")])

    def test_seen(self) -> None:
        """Refusals are counted and logged as answers are."""
        seen: list[dict[str, Any]] = []
        observer: Any = seen.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.say(b"GET /x HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n")
        _, transport = self.say(GET + b"\r\n")
        self.assertEqual(self.site.answers, {400: 1, 200: 1})
        for event, status, path in zip(seen, (400, 200), ("/x", "/first"), strict=True):
            self.assertEqual(
                [event[name] for name in ("client", "method", "path", "status", "whole", "port")],
                ["1.2.3.4", "GET", path, status, True, transport.getHost().port],
            )
            self.assertGreater(event["bytes"], 3)

    def test_protocols(self) -> None:
        """Over TLS nothing is offered that this does not speak."""
        self.assertEqual(self.site.acceptableProtocols(), [b"http/1.1"])

    def test_too_large(self) -> None:
        """A body beyond the limit, announced or not; nothing invites it."""
        for head, body in (
            (b"Content-Length: 1001\r\nExpect: 100-continue\r\n", b""),
            (b"Transfer-Encoding: chunked\r\n", b"3e9\r\n" + b"x" * 1001),
        ):
            _, transport = self.say(POST + head + b"\r\n" + body)
            self.assertEqual(transport.value()[:12], b"HTTP/1.1 413")
            self.assertIn(b'"body_too_large"', transport.value())
            self.assertNotIn(b"100 Continue", transport.value())
        self.assertEqual(self.resource.asked, [])

    def test_many_bodies(self) -> None:
        """Large ones have so much room together, and one client half; it is there again when they
        have gone. Small ones need none."""
        size = self.site.max_body = 10 * SMALL_BODY_BYTES
        head = POST + b"Content-Length: %d\r\n\r\n" % size
        body = b"x" * (size - 1)
        going = [
            self.say(head + body, f"1.2.3.{n // MAX_BODIES_OF_CLIENT}") for n in range(MAX_BODIES)
        ]
        _, transport = self.say(head + b"x" * (SMALL_BODY_BYTES - 1), "2.2.2.2")
        self.assertEqual(transport.value(), b"")
        _, transport = self.say(POST + b"Content-Length: 9\r\n\r\n123456789", "2.2.2.2")
        self.assertEqual(transport.value()[:12], b"HTTP/1.1 200")
        _, transport = self.say(head + b"x" * SMALL_BODY_BYTES + b"x" * 9, "2.2.2.2")
        self.assertEqual(transport.value()[:12], b"HTTP/1.1 503")
        self.assertIn(b"Retry-After: ", transport.value())
        going[0][0].connectionLost(Failure(ConnectionDone()))
        going[1][0].dataReceived(b"x")
        self.assertEqual(going[1][1].value()[:12], b"HTTP/1.1 200")
        for _ in range(2):
            _, transport = self.say(head + body + b"x", "2.2.2.2")
            self.assertEqual(transport.value()[:12], b"HTTP/1.1 200")
        for channel, _ in going[1:]:
            channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.site.bodies, {})
        for _ in range(MAX_BODIES_OF_CLIENT):
            self.say(head + body)
        _, transport = self.say(head + body)
        self.assertEqual(transport.value()[:12], b"HTTP/1.1 503")
        _, transport = self.say(head + body + b"x", "2.2.2.2")
        self.assertEqual(transport.value()[:12], b"HTTP/1.1 200")

    def test_no_room(self) -> None:
        """A disk that takes no more of a body."""
        channel, transport = self.say(POST + b"Content-Length: 1000\r\n\r\n")
        full = open("/dev/full", "r+b")  # noqa: SIM115
        channel.requests[0].content = full
        channel.dataReceived(b"x" * 10)
        channel.connectionLost(Failure(ConnectionDone()))
        with self.assertRaises(OSError):
            full.close()
        self.assertEqual(transport.value()[:12], b"HTTP/1.1 507")
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_no_file(self) -> None:
        """No file for a body can be opened at all."""

        def none(length: int | None) -> None:
            raise OSError(errno.ENOSPC, "no inode")

        self.patch(http, "_getContentFile", none)
        _, transport = self.say(POST + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000)
        self.assertEqual(transport.value()[:12], b"HTTP/1.1 507")
        self.assertEqual((self.resource.asked, self.flushLoggedErrors()), ([], []))

    def test_refused_target(self) -> None:
        """What is refused stands in the log without its query."""
        seen: list[Any] = []
        observer: Any = seen.append
        globalLogPublisher.addObserver(observer)
        self.say(b"GET /a?token=canary HTTP/1.1\r\n\r\n")
        globalLogPublisher.removeObserver(observer)
        self.assertNotIn("canary", "".join(as_line(event) for event in seen))


class PiecesTests(SynchronousTestCase):
    """Answers that are made while they are sent."""

    def setUp(self) -> None:
        self.clock, self.aborted, self.held = Clock(), False, 0

    def begin(self, pieces: Iterator[bytes]) -> StreamedBody:
        """As a request on a connection of its own would."""

        def abort() -> None:
            self.aborted = True

        transport = SimpleNamespace(abortConnection=abort)

        def hold(key: str, size: int) -> bool:
            self.held += size
            return True

        def let_go(key: str, size: int) -> None:
            self.held -= size

        site = SimpleNamespace(reactor=self.clock, hold=hold, let_go=let_go)
        made, request = StreamedBody(pieces), http.Request(cast(Any, DummyChannel()), False)
        cast(Any, request).channel = SimpleNamespace(
            site=site, transport=transport, registerProducer=lambda *_: None,
            writeHeaders=lambda *_: None, writeSequence=lambda data: None,
        )  # fmt: skip
        cast(Any, request).client_key = "1.2.3.4"
        request.clientproto, request.method, request.path = b"HTTP/1.1", b"GET", b"/m"
        made.render(cast(Any, request))
        made.resumeProducing()
        return made

    def test_stalled(self) -> None:
        """Who takes none is cut off."""
        made = self.begin(iter([b"one", b"two", b"three"]))
        self.clock.pump([1] * (IDLE_SECONDS - 1))
        made.resumeProducing()
        self.clock.pump([1] * (IDLE_SECONDS - 1))
        self.assertFalse(self.aborted)
        self.clock.pump([1] * 2)
        self.assertTrue(self.aborted)

    def test_gone(self) -> None:
        """Nothing is left of who went."""
        made = self.begin(iter([b"one", b"two"]))
        self.assertGreater(self.held, 0)
        made.stopProducing()
        self.assertEqual((self.clock.getDelayedCalls(), self.held), ([], 0))

    def test_broken(self) -> None:
        """What cannot be made ends the connection: its end must not look like the body's."""

        def breaks() -> Iterator[bytes]:
            yield b"one"
            raise OSError("unreadable")

        self.begin(breaks()).resumeProducing()
        self.assertTrue(self.aborted)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertEqual((self.clock.getDelayedCalls(), self.held), ([], 0))


class LargeTests(ChannelTestCase):
    """Large answers that nobody reads."""

    def test_bounded(self) -> None:
        """They are written as they are taken, and those that are not taken have a bound."""

        class Large(Resource):
            isLeaf = True

            def render(self, request: Any) -> Any:
                return StreamedBody.of(b"x" * (4 << 20)).render(request)

        self.resource = Large()  # type: ignore[assignment]
        self.site = BoundedSite(
            self.resource, self.clock, 1000, ConnectionLimits(300, 20), Clients()
        )
        refused, opened = 0, []
        for client in range(10):
            for _ in range(3):
                channel, transport = self.connect(f"1.2.3.{client}")
                cast(Any, transport).full = 100_000
                channel.dataReceived(GET + b"\r\n")
                self.assertLess(len(transport.value()), 300_000)
                refused += b'"unavailable"' in transport.value()
                opened.append(channel)
        self.assertEqual(30 - refused, MAX_ANSWER_BYTES // (4 << 20))
        for channel in opened:
            channel.stopProducing()  # as its transport does
            channel.connectionLost(Failure(ConnectionDone()))
        _, transport = self.say(GET + b"\r\n")
        self.assertNotIn(b'"unavailable"', transport.value())


class DeadlineTests(ChannelTestCase):
    """Connections that take their time."""

    def test_dribble(self) -> None:
        """Headers have one deadline, however many bytes come before it."""
        channel, transport = self.connect()
        for byte in (GET + b"X: y\r\n" * 9)[: int(HEADER_SECONDS)]:
            self.assertEqual(transport.value(), b"")
            channel.dataReceived(bytes([byte]))
            self.clock.advance(1)
        self.assertEqual(transport.value()[:12], b"HTTP/1.1 408")
        self.assertIn(b'"request_timeout"', transport.value())
        self.clock.advance(LINGER_SECONDS)
        self.assertTrue(self.ended(transport))

    def test_silent(self) -> None:
        """A connection that never asks, and one that has no more questions."""
        _, transport = self.connect()
        self.clock.pump([1] * int(HEADER_SECONDS + LINGER_SECONDS))
        self.assertTrue(self.ended(transport))
        _, transport = self.say(GET + b"\r\n")
        self.clock.pump([1] * int(HEADER_SECONDS + LINGER_SECONDS))
        self.assertFalse(self.ended(transport))
        self.clock.pump([1] * IDLE_SECONDS)
        self.assertTrue(self.ended(transport))

    def test_slow_body(self) -> None:
        """A body has to go on, however it is framed and split, and however large it says it is."""
        for head, piece in (
            (b"Content-Length: 900\r\n\r\n", b"x"),
            (b"Content-Length: 200000000\r\n\r\n", b"x"),
            (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        ):
            self.site.max_body = 200_000_000
            channel, transport = self.say(POST + head)
            for _ in range(int(HEADER_SECONDS + 1)):
                self.assertEqual(transport.value(), b"")
                channel.dataReceived(piece)
                self.clock.advance(1)
            self.assertIn(b"HTTP/1.1 408", transport.value())
            self.assertEqual(self.resource.asked, [])

    def test_late_ourselves(self) -> None:
        """A process that slept does not blame the client for what it could not hear."""
        channel, transport = self.say(POST + b"Content-Length: 900\r\n\r\n")
        self.clock.advance(40)
        self.assertEqual(transport.value(), b"")
        channel.dataReceived(b"x" * 900)
        self.assertEqual(transport.value()[:12], b"HTTP/1.1 200")

    def test_body_that_slows_down(self) -> None:
        """What came fast at first buys a minute, not hours."""
        self.site.max_body = 10_000_000
        channel, transport = self.say(POST + b"Content-Length: 9999999\r\n\r\n")
        for _ in range(100):
            channel.dataReceived(b"x" * MIN_BODY_SPEED)
            self.clock.advance(1)
        channel.dataReceived(b"x" * 2_000_000)
        for _ in range(int(MAX_LEAD_SECONDS) - 1):
            channel.dataReceived(b"x")
            self.clock.advance(1)
        self.assertEqual(transport.value(), b"")
        for _ in range(int(HEADER_SECONDS) + 1):
            channel.dataReceived(b"x")
            self.clock.advance(1)
        self.assertIn(b"HTTP/1.1 408", transport.value())

    def test_never_taken(self) -> None:
        """A client has so long to take the end of the last answer."""
        _, transport = self.say(GET + b"Connection: close\r\n\r\n")
        self.clock.pump([1] * int(DRAIN_SECONDS - 1))
        self.assertEqual((transport.disconnecting, transport.disconnected), (True, False))
        self.clock.pump([1] * 2)
        self.assertTrue(transport.disconnected)

    def test_each_request(self) -> None:
        """The second request on a connection has the same deadline as the first."""
        channel, transport = self.say(GET + b"\r\n")
        self.clock.pump([1] * 30)
        channel.dataReceived(b"GET")
        self.clock.pump([1] * int(HEADER_SECONDS))
        self.assertIn(b"HTTP/1.1 408", transport.value())


class GateTests(ChannelTestCase):
    """Caps on connections."""

    def test_each(self) -> None:
        """One address has so many, and as many again once it has let go."""
        opened = [self.connect() for _ in range(20)]
        refused, transport = self.connect()
        self.assertEqual(transport.value()[:12], b"HTTP/1.1 429")
        self.assertIn(b"Retry-After: 30\r\n", transport.value())
        self.assertIn(b'"too_many_connections"', transport.value())
        for channel in (refused, opened[0][0]):
            channel.connectionLost(Failure(ConnectionError()))
        _, transport = self.say(GET + b"\r\n")
        self.assertEqual(transport.value()[:12], b"HTTP/1.1 200")

    def test_swamped(self) -> None:
        """Refusals hold connections, too: there is an end to them."""
        for number in range(60):
            _, transport = self.connect()
            self.assertEqual(transport.disconnected, number >= 23, number)
        self.site = BoundedSite(
            self.resource, self.clock, 1000, ConnectionLimits(300, 20), Clients()
        )
        for number in range(60):
            _, transport = self.connect()
            self.assertEqual(transport.disconnected, number >= 40, number)

    def test_recovers(self) -> None:
        """Those that were turned away keep nobody out."""
        opened = [self.connect()[0] for _ in range(20)]
        for _ in range(10):
            self.connect()
        opened[0].connectionLost(Failure(ConnectionError()))
        _, transport = self.say(GET + b"\r\n")
        self.assertEqual(transport.value()[:12], b"HTTP/1.1 200")

    def test_total(self) -> None:
        """All together have so many."""
        for number in range(30):
            self.connect(f"1.2.3.{number}")
        _, transport = self.say(GET + b"\r\n", "2.2.2.2")
        self.assertEqual(transport.value()[:12], b"HTTP/1.1 503")
        self.assertIn(b"Retry-After: 30\r\n", transport.value())
        self.assertEqual(self.resource.asked, [])

    def test_two_ports(self) -> None:
        """They have one budget, and each an eighth of it for itself."""
        budget = Budget(40)
        gates = [ConnectionLimits(100, 100, budget) for _ in range(2)]
        for number in range(35):
            self.assertIsNone(gates[0].enter(f"{number}"))
        self.assertIsNotNone(gates[0].enter("x"))
        for number in range(5):
            self.assertIsNone(gates[1].enter(f"{number}"))
        self.assertIsNotNone(gates[1].enter("x"))
        gates[0].leave("1", True)
        self.assertIsNone(gates[1].enter("x"))

    def test_refused_ones_together(self) -> None:
        """Those that were turned away, and are not gone yet, have an eighth of the budget."""
        budget = Budget(80)
        gates = [ConnectionLimits(1000, 1000, budget) for _ in range(2)]
        for number in range(70):
            self.assertIsNone(gates[0].enter(f"{number}"))
        for number in range(11):
            self.assertFalse(gates[1].is_overrun("x"))
            gates[0].enter(f"refused{number}")
        for limits in gates:
            self.assertTrue(limits.is_overrun("x"))
        gates[0].leave("refused1", False)
        self.assertFalse(gates[1].is_overrun("x"))

    def test_refusals_are_logged_once(self) -> None:
        """One line, and another one when there were none for a minute."""
        seen: list[str] = []

        @implementer(ILogObserver)
        def note(event: Any) -> None:
            if "are refused" in event.get("log_format", ""):
                seen.append(event["log_format"])

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        for _ in range(40):
            self.connect()
        self.assertEqual(len(seen), 1)
        self.clock.advance(61)
        self.connect()
        self.assertEqual(len(seen), 2)

    def test_exempt(self) -> None:
        """Who has no limit has none of these either, but for the total."""
        self.site = self.make(64, networks("1.2.3.0/24"))
        for _ in range(25):
            _, transport = self.say(GET + b"\r\n")
            self.assertEqual(transport.value()[:12], b"HTTP/1.1 200")


class ProxyHeaderTests(ChannelTestCase):
    """Connections that others pass on."""

    hello = b"PROXY TCP4 9.8.7.6 1.2.3.4 4711 80\r\n"

    def test_announced(self) -> None:
        """The header names the client, in any number of pieces; its connections are counted."""
        self.site = self.make(64, (), networks("1.2.3.4/32"), True)
        for cut in (1, 10, 1000):
            channel, transport = self.connect()
            data = self.hello + GET + b"\r\n"
            for at in range(0, len(data), cut):
                channel.dataReceived(data[at : at + cut])
            self.assertIn(b"From: 9.8.7.6\r\nKey: 9.8.7.6\r\n", transport.value())
        self.assertEqual([self.site.limits.of(key) for key in ("9.8.7.6", "1.2.3.4")], [3, 0])

    def test_swamped(self) -> None:
        """Who is too many even for a refusal has no answer either."""
        self.site = self.make(64, (), networks("1.2.3.4/32"), True)
        for _ in range(60):
            self.say(self.hello + GET + b"\r\n")
        self.assertEqual(len(self.resource.asked), 20)

    def test_not_announced(self) -> None:
        """A trusted proxy has to say whom it brings; nobody else may."""
        self.site = self.make(64, (), networks("1.2.3.4/32"), True)
        _, transport = self.say(GET + b"\r\n")
        self.assertEqual((transport.value(), transport.disconnected), (b"", True))
        _, transport = self.say(self.hello + GET + b"\r\n", "5.5.5.5")
        self.assertEqual(transport.value()[:12], b"HTTP/1.1 400")
        self.assertEqual(self.resource.asked, [])

    def test_signs_of_a_proxy(self) -> None:
        """Any of them says that a request did not come from its connection's other end."""

        class Signs(Resource):
            isLeaf = True

            def render(self, request: Any) -> bytes:
                return str(request.is_forwarded).encode()

        self.resource = Signs()  # type: ignore[assignment]
        self.site = self.make()
        signs = (
            *("Forwarded: for=_x", "Via: 1.1 p", "X-Forwarded-Host: h", "x-forwarded-proto: https"),
            *("X-Real-IP: ::1", "X-Forwarded-For: 127.0.0.1", "CF-Connecting-IP: 1", "CDN-Loop: x"),
            *("Fastly-Client-IP: 1", "X-Original-Forwarded-For: 1", "X-Envoy-External-Address: 1"),
        )
        for sign in signs:
            _, transport = self.say(GET + f"{sign}\r\n\r\n".encode(), "127.0.0.1")
            self.assertTrue(transport.value().endswith(b"\r\n\r\nTrue"), sign)
        _, transport = self.say(b"GET / HTTP/1.0\r\n\r\n", "127.0.0.1")
        self.assertTrue(transport.value().endswith(b"True"))
        _, transport = self.say(GET + b"\r\n", "127.0.0.1")
        self.assertIn(b"False", transport.value())
        self.site = self.make(64, (), networks("127.0.0.1/32"), True)
        _, transport = self.say(b"PROXY UNKNOWN\r\n" + GET + b"\r\n", "127.0.0.1")
        self.assertIn(b"True", transport.value())

    def test_forwarded(self) -> None:
        """By request, from a trusted proxy, which has as many connections as it likes."""
        self.site = self.make(64, (), networks("1.2.3.4/32"))
        for _ in range(25):
            _, transport = self.say(GET + b"X-Forwarded-For: 7.7.7.7, 9.8.7.6\r\n\r\n")
            self.assertIn(b"From: 9.8.7.6\r\nKey: 9.8.7.6\r\n", transport.value())
        for value, host, origin in (
            (b"9.8.7.6", "5.5.5.5", b"5.5.5.5"),
            (b"\xff", "5.5.5.5", b"5.5.5.5"),
            (b"\xff\xfe", "1.2.3.4", b"1.2.3.4"),
        ):
            _, transport = self.say(GET + b"X-Forwarded-For: " + value + b"\r\n\r\n", host)
            self.assertIn(b"From: " + origin + b"\r\n", transport.value())
