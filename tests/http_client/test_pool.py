"""Connections to servers: the same answers as Twisted's client, with less to do for them."""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import ClientCreator, Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web._newclient import HTTP11ClientProtocol, Request
from twisted.web.http_headers import Headers

from tests.support.reactor import reactor
from twisted_bulk.dialing.endpoints import RECEIVE_BUFFER
from twisted_bulk.http_client import connection
from twisted_bulk.http_client.connection import (
    PIECE_BYTES,
    SMALL_BODY_BYTES,
    Connection,
)
from twisted_bulk.http_client.parser import MAX_HEADER_BYTES
from twisted_bulk.http_client.response import explain
from twisted_bulk.system.tcp import prompt, steady

ANSWERS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nab\r\n\r",
    "ends of headers in it": b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n\r\n\r\n\r\n\r\n",
    "continue": b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
    "hints": b"HTTP/1.1 103 Hint\r\nLink: a\r\n\r\n" * 3 + b"HTTP/1.1 204 No\r\n\r\n",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    "until it closes": b"HTTP/1.1 200 OK\r\n\r\nabc\r\n\r\nd",
    "nothing": b"HTTP/1.1 204 No\r\nX: y\r\n\r\n",
    "more than nothing": b"HTTP/1.1 204 No\r\nX: y\r\n\r\nab",
    "too long": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabcd\r\n\r\n",
    "short": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab",
    "closes": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 6\n\nab\r\n\r\n",
    "folded": b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 2\r\n\r\nab",
    "no status": b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "no code": b"HTTP/1.1 no\r\n\r\nabc",
    "bad coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\nabc",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nab",
    "headers only": b"HTTP/1.1 200 OK\r\nContent-Le",
}


TOO_MUCH = ("more than nothing", "too long")  # Twisted would use such a connection again


class Taken(Protocol):
    """Notes a body."""

    def __init__(self, said: list[Any]) -> None:
        self.said = said
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.said += [self.data, reason.type]


def asking() -> Request:
    """A request."""
    return Request(b"GET", b"/", Headers({b"Host": [b"h"]}), None, persistent=True)


def said(kind: Callable[..., Any], pieces: Iterable[bytes]) -> list[Any]:
    """What a client makes of an answer."""
    idle: list[Any] = []
    client, transport = kind(idle.append), StringTransport()
    client.makeConnection(transport)
    heard: list[Any] = []

    def answered(response: Any) -> None:
        headers = sorted(response.headers.getAllRawHeaders())
        heard.append((response.code, response.phrase, response.length, headers))
        response.deliverBody(Taken(heard))

    asked = client.request(asking())
    asked.addCallbacks(answered, lambda failure: heard.append(failure.type))
    for piece in pieces:
        if client._parser is not None and not transport.disconnecting:
            client.dataReceived(piece)
    heard += [transport.value(), transport.disconnecting, transport.producerState, len(idle)]
    client.connectionLost(Failure(ConnectionDone()))
    return heard


