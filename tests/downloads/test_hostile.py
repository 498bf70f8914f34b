"""Servers that do what they should not, all at once, beside one that is well-behaved."""

import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from tests.support.certificates import authority, issue
from tests.support.downloads import DownloadTestCase
from tests.support.origin_server import Exchange, ok, respond
from tests.support.reactor import reactor
from twisted_bulk.downloads.part_fetches import PartFetches
from twisted_bulk.error_codes import MEMBER_CODES

DEADLINE = 1.0  # every one, but for those that a test shortens
OK = b"HTTP/1.1 200 OK\r\n"


def drip(exchange: Exchange, data: bytes, every: float = 0.1) -> None:
    """Byte by byte, for as long as there is somebody."""
    exchange.write(data[:1])
    exchange.later(every, drip, data[1:], every)


def flood(exchange: Exchange, data: bytes, times: int) -> None:
    """The same, over and over, as fast as it is taken."""
    exchange.write(data)
    if times:
        exchange.later(0, flood, data, times - 1)


def reset(exchange: Exchange) -> None:
    """End with an RST."""
    transport: Any = exchange.transport
    linger = struct.pack("ii", 1, 0)
    transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abortConnection()


def say(data: bytes, then: Callable[..., None], *more: Any) -> Callable[[Exchange], None]:
    """Say it, and go on with something else."""

    def answer(exchange: Exchange) -> None:
        exchange.write(data)
        then(exchange, *more)

    return answer


def close_after(data: bytes) -> Callable[[Exchange], None]:
    """Say it and go."""

    def answer(exchange: Exchange) -> None:
        exchange.write(data)
        exchange.close()

    return answer


def reset_after(data: bytes) -> Callable[[Exchange], None]:
    """Say it and break the connection."""

    def answer(exchange: Exchange) -> None:
        exchange.write(data)
        exchange.later(0.05, reset)

    return answer


def head(*lines: str) -> bytes:
    """A 200 that begins like this."""
    return OK + "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"


def redirect(where: str) -> bytes:
    """A 302."""
    return respond("302 Found", b"", f"Location: {where}")


CHUNKED = head("Transfer-Encoding: chunked")

#: What a server does, and the code that its member gets.
SERVERS: dict[str, tuple[Any, str]] = {
    "no answer": (lambda exchange: None, "header_timeout"),
    "headers by the byte": (say(b"", drip, OK + b"A: " + b"b" * 500), "header_timeout"),
    "endless interim answers": (
        say(b"", flood, b"HTTP/1.1 103 Early\r\nLink: " + b"x" * 999 + b"\r\n\r\n", 20_000),
        "headers_too_large",
    ),
    "30 MB of headers": (
        say(OK, flood, b"".join(b"H%d: x\r\n" % n for n in range(3000)), 999),
        "headers_too_large",
    ),
    "one endless header": (
        say(OK + b"H: ", flood, b"h" * 9999, 999),
        "headers_too_large",
    ),
    "closed at once": (close_after(b""), "connection_lost"),
    "closed within the headers": (close_after(OK + b"A: b\r\n"), "connection_lost"),
    "reset at once": (lambda e: reset(e), "connection_lost"),
    "reset in the middle": (reset_after(head("Content-Length: 9") + b"abc"), "body_short"),
    "silent body": (lambda e: e.write(head("Content-Length: 9") + b"abc"), "idle_timeout"),
    "a byte now and then": (
        say(head("Content-Length: 999"), drip, b"x" * 999, 0.2),
        "too_slow",
    ),
    "short body": (close_after(head("Content-Length: 9") + b"abc"), "body_short"),
    "short chunks": (close_after(CHUNKED + b"9\r\nabc"), "body_short"),
    "no last chunk": (close_after(CHUNKED + b"3\r\nabc\r\n"), "body_short"),
    "chunk without size": (CHUNKED + b"zz\r\nabc\r\n", "bad_response"),
    "endless body": (
        say(head("Connection: close"), flood, b"x" * 99_999, 9999),
        "too_large",
    ),
    "announced too large": (lambda e: e.write(head("Content-Length: 999999999999")), "too_large"),
    "10,000 digits": (head("Content-Length: " + "9" * 10_000), "bad_response"),
    "negative length": (head("Content-Length: -5"), "bad_response"),
    "two lengths": (head("Content-Length: 3", "Content-Length: 4") + b"abc", "bad_response"),
    "unknown transfer encoding": (head("Transfer-Encoding: brotli") + b"abc", "bad_response"),
    "not HTTP": (b"220 mail.example ESMTP ready\r\n\r\n", "bad_response"),
    "gzip bomb": (ok(b"\x1f\x8b" + bytes(9999), "Content-Encoding: gzip"), "content_encoded"),
    "redirects to itself": (redirect("/redirects%20to%20itself"), "too_many_redirects"),
    "redirects to metadata": (redirect("http://169.254.169.254/latest/"), "address_refused"),
    "redirects to SSH": (redirect("http://8.8.8.8:22/"), "port_refused"),
    "redirects to a file": (redirect("file:///etc/passwd"), "bad_response"),
    "redirects to gopher": (redirect("gopher://127.0.0.1:70/"), "bad_response"),
    "an unasked part": (respond("206 P", b"abc", "Content-Range: bytes 0-2/9"), "bad_range"),
    "forbidden": (respond("403 Forbidden"), "http_error"),
    "broken": (respond("500 Oops"), "http_unavailable"),
    "storm of 429": (respond("429 Slow down", b"", "Retry-After: 9"), "http_throttled"),
}  # fmt: skip


