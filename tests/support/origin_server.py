"""A web server on loopback whose answers a test writes, byte by byte if it likes."""

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from twisted.trial.unittest import TestCase

from tests.support.reactor import reactor

Answer = bytes | Callable[["Exchange"], None]


def ok(body: bytes, *headers: str) -> bytes:
    """A 200 with its length."""
    return respond("200 OK", body, *headers)


def respond(status: str, body: bytes = b"", *headers: str) -> bytes:
    """A whole response with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace") + body


class Exchange(LineReceiver):
    """One connection; each request is noted and answered by its path."""

    site: "Site"

    def connectionMade(self) -> None:
        self.head: list[str] = []
        self.timer: Any = None
        self.site.connections += 1

    def lineReceived(self, line: bytes) -> None:
        if line:
            self.head.append(line.decode("latin-1"))
            return
        length = [h.split(":")[1] for h in self.head if h.lower().startswith("content-length")]
        if length and int(length[0]):
            self.body, self.missing = b"", int(length[0])
            self.setRawMode()
        else:
            self.body = b""
            self.answer()

    def rawDataReceived(self, data: bytes) -> None:
        self.body += data
        if len(self.body) >= self.missing:
            self.setLineMode()
            self.answer()

    def answer(self) -> None:
        head, self.head = self.head, []
        path = head[0].split()[1]
        self.site.requests.append((path, head[1:], self.body))
        answers = self.site.answers.get(path, respond("404 Not Found"))
        if isinstance(answers, list):
            answers = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(answers):
            answers(self)
        else:
            self.write(answers)

    def later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call it with this exchange, while there is somebody."""
        self.timer = reactor.callLater(seconds, call, self, *arguments)

    def connectionLost(self, reason: Any = None) -> None:
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self.site.open.discard(self)

    def write(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[union-attr]

    def close(self) -> None:
        self.transport.loseConnection()  # type: ignore[union-attr]

    def abort(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]


class Site(Factory):
    """The server; ``answers`` maps a path to one answer, or to a list of them in turn."""

    noisy = False

    def __init__(self, case: TestCase) -> None:
        self.answers: dict[str, Any] = {}
        self.requests: list[tuple[str, list[str], bytes]] = []
        self.connections = 0
        self.open: set[Exchange] = set()
        self.port: Any = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port.getHost().port}"

        def stop() -> Any:
            for exchange in list(self.open):
                exchange.abort()
                exchange.connectionLost()
            return self.port.stopListening()

        case.addCleanup(stop)

    def buildProtocol(self, addr: Any) -> Exchange:
        exchange = Exchange()
        exchange.site = self
        self.open.add(exchange)
        return exchange

    def headers(self, number: int = -1) -> dict[str, str]:
        """The headers of one request, by lower-case name."""
        pairs = (line.split(": ", 1) for line in self.requests[number][1])
        return {name.lower(): value for name, value in pairs}
