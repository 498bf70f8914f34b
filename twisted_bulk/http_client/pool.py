"""Connections that are kept for further requests, with bounds on their number."""

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.web.client import HTTPConnectionPool

from twisted_bulk.http_client.connection import Connection

IDLE_SECONDS = 15  # that a connection is kept for another request; then it is closed
MAX_IDLE = 256  # kept connections in all; beyond it the oldest one is closed
DISTRUST_SECONDS = 60.0  # for which no connection is kept to a host that has closed a kept one


class _ConnectionFactory(Factory):
    noisy = False

    def __init__(
        self, quiescent: Callable[[Any], None], stale: Callable[[], object] = lambda: None
    ) -> None:
        self._quiescent = quiescent
        self._stale = stale

    def buildProtocol(self, addr: IAddress | None) -> Connection:
        return Connection(self._quiescent, self._stale)


class Pool(HTTPConnectionPool):
    """Idle connections, at most ``idle`` whatever the number of hosts.

    :param persistent: False: each request has a connection of its own
    :param idle: idle connections that are kept in all; beyond it the oldest one is closed
    """

    cachedConnectionTimeout = IDLE_SECONDS
    retryAutomatically = False  # Twisted would send a request twice, and tell nobody

    def __init__(self, reactor: Any, persistent: bool = True, idle: int = MAX_IDLE) -> None:
        super().__init__(reactor, persistent)
        self._idle = idle
        self._distrusted: dict[Any, float] = {}

    def _newConnection(self, key: Any, endpoint: Any) -> Any:
        return endpoint.connect(
            _ConnectionFactory(
                lambda connection: self._putConnection(key, connection),
                lambda: self._distrust(key),
            )
        )

    def _distrust(self, key: Any) -> None:
        """A host has closed a kept connection: close its other ones, too."""
        now = self._reactor.seconds()
        self._distrusted = {each: end for each, end in self._distrusted.items() if end > now}
        self._distrusted[key] = now + DISTRUST_SECONDS
        for connection in list(self._connections.get(key, ())):
            self._timeouts[connection].cancel()
            self._removeConnection(key, connection)

    def _putConnection(self, key: Any, connection: Any) -> None:
        if self._distrusted.get(key, 0.0) > self._reactor.seconds():
            connection.transport.loseConnection()
            return
        connection.key = key
        super()._putConnection(key, connection)
        if len(self._timeouts) > self._idle:
            oldest = next(iter(self._timeouts))
            self._timeouts[oldest].cancel()
            self._removeConnection(oldest.key, oldest)

    def getConnection(self, key: Any, endpoint: Any) -> Any:
        got = super().getConnection(key, endpoint)
        if not self._connections.get(key, True):
            del self._connections[key]
        return got

    def _removeConnection(self, key: Any, connection: Any) -> None:
        super()._removeConnection(key, connection)
        if not self._connections[key]:
            del self._connections[key]
