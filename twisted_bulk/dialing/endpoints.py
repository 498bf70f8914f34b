"""Connects to an address that was checked, and sets up TLS over the connection."""

from collections.abc import Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
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
from twisted.python.failure import Failure
from twisted.web.client import URI
from zope.interface import implementer

from twisted_bulk.dialing.guard import Guard
from twisted_bulk.dialing.tls import TLSPolicy
from twisted_bulk.errors import MemberError
from twisted_bulk.system.net import NamedEndpoint

#: Bytes that are read from a socket at once. Twisted's 64 KiB takes twice the CPU time or more.
RECEIVE_BUFFER = 512 * 1024


@implementer(IReactorPluggableNameResolver, IHostnameResolver)
class FixedAddresses:
    """A reactor that resolves every name to the given addresses.

    Twisted's endpoint calls :meth:`resolveHostName` and tries the addresses in parallel.
    """

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
class GuardedEndpoint:
    """An endpoint for one host; connects only where the guard allows it.

    ``connect`` fails with a :class:`MemberError`.

    :param guard: None: every address is allowed
    :param timeout: seconds to connect, after the name was resolved
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
            each.noisy = False  # no line in the log for each connection
        connecting = self._endpoint(addresses).connect(factory)
        late = MemberError("connect_timeout", f"{where} took too long to connect")
        connecting.addTimeout(self._timeout, self._clock, lambda *_: Failure(late))
        try:
            protocol: Any = await connecting
        except error.ConnectingCancelledError as stopped:
            raise CancelledError() from stopped
        except error.TimeoutError:
            raise late from None
        except (error.ConnectError, error.DNSLookupError) as failed:
            raise MemberError("connect_failed", f"{where}: {failed}") from None
        transport: Any = protocol.transport
        transport.bufferSize = RECEIVE_BUFFER
        transport.setTcpKeepAlive(True)
        return protocol  # type: ignore[no-any-return]

    def _endpoint(self, addresses: Sequence[str]) -> IStreamClientEndpoint:
        if len(addresses) > 1:
            known = FixedAddresses(self._reactor, addresses)
            return NamedEndpoint(known, self._host, self._port, timeout=self._timeout)
        (address,) = addresses
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        return kind(self._reactor, address, self._port, self._timeout)


@implementer(IStreamClientEndpoint)
class TLSEndpoint:
    """TLS over another endpoint. It connects when the certificate is trusted.

    :param timeout: seconds for TLS, after the connection was made
    """

    def __init__(
        self,
        clock: IReactorTime,
        policy: TLSPolicy,
        uri: URI,
        endpoint: IStreamClientEndpoint,
        timeout: float,
    ) -> None:
        self._clock = clock
        host = uri.host.decode("ascii").strip("[]")
        self._where = f"{host}:{uri.port}"
        self._creator = policy.creator(host, uri.port)
        self._endpoint = wrapClientTLS(self._creator, endpoint)
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        protocol: Any = await self._endpoint.connect(factory)
        transport = protocol.transport
        _note_closing(transport)
        # Twisted would wait for the peer to close TLS, and a hostile peer never does.
        transport.loseConnection = transport.abortConnection
        late = MemberError("tls_timeout", f"{self._where} took too long to set up TLS")
        protocol.secured.addTimeout(self._timeout, self._clock, lambda *_: Failure(late))
        try:
            await protocol.secured
            if not self._creator.is_trusted:
                raise self._creator.refusal()
        except SSL.Error:
            raise self._creator.refusal() from None
        except error.ConnectionClosed:
            detail = f"{self._where} closed the connection while TLS was set up"
            raise MemberError("connection_lost", detail) from None
        except BaseException:
            transport.abortConnection()
            raise
        return protocol  # type: ignore[no-any-return]


def _note_closing(transport: Any) -> None:
    """Set ``transport.peer_closed`` when the peer closes the connection without TLS's own end.

    Twisted has one error for that and for a connection that breaks.
    """
    lose = transport.connectionLost

    def lost(reason: Failure) -> None:
        transport.peer_closed = reason.check(error.ConnectionDone) is not None
        lose(reason)

    transport.connectionLost = lost