class PoolAnswerTests(SynchronousTestCase):
    """Headers are read in steps."""

    def test_the_same(self) -> None:
        """However an answer comes in pieces, it is what Twisted's own client makes of it."""
        for name, answer in ANSWERS.items():
            ways: list[tuple[bytes, ...]]
            ways = [(answer[:at], answer[at:]) for at in range(1, len(answer))]
            ways += [(answer, b""), tuple(answer[n : n + 1] for n in range(len(answer)))]
            for pieces in ways:
                whole = [piece for piece in pieces if piece]
                expected, got = said(HTTP11ClientProtocol, whole), said(Connection, whole)
                if name in TOO_MUCH:
                    del expected[-3:], got[-3:]
                self.assertEqual(got, expected, (name, whole))

    def test_the_same_in_steps(self) -> None:
        """Where a step ends makes no difference, but that more than was asked for closes."""
        for step in range(1, 80):
            self.patch(connection, "PIECE_BYTES", step)
            for name, answer in ANSWERS.items():
                expected, got = said(HTTP11ClientProtocol, [answer]), said(Connection, [answer])
                if name in TOO_MUCH:
                    del expected[-3:], got[-3:]
                self.assertEqual(got, expected, (name, step))

    def test_more_than_was_asked_for(self) -> None:
        """A connection with bytes that nobody waits for is closed, and not used again."""
        none, two = b"HTTP/1.1 200 OK\r\nContent-Length: ", b"HTTP/1.1 200 OK\r\nContent-Length: 2"
        for answer in (ANSWERS["nothing"], none + b"0\r\n\r\n", two + b"\r\n\r\nab"):
            for step in range(1, len(answer) + 3):
                self.patch(connection, "PIECE_BYTES", step)
                for more in (b"", b"c", b"c" * PIECE_BYTES):
                    said = self.overlong(answer + more)
                    self.assertEqual(said, [bool(more), not more], (answer, step))

    def overlong(self, answer: bytes) -> list[bool]:
        """Whether the connection closes, and is used again."""
        idle: list[Any] = []
        client, transport = Connection(idle.append), StringTransport()
        client.makeConnection(transport)
        client.request(asking()).addCallback(lambda response: response.deliverBody(Protocol()))
        client.dataReceived(answer)
        return [transport.disconnecting, bool(idle)]

    def test_bounded(self) -> None:
        """What never comes to its answer is refused, also in one large piece."""
        for endless in (
            b"HTTP/1.1 100 Go on\r\n\r\n" * 20_000,
            b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50_000,
            b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50_000,
        ):
            seen: list[bytes] = []
            client, failed = Connection(lambda idle: None), list[Failure]()
            client.makeConnection(StringTransport())
            client.request(asking()).addErrback(failed.append)
            parser: Any = client._parser
            received = parser.lineReceived

            def noted(line: bytes, seen: list[bytes] = seen, to: Any = received) -> None:
                seen.append(line)
                to(line)

            parser.lineReceived = noted
            client.dataReceived(endless)
            self.assertEqual(explain(failed[0]).code, "headers_too_large")
            self.assertLess(sum(map(len, seen)), MAX_HEADER_BYTES + PIECE_BYTES)

    def test_copied_once(self) -> None:
        """The parser has nothing of a body before its headers are through: it is in one piece."""
        lines: list[int] = []
        pieces: list[bytes] = []
        client = Connection(lambda idle: None)
        client.makeConnection(StringTransport())
        taken = Taken([])
        vars(taken)["dataReceived"] = pieces.append
        client.request(asking()).addCallback(lambda response: response.deliverBody(taken))
        parser: Any = client._parser
        header_received = parser.headerReceived

        def noted(name: bytes, value: bytes) -> None:
            lines.append(len(parser._buffer))
            header_received(name, value)

        parser.headerReceived = noted
        body = b"x" * 999_999
        client.dataReceived(b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 999999\r\n\r\n" + body)
        self.assertEqual(len(lines), 2)
        self.assertLess(max(lines), 40)
        self.assertEqual(pieces, [body])

    def test_interim_answers_are_copied_once(self) -> None:
        """Many in one large piece cost no more than their length."""
        copied: list[int] = []

        class Data(bytes):
            def __getitem__(self, key: Any) -> Any:
                part = super().__getitem__(key)
                copied.append(len(part))
                return part

        client = Connection(lambda idle: None)
        client.makeConnection(StringTransport())
        client.request(asking()).addErrback(lambda _: None)
        data = Data(b"HTTP/1.1 100 \r\n\r\n" * 2000 + ANSWERS["length"] + b"x" * 500_000)
        client.dataReceived(data)
        self.assertGreater(len(copied), 2000)
        self.assertLessEqual(sum(copied), len(data))

    def test_read_at_once(self) -> None:
        """A small body in one go; of larger ones, and of those without a length, less."""
        idle: list[Any] = []
        client, transport = Connection(idle.append), StringTransport()
        client.makeConnection(transport)

        def size(headers: bytes) -> int:
            asked = client.request(asking())
            self.assertEqual(vars(transport)["bufferSize"], SMALL_BODY_BYTES)
            asked.addCallback(lambda response: response.deliverBody(Taken([])))
            client.dataReceived(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n")
            found: int = vars(transport)["bufferSize"]
            return found

        self.assertEqual(size(b"Content-Length: %d" % SMALL_BODY_BYTES), SMALL_BODY_BYTES)
        client.dataReceived(b"x" * SMALL_BODY_BYTES)
        self.assertEqual(size(b"Content-Length: %d" % (SMALL_BODY_BYTES + 1)), RECEIVE_BUFFER)
        client.dataReceived(b"x" * (SMALL_BODY_BYTES + 1))
        self.assertEqual(size(b"Content-Length: 0"), SMALL_BODY_BYTES)
        self.assertEqual(size(b"Transfer-Encoding: chunked"), RECEIVE_BUFFER)
        self.assertEqual(len(idle), 3)


class TransportTests(TestCase):
    """What is asked of the system, with real sockets."""

    timeout = 20

    async def pair(self) -> tuple[Any, Any]:
        """Two ends of a connection."""
        accepted: Deferred[Protocol] = Deferred()

        class End(Protocol):
            def __init__(self) -> None:
                self.got = b""
                self.told: Callable[[bytes], None] = lambda data: None
                self.lost: Deferred[None] = Deferred()

            def dataReceived(self, data: bytes) -> None:
                self.got += data
                self.told(data)

            def connectionLost(self, reason: Any = None) -> None:
                self.lost.callback(None)

        class Ends(Factory):
            noisy = False

            def buildProtocol(self, addr: Any) -> Protocol:
                end = End()
                reactor.callLater(0, accepted.callback, end)
                return end

        port = reactor.listenTCP(0, Ends(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        made = ClientCreator(reactor, End).connectTCP("127.0.0.1", port.getHost().port)
        mine = await made
        self.addCleanup(mine.transport.abortConnection)
        other: Any = await accepted
        self.addCleanup(other.transport.abortConnection)
        return mine, other

    def calls(self, name: str) -> list[Any]:
        """Those of the reactor, from now on."""
        found: list[Any] = []
        original = getattr(reactor, name)

        def noted(selectable: Any) -> None:
            found.append(selectable)
            original(selectable)

        self.patch(reactor, name, noted)
        return found

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait for it."""
        while not done():
            turn: Deferred[None] = Deferred()
            reactor.callLater(0.001, turn.callback, None)
            await turn

    async def test_prompt(self) -> None:
        """What fits goes at once; the rest, when the system says so."""
        mine, other = await self.pair()
        writers = self.calls("addWriter")
        with prompt(mine.transport):
            mine.transport.write(b"a")
            with prompt(mine.transport):
                mine.transport.write(b"b")
        await self.until(lambda: bool(other.got == b"ab"))
        self.assertNotIn(mine.transport, writers)
        other.transport.pauseProducing()
        with prompt(mine.transport):
            mine.transport.write(b"c" * 20_000_000)
        self.assertIn(mine.transport, writers)
        other.transport.resumeProducing()
        await self.until(lambda: len(other.got) == 20_000_002)

    async def test_steady(self) -> None:
        """Stopped and gone on with within a turn: nothing. Stopped: stopped."""
        mine, other = await self.pair()
        removed, added = self.calls("removeReader"), self.calls("addReader")

        def rests(data: bytes) -> None:
            with steady(mine.transport):
                mine.transport.pauseProducing()
                mine.transport.resumeProducing()

        mine.told = rests
        other.transport.write(b"a")
        await self.until(lambda: bool(mine.got == b"a"))
        self.assertNotIn(mine.transport, removed + added)

        def stops(data: bytes) -> None:
            with steady(mine.transport):
                mine.transport.resumeProducing()
                mine.transport.pauseProducing()

        mine.told = stops
        other.transport.write(b"b")
        await self.until(lambda: bool(mine.got == b"ab"))
        self.assertIn(mine.transport, removed)
        mine.told = lambda data: None
        mine.transport.resumeProducing()
        other.transport.write(b"c")
        await self.until(lambda: bool(mine.got == b"abc"))

    async def test_steady_to_the_end(self) -> None:
        """A connection that is closed while what came is handled is closed."""
        for how in ("loseConnection", "abortConnection"):
            mine, other = await self.pair()

            def closes(data: bytes, mine: Any = mine, how: str = how) -> None:
                with steady(mine.transport):
                    getattr(mine.transport, how)()

            mine.told = closes
            other.transport.write(b"a")
            await mine.lost
            await other.lost
