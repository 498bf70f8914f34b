"""Which addresses may be dialled, and the one Agent that everything outgoing uses.

A host name is resolved once; every address of the answer is checked, and the
connection is made to an address that was. One refused address refuses the name.
Look-ups have threads of their own: slow DNS must not hold up anything else.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from functools import partial
from threading import Thread
from typing import Any

from twisted.application.service import Service
from twisted.internet import error
from twisted.internet._resolver import GAIResolver
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTime,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from twisted_bulk.errors import MemberError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOKUP_THREADS = 16
RECEIVE_BUFFER = 256 * 1024  # Twisted's 64 KiB costs two to three times the CPU a byte

# IANA's special-purpose registries; ipaddress.is_global differs between Pythons.
_SPECIAL4 = (
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24"
    " 192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24"
    " 224.0.0.0/4 240.0.0.0/4"
)
# All unicast IPv6 is in 2000::/3, which leaves out mapped and NAT64 addresses;
# these parts of it are special, 6to4 and Teredo among them.
_GLOBAL6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL6 = "2001::/23 2001:db8::/32 2002::/16 3fff::/20"
SPECIAL: tuple[Network, ...] = tuple(
    map(ipaddress.ip_network, (_SPECIAL4 + " " + _SPECIAL6).split())
)


class Guard:
    """The policy: public unicast addresses, and what the operator opened.

    :param allowed: non-public networks that may be reached
    """

    def __init__(self, allowed: Iterable[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def allows(self, text: str) -> bool:
        """Whether ``text``, an address in its usual form, may be dialled."""
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return False
        if any(address in net for net in self._allowed):
            return True
        if isinstance(address, ipaddress.IPv6Address):
            if address.ipv4_mapped:
                return self.allows(str(address.ipv4_mapped))
            if address not in _GLOBAL6:
                return False
        return not any(address in net for net in SPECIAL)


@implementer(IResolutionReceiver)
class _Checked:
    """Pass a resolution on, emptied if one of its addresses is refused."""

    def __init__(self, receiver: Any, guard: Guard, refused: list[str]) -> None:
        self._receiver = receiver
        self._guard = guard
        self._refused = refused
        self._addresses: list[IAddress] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: Any) -> None:
        if self._guard.allows(address.host):
            self._addresses.append(address)
        else:
            self._refused.append(address.host)

    def resolutionComplete(self) -> None:
        if not self._refused:
            for address in self._addresses:
                self._receiver.addressResolved(address)
        self._receiver.resolutionComplete()


@implementer(IReactorPluggableNameResolver, IHostnameResolver)
class _GuardedReactor:
    """The reactor for one connection: its name resolver checks what it finds."""

    def __init__(self, reactor: Any, resolver: IHostnameResolver, guard: Guard) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._guard = guard
        self.refused: list[str] = []

    @property
    def nameResolver(self) -> IHostnameResolver:
        return self

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        raise NotImplementedError("this resolver stays")

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        receiver = _Checked(resolutionReceiver, self._guard, self.refused)
        return self._resolver.resolveHostName(
            receiver, hostName, portNumber, addressTypes, transportSemantics
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


@implementer(IStreamClientEndpoint)
class _GuardedEndpoint:
    """A TCP connection to a host, if its addresses may be dialled.

    Fails with a :class:`MemberError` that says what went wrong.
    """

    def __init__(
        self, reactor: Any, resolver: IHostnameResolver, guard: Guard, uri: URI, timeout: float
    ) -> None:
        self._clock: IReactorTime = reactor
        self._reactor = _GuardedReactor(reactor, resolver, guard)
        self._host = uri.host.decode("ascii").strip("[]")
        self._port = uri.port
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> IProtocol:
        where = f"{self._host}:{self._port}"
        for each in (factory, getattr(factory, "wrappedFactory", factory)):
            each.noisy = False  # a line in the log for each connection says nothing
        endpoint = HostnameEndpoint(self._reactor, self._host, self._port, timeout=self._timeout)
        connecting = endpoint.connect(factory)
        late = MemberError("connect_timeout", f"{where} took too long to connect")
        connecting.addTimeout(self._timeout, self._clock, lambda *_: Failure(late))
        try:
            protocol: Any = await connecting
        except error.DNSLookupError:
            if self._reactor.refused:
                raise MemberError("address_refused", f"{where} is not a public address") from None
            raise MemberError("dns_failed", f"{self._host} cannot be resolved") from None
        except error.ConnectingCancelledError as stopped:
            raise CancelledError() from stopped
        except error.TimeoutError:
            raise late from None
        except error.ConnectError as problem:
            raise MemberError("connect_failed", f"{where}: {problem}") from None
        transport: Any = protocol.transport
        transport.bufferSize = RECEIVE_BUFFER
        transport.setTcpKeepAlive(True)
        if hasattr(protocol, "wrappedProtocol"):
            # TLS would wait for the peer's farewell, which a hostile one never says.
            protocol.loseConnection = protocol.abortConnection
        connected: IProtocol = protocol
        return connected


class _Lookups(ThreadPool):
    """Threads that nobody waits for: getaddrinfo may take a minute and cannot be stopped."""

    threadFactory = staticmethod(partial(Thread, daemon=True))  # type: ignore[assignment]

    def stop(self) -> None:
        self.threads.clear()
        super().stop()


class _HangUp(Protocol):
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


def hang_up(response: IResponse) -> None:
    """Close the connection of a response whose body nobody wants."""
    response.deliverBody(_HangUp())


@implementer(IAgent, IAgentEndpointFactory)
class GuardedAgent(Service):
    """An HTTP client that dials only what the guard allows and never decodes bodies.

    :param per_host: idle connections kept to one host
    :param connect_timeout: seconds, DNS included
    """

    def __init__(self, reactor: Any, guard: Guard, per_host: int, connect_timeout: float) -> None:
        self._reactor = reactor
        self._guard = guard
        self._timeout = connect_timeout
        self._threads = _Lookups(0, LOOKUP_THREADS, name="dns")
        self._resolver = GAIResolver(reactor, lambda: self._threads)
        self._tls = BrowserLikePolicyForHTTPS()
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = per_host
        self._pool.cachedConnectionTimeout = 30
        self._agent = Agent.usingEndpointFactory(reactor, self, self._pool)

    def startService(self) -> None:
        super().startService()
        self._threads.start()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._threads.stop()
        closing: Deferred[None] = self._pool.closeCachedConnections()
        return closing

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        endpoint: IStreamClientEndpoint = _GuardedEndpoint(
            self._reactor, self._resolver, self._guard, uri, self._timeout
        )
        if uri.scheme == b"https":
            endpoint = wrapClientTLS(self._tls.creatorForNetloc(uri.host, uri.port), endpoint)
        return endpoint

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        headers = headers.copy() if headers else Headers()
        # treq asks for gzip on top of whatever its caller asked for.
        headers.setRawHeaders(b"Accept-Encoding", [b"identity"])
        if not headers.hasHeader(b"User-Agent"):
            headers.setRawHeaders(b"User-Agent", [b"bulkwav"])
        asked: Deferred[IResponse] = self._agent.request(method, uri, headers, bodyProducer)
        return asked.addCallback(_refuse_encoded)


def _refuse_encoded(response: IResponse) -> IResponse:
    encodings = response.headers.getRawHeaders(b"Content-Encoding", [])
    if any(encoding.strip().lower() not in (b"", b"identity") for encoding in encodings):
        hang_up(response)
        named = encodings[0].decode("ascii", "replace")[:40]
        raise MemberError("content_encoded", f"the body is encoded as {named!r}, unasked")
    return response