class Mumble(Protocol):
    """Talks something that is not TLS, or nothing."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        if self._data:
            self.transport.write(self._data)


class HostileTestCase(DownloadTestCase):
    """Short deadlines, and no second chances."""

    timeout = 60
    settings: dict[str, Any] = {
        "retries": 0, "concurrency": 64, "per_host": 64, "header_timeout": 2 * DEADLINE,
        "dns_timeout": 1.5 * DEADLINE,
        "idle_timeout": DEADLINE, "min_speed": 100, "window": DEADLINE, "member_bytes": 10_000_000,
    }  # fmt: skip

    def listen(self, protocol: Callable[[], Protocol], context: Any = None) -> str:
        """A server of another kind; its host and port."""
        factory: Any = Factory.forProtocol(protocol)
        if context is None:
            port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            port = reactor.listenSSL(0, factory, context, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"localhost:{port.getHost().port}"


class HostileTests(HostileTestCase):
    """Each ends with its own code in time, and is nobody else's trouble."""

    def elsewhere(self) -> dict[str, tuple[str, str]]:
        """Servers that are no web servers: URL and code."""
        closed = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(closed.close)
        refusing = closed.getsockname()[1]
        closed.close()
        garbage = self.listen(lambda: Mumble(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        mute = self.listen(lambda: Mumble(b""))
        unknown = self.listen(Protocol, issue(*authority("strangers"), "localhost"))
        other = self.listen(Protocol, issue(*authority("ours"), "elsewhere"))
        expired = self.listen(Protocol, issue(*authority("ours"), "localhost", -5))
        return {
            "garbage": (f"https://{garbage}/", "tls_failed"),
            "mute": (f"https://{mute}/", "tls_timeout"),
            "unknown authority": (f"https://{unknown}/", "tls_failed"),
            "other name": (f"https://{other}/", "tls_failed"),
            "expired": (f"https://{expired}/", "tls_failed"),
            "closed": (f"http://127.0.0.1:{refusing}/", "connect_failed"),
            "slow DNS": ("http://slow.example/", "dns_timeout"),
            "no such name": ("http://nowhere.example/", "dns_failed"),
            "unspeakable name": (f"http://{'a' * 64}.example/", "bad_url"),
        }  # fmt: skip

    async def test_each(self) -> None:
        """33 web servers, and 9 hosts that are none."""
        downloader = self.start(**self.settings, authorities=[authority("ours")[0]])
        expected = {}
        fetches = []
        for name, (answer, code) in SERVERS.items():
            url = "/" + name.replace(" ", "%20").replace(",", "")
            self.site.answers[url] = answer
            expected[url] = code
            fetches.append(self.one(url))
        for url, code in self.elsewhere().values():
            expected[url] = code
            fetches.append(self.one(url))
        good = [self.one(f"/good/{n}") for n in range(200)]
        for n in range(200):
            self.site.answers[f"/good/{n}"] = ok(bytes(1000))
        began = reactor.seconds()
        bad = Deferred.fromCoroutine(downloader.fetch(PartFetches(left=len(fetches)), fetches))
        well = Deferred.fromCoroutine(downloader.fetch(PartFetches(left=len(good)), good))
        await well
        # What is well-behaved has come before the first of them was given up for its silence.
        waiting = [url for url, code in expected.items() if code.endswith("_timeout")]
        self.assertEqual([url for url in waiting if self.errors.get(url)], [])
        await bad
        codes = {url: error.code for url, error in self.errors.items() if error is not None}
        wrong = {url: codes.get(url) for url, code in expected.items() if codes.get(url) != code}
        self.assertEqual(wrong, {})
        # Headers come after the name, the connection and TLS: the longest of all, and 1 s.
        self.assertLess(reactor.seconds() - began, 2 * DEADLINE + 1)
        self.assertTrue(set(expected.values()) <= set(MEMBER_CODES))
