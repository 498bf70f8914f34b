"""How requests come to Klein's handlers, and what becomes of what they answer."""

import socket
from http import HTTPStatus
from typing import Any

from klein import Klein
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.http import Request
from werkzeug.exceptions import HTTPException

from tests.support.reactor import reactor
from twisted_bulk.errors import BulkError, TooLarge
from twisted_bulk.http_server.klein_resource import KleinResource
from twisted_bulk.http_server.problem import problem
from twisted_bulk.http_server.site import BoundedSite
from twisted_bulk.http_server.streamed_body import StreamedBody

LARGE = b"x" * 3_000_000


class Application:
    """Handlers of all kinds."""

    app = Klein()

    def __init__(self) -> None:
        self.waiting: list[Deferred[bytes]] = []
        self.errors: list[Exception] = []
        self.cancelled = 0

    def failed(self, request: Request, error: Exception) -> bytes:
        self.errors.append(error)
        if isinstance(error, HTTPException):
            request.setResponseCode(error.code or 0)
            return b"not routed"
        if isinstance(error, BulkError):
            return problem(request, error)
        raise error

    @app.route("/plain", methods=["GET"])
    def plain(self, request: Any) -> bytes:
        """At once."""
        return b"plain"

    @app.route("/of/<name>", methods=["GET"])
    async def named(self, request: Any, name: str) -> bytes:
        """With a variable."""
        return f"of {name}".encode()

    @app.route("/waits", methods=["GET"])
    async def waits(self, request: Any) -> bytes:
        """Later."""
        self.waiting.append(Deferred(self._cancel))
        return await self.waiting[-1]

    def _cancel(self, waiting: Any) -> None:
        self.cancelled += 1

    @app.route("/stubborn", methods=["GET"])
    async def stubborn(self, request: Any) -> bytes:
        """Ends in its own way when its client is gone."""
        try:
            return await self.waits(request)
        except CancelledError:
            return b"nevertheless"

    @app.route("/refuses", methods=["GET"])
    async def refuses(self, request: Any) -> bytes:
        """One of our own errors."""
        raise TooLarge("too large")

    @app.route("/breaks", methods=["GET"])
    async def breaks(self, request: Any) -> bytes:
        """A mistake that nobody knows how to answer."""
        raise ZeroDivisionError

    @app.route("/pieces", methods=["GET"])
    async def pieces(self, request: Any) -> StreamedBody:
        """In pieces."""
        return StreamedBody(iter([b"one", b"two"]))

    @app.route("/large", methods=["GET"])
    async def large(self, request: Any) -> bytes:
        """More than a socket takes at once."""
        request.setHeader("Content-Length", str(len(LARGE)))
        return LARGE


