"""The one HTTP client that everything outgoing uses.

A host's name is resolved once; every address of the answer is checked, and the
connection is made to one that was. It asks for no encoding and refuses an encoded body.
"""

from collections.abc import Callable, Sequence
from typing import Any

from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import VerificationError
from twisted.application.service import Service
from twisted.internet import error
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTime,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import platformTrust
from twisted.python.failure import Failure
from twisted.web._newclient import BODY, DONE
from twisted.web._newclient import HTTP11ClientProtocol as ClientProtocol
from twisted.web.client import (
    URI,
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    ProxyAgent,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from twisted_bulk.errors import MemberError
from twisted_bulk.guard import Guard
from twisted_bulk.proxy import Proxy, Tunnel
from twisted_bulk.resolver import Resolver, look_up

RECEIVE_BUFFER = 256 * 1024  # Twisted's 64 KiB costs two to three times the CPU a byte
MAX_HEADERS = 64 * 1024  # bytes of one response's headers
IDLE_FOR = 15  # seconds that a connection is kept for the next request
IDLE = 256  # such connections in all


@implementer(IHandshakeListener)
class _Connection(ClientProtocol):
    """One connection: with a bound on headers, and the news when TLS stands."""

    def __init__(self, quiescentCallback: Callable[[Any], None]) -> None:
        super().__init__(quiescentCallback)
        self.secured: Deferred[None] = Deferred()
        self._heads = 0

    def handshakeCompleted(self) -> None:
        self.secured.callback(None)

    def request(self, request: Any) -> Deferred[IResponse]:
        self._heads = 0
        responding = super().request(request)
        if self._parser is not None:
            vars(self._parser)["lineLengthExceeded"] = lambda line: self._refuse()
        return responding

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self._parser is not None and self._parser.state not in (BODY, DONE):
            self._heads += len(data)
            if self._heads > MAX_HEADERS:
                self._refuse()

    def _refuse(self) -> None:
        what = f"more than {MAX_HEADERS} bytes of headers, or an endless one"
        self._giveUp(Failure(MemberError("headers_too_large", what)))

    def _finishResponse(self, rest: bytes) -> None:
        if rest and self._parser is not None:
            self._parser.response.overlong = True
        super()._finishResponse(rest)

    def connectionLost(self, reason: Failure = Failure(error.ConnectionDone())) -> None:  # noqa: B008
        if not self.secured.called:
            self.secured.errback(reason)
        self.secured.addErrback(lambda _: None)
        super().connectionLost(reason)


class _Connections(Factory):
    noisy = False

    def __init__(self, quiescentCallback: Callable[[Any], None], metadata: str) -> None:
        self._quiescentCallback = quiescentCallback

    def buildProtocol(self, addr: IAddress | None) -> _Connection:
        return _Connection(self._quiescentCallback)


class _Pool(HTTPConnectionPool):
    """Idle connections, at most :data:`IDLE` whatever the number of hosts."""

    _factory = _Connections  # type: ignore[assignment]
    cachedConnectionTimeout = IDLE_FOR

    def _putConnection(self, key: Any, connection: Any) -> None:
        connection.key = key
        super()._putConnection(key, connection)
        if len(self._timeouts) > IDLE:
            oldest = next(iter(self._timeouts))
            self._timeouts[oldest].cancel()
            self._removeConnection(oldest.key, oldest)

    def _removeConnection(self, key: Any, connection: Any) -> None:
        super()._removeConnection(key, connection)
        if not self._connections[key]:
            del self._connections[key]


@implementer(IReactorPluggableNameResolver, IHostnameResolver)
class _Answered:
    """The reactor for one connection: it knows one name, with its addresses."""

    def __init__(self, reactor: Any, addresses: Sequence[str]) -> None:
        self._reactor = reactor
        self._addresses = addresses

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
        receiver: Any = resolutionReceiver
        receiver.resolutionBegan(None)
        for address in self._addresses:
            kind = IPv6Address if ":" in address else IPv4Address
            receiver.addressResolved(kind("TCP", address, portNumber))
        receiver.resolutionComplete()
        return receiver  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


@implementer(IStreamClientEndpoint)
class Dial:
    """A TCP connection to a host, if its addresses may be dialled.

    Fails with a :class:`MemberError` that says what went wrong.

    :param timeout: seconds to connect, once the name is resolved
    """

    def __init__(
        self, reactor: Any, resolver: Any, guard: Guard | None, host: str, port: int, timeout: float
    ) -> None:
        self._reactor = reactor
        self._clock: IReactorTime = reactor
        self._resolver = resolver
        self._guard = guard
        self._host = host
        self._port = port
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> IProtocol:
        where = f"{self._host}:{self._port}"
        if self._guard is not None:
            self._guard.check_port(self._port)
        addresses = await self._resolver.resolve(self._host)
        if self._guard is not None:
            self._guard.check(self._host, addresses, self._port)
        for each in (factory, getattr(factory, "wrappedFactory", factory)):
            each.noisy = False  # a line in the log for each connection says nothing
        connecting = self._endpoint(addresses).connect(factory)
        late = MemberError("connect_timeout", f"{where} took too long to connect")
        connecting.addTimeout(self._timeout, self._clock, lambda *_: Failure(late))
        try:
            protocol: Any = await connecting
        except error.ConnectingCancelledError as stopped:
            raise CancelledError() from stopped
        except error.TimeoutError:
            raise late from None
        except (error.ConnectError, error.DNSLookupError) as problem:
            raise MemberError("connect_failed", f"{where}: {problem}") from None
        transport: Any = protocol.transport
        transport.bufferSize = RECEIVE_BUFFER
        transport.setTcpKeepAlive(True)
        return protocol  # type: ignore[no-any-return]

    def _endpoint(self, addresses: Sequence[str]) -> IStreamClientEndpoint:
        if len(addresses) > 1:
            known = _Answered(self._reactor, addresses)
            return HostnameEndpoint(known, self._host, self._port, timeout=self._timeout)
        (address,) = addresses
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        return kind(self._reactor, address, self._port, self._timeout)


@implementer(IStreamClientEndpoint)
class _Secure:
    """TLS over another endpoint; connected once the certificate was verified."""

    def __init__(
        self,
        clock: IReactorTime,
        policy: Any,
        uri: URI,
        endpoint: IStreamClientEndpoint,
        timeout: float,
    ) -> None:
        self._clock = clock
        self._where = f"{uri.host.decode('ascii')}:{uri.port}"
        self._endpoint = wrapClientTLS(policy.creatorForNetloc(uri.host, uri.port), endpoint)
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        protocol: Any = await self._endpoint.connect(factory)
        transport = protocol.transport
        # TLS would wait for the peer's farewell, which a hostile one never says.
        transport.loseConnection = transport.abortConnection
        late = MemberError("tls_timeout", f"{self._where} took too long to set up TLS")
        protocol.secured.addTimeout(self._timeout, self._clock, lambda *_: Failure(late))
        try:
            await protocol.secured
        except (error.ConnectionClosed, SSL.Error, VerificationError):
            raise MemberError("tls_failed", "no TLS, or its certificate is not valid") from None
        except BaseException:
            transport.abortConnection()
            raise
        return protocol  # type: ignore[no-any-return]


@implementer(IOpenSSLTrustRoot)
class _Trust:
    """The system's certificate authorities, and more."""

    def __init__(self, more: Sequence[X509]) -> None:
        self._more = more

    def _addCACertsToContext(self, context: Any) -> None:
        platformTrust()._addCACertsToContext(context)
        store = context.get_cert_store()
        for certificate in self._more:
            store.add_cert(certificate)


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
    :param dns_timeout: seconds; ``connect_timeout``: seconds for TCP, and again for TLS
    :param authorities: certificates trusted beside the system's
    :param proxy: what everything goes through
    :param find: looks names up; blocks
    """

    def __init__(
        self,
        reactor: Any,
        guard: Guard,
        per_host: int,
        *,
        dns_timeout: float = 5.0,
        connect_timeout: float = 10.0,
        authorities: Sequence[X509] = (),
        proxy: Proxy | None = None,
        find: Callable[[str], list[str]] = look_up,
    ) -> None:
        self._reactor = reactor
        self._guard = guard
        self._timeout = connect_timeout
        self._resolver = Resolver(reactor, dns_timeout, find)
        self._tls = BrowserLikePolicyForHTTPS(_Trust(authorities) if authorities else None)
        self._pool = _Pool(reactor)
        self._pool.maxPersistentPerHost = per_host
        self._proxy = proxy
        self._agent = Agent.usingEndpointFactory(reactor, self, self._pool)
        if proxy is not None:
            self._plain = ProxyAgent(self._dial(proxy.host, proxy.port, None), reactor, self._pool)

    def startService(self) -> None:
        super().startService()
        self._resolver.start()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._resolver.stop()
        closing: Deferred[None] = self._pool.closeCachedConnections()
        return closing

    def _dial(self, host: str, port: int, guard: Guard | None) -> Dial:
        return Dial(self._reactor, self._resolver, guard, host, port, self._timeout)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        host = uri.host.decode("ascii").strip("[]")
        if self._proxy is None:
            endpoint: IStreamClientEndpoint = self._dial(host, uri.port, self._guard)
        else:
            through = self._dial(self._proxy.host, self._proxy.port, None)
            endpoint = Tunnel(self._reactor, through, self._proxy, host, uri.port, self._timeout)
        if uri.scheme == b"https":
            endpoint = _Secure(self._reactor, self._tls, uri, endpoint, self._timeout)
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
        agent: IAgent = self._agent
        if self._proxy is not None:
            parsed = URI.fromBytes(uri)
            try:
                self._guard.check_unresolved(parsed.host.decode("ascii"), parsed.port)
            except MemberError:
                return fail()
            if parsed.scheme == b"http":
                agent = self._plain
                if self._proxy.authorization:
                    headers.setRawHeaders(b"Proxy-Authorization", [self._proxy.authorization])
        asked: Deferred[IResponse] = agent.request(method, uri, headers, bodyProducer)
        return asked.addCallback(_refuse_encoded)


def _refuse_encoded(response: IResponse) -> IResponse:
    encodings = response.headers.getRawHeaders(b"Content-Encoding", [])
    if any(encoding.strip().lower() not in (b"", b"identity") for encoding in encodings):
        hang_up(response)
        named = encodings[0].decode("ascii", "replace")[:40]
        raise MemberError("content_encoded", f"the body is encoded as {named!r}, unasked")
    return response
