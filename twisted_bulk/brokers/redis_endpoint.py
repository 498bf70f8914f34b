"""Endpoints to a Redis: by TCP, with TLS, by unix socket, or to the master that Sentinel names."""

import os
from collections.abc import Callable
from typing import Any

import hiredis
from OpenSSL import crypto
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import BrowserLikePolicyForHTTPS
from zope.interface import implementer

from twisted_bulk.brokers.redis_url import Address, Host
from twisted_bulk.errors import ConfigError
from twisted_bulk.system.net import NamedEndpoint, creator

CONNECT_SECONDS = 5.0  # for a connection to the server
SENTINEL_SECONDS = 2.0  # for the answer of one Sentinel; then the next one is asked


def _roots(path: str) -> Any:
    """The certificate authorities in a PEM file."""
    mark = b"-----BEGIN CERTIFICATE-----"
    try:
        with open(path, "rb") as file:
            pems = file.read().split(mark)[1:]
        return trustRootFromCertificates([Certificate.loadPEM(mark + pem) for pem in pems])
    except (OSError, crypto.Error) as error:
        raise ConfigError(f"redis: cannot read the certificates in {path}: {error}") from None


class _Question(Protocol):
    """One question to one Sentinel."""

    def __init__(self, words: list[bytes]) -> None:
        self.answer: Deferred[Any] = Deferred(lambda _: self._hang_up())
        self._words = words
        self._reader = hiredis.Reader()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"".join(self._words))

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        while not self.answer.called and (reply := self._reader.gets()) is not False:
            if isinstance(reply, hiredis.ReplyError):
                self.answer.errback(ConnectError(string=str(reply)))
            elif reply != b"OK":  # to AUTH
                self.answer.callback(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.answer.called:
            self.answer.errback(reason)

    def _hang_up(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


def _command(*words: str) -> bytes:
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]
    return packed


@implementer(IStreamClientEndpoint)
class SentinelEndpoint:
    """Asks the Sentinels, one after the other, and connects to the master that they name.

    :param found: called with the port of each master
    """

    def __init__(
        self, reactor: Any, address: Address, found: Callable[[int], object] = lambda port: None
    ) -> None:
        self._reactor = reactor
        self._found = found
        self._address = address
        self._first = 0  # the Sentinel that answered last

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect ``factory`` to the present master."""
        return Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        hosts = self._address.hosts
        trouble: Exception = ConnectError()
        for turn in range(len(hosts)):
            number = (self._first + turn) % len(hosts)
            try:
                master = await self._ask(hosts[number])
            except CancelledError:
                raise
            except Exception as error:  # the next Sentinel may answer
                trouble = error
                continue
            self._first = number
            self._found(master[1])
            endpoint = tcp(self._reactor, master, self._address)
            protocol: IProtocol = await endpoint.connect(factory)
            return protocol
        raise ConnectError(string=f"no Sentinel knows {self._address.master}: {trouble}")

    async def _ask(self, sentinel: Host) -> Host:
        words = [_command("SENTINEL", "get-master-addr-by-name", self._address.master)]
        if self._address.sentinel_credentials:
            words.insert(0, _command("AUTH", *self._address.sentinel_credentials))
        question = _Question(words)
        connecting = tcp(self._reactor, sentinel, self._address, SENTINEL_SECONDS).connect(
            Factory.forProtocol(lambda: question)
        )
        await connecting.addTimeout(SENTINEL_SECONDS, self._reactor)
        try:
            answer = await question.answer.addTimeout(SENTINEL_SECONDS, self._reactor)
        finally:
            assert question.transport is not None
            question.transport.loseConnection()
        if answer is None:
            raise ConnectError(string=f"{sentinel[0]}:{sentinel[1]} does not know it")
        host, port = answer
        return host.decode(), int(port)


def tcp(
    reactor: Any, host: Host, address: Address, timeout: float = CONNECT_SECONDS
) -> IStreamClientEndpoint:
    """An endpoint to ``host`` with the TLS that ``address`` asks for; certificates are checked."""
    endpoint: IStreamClientEndpoint = NamedEndpoint(reactor, *host, timeout=timeout)
    if address.tls:
        policy = BrowserLikePolicyForHTTPS(_roots(address.ca) if address.ca else None)
        endpoint = wrapClientTLS(creator(policy, host[0].encode(), host[1]), endpoint)
    return endpoint


def endpoint(
    reactor: Any, address: Address, found: Callable[[int], object] = lambda port: None
) -> IStreamClientEndpoint:
    """The endpoint that leads to ``address``.

    :param found: called with the port of each master that a Sentinel names
    """
    if address.path:
        return UNIXClientEndpoint(reactor, os.fspath(address.path), timeout=int(CONNECT_SECONDS))
    if address.master:
        return SentinelEndpoint(reactor, address, found)
    return tcp(reactor, address.hosts[0], address)
