"""The HTTP client of all outgoing requests.

A host's name is resolved once. Every address of the answer is checked, and the connection is made
to one of these addresses, so no second look-up can lead elsewhere. Requests ask for no encoding,
and nothing here decodes a body.
"""

from collections.abc import Callable
from typing import Any

from hyperlink import EncodedURL
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import URI, Agent, ProxyAgent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from twisted_bulk.dialing.endpoints import GuardedEndpoint, TLSEndpoint
from twisted_bulk.dialing.guard import Guard
from twisted_bulk.dialing.lookup import look_up
from twisted_bulk.dialing.proxy import Proxy, Tunnel
from twisted_bulk.dialing.resolver import Resolver
from twisted_bulk.dialing.tls import TLSPolicy
from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.pool import MAX_IDLE, Pool

_USUAL = ((b"User-Agent", b"bulkwav"), (b"Accept", b"*/*"))  # headers that each request has


@implementer(IAgent, IAgentEndpointFactory)
class GuardedAgent(Service):
    """An HTTP client that connects only where the guard allows it, and never decodes bodies.

    Look-ups are fair between owners, see :mod:`~twisted_bulk.dialing.resolver`: whoever makes a
    request sets ``resolver.OWNER`` in its context first.

    :param per_host: idle connections that are kept to one host
    :param dns_timeout: seconds to look a name up
    :param connect_timeout: seconds for TCP, and again for TLS
    :param tls: which certificates are trusted; None: those of the system's authorities
    :param proxy: all requests go through it; None: there is none
    :param find: looks names up; it blocks, on a thread
    :param idle: idle connections that are kept in all
    """

    def __init__(
        self,
        reactor: Any,
        guard: Guard,
        per_host: int,
        *,
        dns_timeout: float = 5.0,
        connect_timeout: float = 10.0,
        tls: TLSPolicy | None = None,
        proxy: Proxy | None = None,
        find: Callable[[str], list[str]] = look_up,
        idle: int = MAX_IDLE,
    ) -> None:
        self._reactor = reactor
        self._guard = guard
        self._timeout = connect_timeout
        self._resolver = Resolver(reactor, dns_timeout, find)
        self._tls = tls or TLSPolicy()
        self._pool = Pool(reactor, idle=idle)
        self._pool.maxPersistentPerHost = per_host
        self._proxy = proxy
        self._agents = {True: self._make(self._pool), False: self._make(Pool(reactor, False))}

    def _make(self, pool: Pool) -> tuple[IAgent, IAgent]:
        """Twisted's agents over one pool: for http URLs, and for https URLs."""
        agent = Agent.usingEndpointFactory(self._reactor, self, pool)
        if self._proxy is None:
            return agent, agent
        through = self._endpoint(self._proxy.host, self._proxy.port, None)
        return ProxyAgent(through, self._reactor, pool), agent

    def startService(self) -> None:
        super().startService()
        self._resolver.start()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._resolver.stop()
        closing: Deferred[None] = self._pool.closeCachedConnections()
        return closing

    def _endpoint(self, host: str, port: int, guard: Guard | None) -> GuardedEndpoint:
        return GuardedEndpoint(self._reactor, self._resolver, guard, host, port, self._timeout)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        host = uri.host.decode("ascii").strip("[]")
        if self._proxy is None:
            endpoint: IStreamClientEndpoint = self._endpoint(host, uri.port, self._guard)
        else:
            through = self._endpoint(self._proxy.host, self._proxy.port, None)
            endpoint = Tunnel(self._reactor, through, self._proxy, host, uri.port, self._timeout)
        if uri.scheme == b"https":
            endpoint = TLSEndpoint(self._reactor, self._tls, uri, endpoint, self._timeout)
        return endpoint

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        return self.ask(method, uri, headers, bodyProducer)

    def ask(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
        keep: bool = True,
    ) -> Deferred[IResponse]:
        """Send a request.

        :param keep: False: on a connection of its own, which is closed after it
        """
        headers = headers.copy() if headers else Headers()
        # treq asks for gzip on top of whatever its caller asked for.
        headers.setRawHeaders(b"Accept-Encoding", [b"identity"])
        for name, usual in _USUAL:
            if not headers.hasHeader(name):
                headers.setRawHeaders(name, [usual])
        plain, agent = self._agents[keep]
        if self._proxy is not None:
            parsed = URI.fromBytes(uri)
            try:
                self._guard.check_unresolved(parsed.host.decode("ascii"), parsed.port)
            except MemberError:
                return fail()
            if parsed.scheme == b"http":
                agent = plain
                if self._proxy.authorization:
                    headers.setRawHeaders(b"Proxy-Authorization", [self._proxy.authorization])
        asked: Deferred[IResponse] = agent.request(method, uri, headers, bodyProducer)
        return asked


@implementer(IAgent)
class UnkeptAgent:
    """The agent for requests that have a connection of their own each, as a kept one may be closed.

    :param agent: shares its rules and limits
    """

    def __init__(self, agent: GuardedAgent) -> None:
        self._agent = agent

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        return self._agent.ask(method, uri, headers, bodyProducer, keep=False)


def plain(url: str) -> EncodedURL:
    """``url`` in a form that treq sends without a change.

    :param url: in ASCII
    """
    return _Plain(url)


class _Plain(EncodedURL):
    """A URL that is not parsed.

    hyperlink would parse it and encode its host with IDNA. That takes a tenth of a small request's
    time, and refuses IPv6 addresses.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def to_uri(self) -> "_Plain":
        return self

    def to_text(self, with_password: bool = False) -> str:
        return self._text