class RoutedTests(SynchronousTestCase):
    """In memory."""

    def setUp(self) -> None:
        self.application = Application()
        routed = KleinResource([self.application.app], self.application.failed)
        self.site = BoundedSite(routed, Clock(), 1000)

    def say(self, data: bytes) -> tuple[Any, StringTransport]:
        transport = StringTransport()
        vars(transport)["abortConnection"] = transport.loseConnection
        channel: Any = self.site.buildProtocol(transport.getPeer())
        channel.makeConnection(transport)
        channel.dataReceived(data)
        return channel, transport

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        _, transport = self.say(f"{method} {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        head, _, body = transport.value().partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def test_found(self) -> None:
        """With a variable or without, however it is spelt."""
        for path, answer in (
            ("/plain", b"plain"),
            ("/plain?a=b", b"plain"),
            ("/%70lain", b"plain"),
            ("/of/me", b"of me"),
            ("/of/<name>", b"of <name>"),
            ("/of/%C3%A9", "of é".encode()),
        ):
            status, body = self.get(path)
            self.assertEqual((status, answer in body), (200, True), path)
        self.assertEqual(self.get("/plain", "HEAD"), (200, b""))

    def test_not_found(self) -> None:
        """What there is not, and what is no path."""
        for method, path, status in (
            ("GET", "/", 404),
            ("GET", "/plain/", 404),
            ("GET", "/of/", 404),
            ("POST", "/plain", 405),
            ("POST", "/of/me", 405),
            ("GET", "/of/%ff", 400),
            ("GET", "plain", 400),
            ("GET", "*", 404),
        ):
            self.assertEqual(self.get(path, method)[0], status, path)

    def test_refused(self) -> None:
        """An error is answered, with its length."""
        _, transport = self.say(b"GET /refuses HTTP/1.1\r\nHost: h\r\n\r\n")
        head, _, body = transport.value().partition(b"\r\n\r\n")
        self.assertIn(b" 413 ", head)
        self.assertIn(f"Content-Length: {len(body)}".encode(), head)
        self.assertIn(HTTPStatus.REQUEST_ENTITY_TOO_LARGE.phrase.encode(), body)

    def test_broken(self) -> None:
        """Where there is no answer the connection ends: nobody waits for one."""
        _, transport = self.say(b"GET /breaks HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertTrue(transport.disconnecting)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_gone(self) -> None:
        """A handler is cancelled with its client, and what it says then goes nowhere."""
        for number, path in enumerate(("/waits", "/stubborn"), 1):
            channel, transport = self.say(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            channel.connectionLost(Failure(ConnectionDone()))
            self.assertEqual((self.application.cancelled, transport.value()), (number, b""))
        self.assertEqual((self.application.errors, self.flushLoggedErrors()), ([], []))

    def test_late(self) -> None:
        """An answer that was waited for, and one behind it on the connection."""
        asked = b"GET /waits HTTP/1.1\r\nHost: h\r\n\r\nGET /plain HTTP/1.1\r\nHost: h\r\n\r\n"
        _, transport = self.say(asked)
        self.assertEqual(transport.value(), b"")
        self.application.waiting[0].callback(b"late")
        self.assertLess(transport.value().index(b"late"), transport.value().index(b"plain"))
        self.assertEqual(self.application.cancelled, 0)


class KleinSocketTests(TestCase):
    """By real sockets, whose answers are sent without waiting for the reactor."""

    timeout = 30

    def setUp(self) -> None:
        self.application = Application()
        routed = KleinResource([self.application.app], self.application.failed)
        self.port: Any = reactor.listenTCP(0, BoundedSite(routed, reactor, 1000))
        self.addCleanup(self.port.stopListening)

    def ask(self, *paths: str) -> bytes:
        lines = [f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n" for path in paths[:-1]]
        lines.append(f"GET {paths[-1]} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        found = b""
        with socket.create_connection(("127.0.0.1", self.port.getHost().port)) as client:
            client.settimeout(10)
            client.sendall("".join(lines).encode())
            while data := client.recv(10_000):
                found += data
        return found

    def ask_and_stay(self, until: bytes, path: str) -> bytes:
        found = b""
        with socket.create_connection(("127.0.0.1", self.port.getHost().port)) as client:
            client.settimeout(10)
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            while not found.endswith(until):
                found += client.recv(1 << 20)
        return found

    async def test_answers(self) -> None:
        """Small, larger than a socket takes at once, in pieces, several in a row, to the end."""
        found = await deferToThread(self.ask, "/plain")
        self.assertTrue(found.endswith(b"plain\r\n0\r\n\r\n"), found)
        found = await deferToThread(self.ask, "/large", "/pieces", "/large", "/plain")
        self.assertEqual(found.count(LARGE), 2)
        self.assertEqual(found.count(b"HTTP/1.1 200"), 4)
        self.assertIn(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n", found)
        self.assertTrue(found.endswith(b"plain\r\n0\r\n\r\n"))

    async def test_in_one(self) -> None:
        """An answer without a length is not sent in two: the second would wait for the first."""
        sent: list[bytes] = []
        send = Connection.writeSomeData

        def count(transport: Any, data: Any) -> Any:
            sent.append(bytes(data))
            return send(transport, data)

        self.patch(Connection, "writeSomeData", count)
        found = await deferToThread(self.ask_and_stay, b"plain\r\n0\r\n\r\n", "/plain")
        self.assertEqual(sent, [found])

    async def test_stays(self) -> None:
        """The rest of a large answer follows, also where nothing else does."""
        found = await deferToThread(self.ask_and_stay, LARGE, "/large")
        self.assertTrue(found.endswith(LARGE))
