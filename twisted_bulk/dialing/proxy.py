"""HTTP proxies: their URLs, and tunnels through them, made by CONNECT (RFC 9110, 9.3.6)."""

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_bulk.errors import MemberError

MAX_ANSWER_BYTES = 16 * 1024  # of the proxy's answer to CONNECT; a longer one is an error


@dataclass(frozen=True)
class Proxy:
    """A proxy; ``authorization``: the value of Proxy-Authorization, or empty."""

    host: str
    port: int
    authorization: bytes = b""


def parse_proxy(url: str) -> Proxy:
    """:raises ValueError: it is not the URL of an HTTP proxy; its text says what was expected"""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if (
        port == 0
        or parts.scheme != "http"
        or not parts.hostname
        or parts.path.strip("/")
        or parts.query
    ):
        raise ValueError("a proxy such as http://proxy.example:3128")
    token = b""
    if parts.username is not None:
        words = unquote(parts.username), unquote(parts.password or "")
        token = b"Basic " + b64encode(":".join(words).encode())
    return Proxy(parts.hostname, port or 80, token)


class ConnectRequest(Protocol):
    """Sends CONNECT, reads the answer, and then passes all data to ``inner``.

    ``opened`` fires when the proxy has made the tunnel.
    """

    def __init__(self, hello: bytes) -> None:
        self._hello = hello
        self._answer = b""
        self.opened: Deferred[None] = Deferred()
        self.inner: Any = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._hello)

    def dataReceived(self, data: bytes) -> None:
        if self.inner is not None:
            self.inner.dataReceived(data)
            return
        self._answer += data
        head, end, rest = self._answer.partition(b"\r\n\r\n")
        if not end and len(head) < MAX_ANSWER_BYTES:
            return
        match = re.match(rb"HTTP/1\.[01] (\d{3})", head)
        # Bytes after the answer are an error: the host cannot have sent any before it was asked.
        if not self.opened.called:
            if end and match and match[1][:1] == b"2" and not rest:
                self.opened.callback(None)
                return
            answer = f"HTTP {match[1].decode()}" if match else "no HTTP answer"
            detail = f"the proxy does not connect: {answer}"
            self.opened.errback(MemberError("proxy_failed", detail))

    def connectionLost(self, reason: Failure = Failure(error.ConnectionDone())) -> None:  # noqa: B008
        if self.inner is not None:
            self.inner.connectionLost(reason)
        elif not self.opened.called:
            self.opened.errback(MemberError("proxy_failed", "the proxy closed the connection"))


@implementer(IStreamClientEndpoint)
class Tunnel:
    """An endpoint for a host behind a proxy.

    :param through: connects to the proxy
    :param timeout: seconds for the proxy's answer
    """

    def __init__(
        self,
        clock: IReactorTime,
        through: IStreamClientEndpoint,
        proxy: Proxy,
        host: str,
        port: int,
        timeout: float,
    ) -> None:
        self._clock = clock
        self._through = through
        self._timeout = timeout
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
        if proxy.authorization:
            lines.append(f"Proxy-Authorization: {proxy.authorization.decode()}")
        self._hello = "\r\n".join([*lines, "", ""]).encode()

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        hello = self._hello

        class Asking(Factory):
            noisy = False

            def buildProtocol(self, addr: Any) -> ConnectRequest:
                return ConnectRequest(hello)

        asking: Any = await self._through.connect(Asking())
        late = MemberError("connect_timeout", "the proxy took too long to connect")
        asking.opened.addTimeout(self._timeout, self._clock, lambda *_: Failure(late))
        try:
            await asking.opened
        except BaseException:
            asking.transport.abortConnection()
            raise
        inner = factory.buildProtocol(asking.transport.getPeer())
        assert inner is not None
        asking.inner = inner
        inner.makeConnection(asking.transport)
        return inner
