"""Tunnels through an HTTP proxy, made by CONNECT (RFC 9110, 9.3.6)."""

import re
from typing import Any

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
from twisted_bulk.http_client.proxy_url import Proxy

MAX_ANSWER = 16 * 1024  # bytes of an answer to CONNECT


class ConnectRequest(Protocol):
    """Waits for the proxy's answer to CONNECT, then hands the connection over."""

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
        if not end and len(head) < MAX_ANSWER:
            return
        match = re.match(rb"HTTP/1\.[01] (\d{3})", head)
        # Whatever stands behind the answer was said before anybody was asked.
        if not self.opened.called:
            if end and match and match[1][:1] == b"2" and not rest:
                self.opened.callback(None)
                return
            what = f"HTTP {match[1].decode()}" if match else "no HTTP answer"
            self.opened.errback(MemberError("proxy_failed", f"the proxy does not connect: {what}"))

    def connectionLost(self, reason: Failure = Failure(error.ConnectionDone())) -> None:  # noqa: B008
        if self.inner is not None:
            self.inner.connectionLost(reason)
        elif not self.opened.called:
            self.opened.errback(MemberError("proxy_failed", "the proxy closed the connection"))


@implementer(IStreamClientEndpoint)
class Tunnel:
    """A connection to a host through a proxy."""

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
