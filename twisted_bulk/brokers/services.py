"""The service for each kind of broker, by its URL."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.task import deferLater

from twisted_bulk.brokers.sqlite import MEMORY, SqliteStore
from twisted_bulk.brokers.store import DEADLINE, Argument, Capabilities, Script, Store
from twisted_bulk.errors import ConfigError, QueueUnavailable


class StoreService(Protocol):
    """A service that connects to a broker, or starts one."""

    running: int

    @property
    def ports(self) -> Collection[int]:
        """The TCP ports of the broker's servers that are known so far."""

    @property
    def store(self) -> Store:
        """The store; it can be used while the service runs."""

    def startService(self) -> None:
        """Start the broker, or begin to connect to it."""

    def stopService(self) -> Any:
        """Disconnect; stop a broker that was started here."""


class LazyStore:
    """A store whose service starts with the first call, and stops with the reactor.

    Its methods are those of :class:`~twisted_bulk.brokers.store.Store`.
    """

    def __init__(self, reactor: Any, service: StoreService) -> None:
        self._reactor = reactor
        self._service = service
        self._leaving: list[Callable[[], Deferred[None]]] = []
        self._closed = False

    @property
    def where(self) -> str:
        """See :class:`~twisted_bulk.brokers.store.Store`."""
        return self._service.store.where

    @property
    def capabilities(self) -> Capabilities:
        """See :class:`~twisted_bulk.brokers.store.Store`."""
        return self._service.store.capabilities

    def _started(self) -> Store:
        if self._closed:
            raise QueueUnavailable(f"{self.where} has been closed")
        if not self._service.running:
            self._service.startService()
            self._reactor.addSystemEventTrigger("before", "shutdown", self.close)
        return self._service.store

    async def run(
        self, script: Script, key: str, *arguments: Argument, deadline: float = DEADLINE
    ) -> Any:
        """See :class:`~twisted_bulk.brokers.store.Store`."""
        return await self._started().run(script, key, *arguments, deadline=deadline)

    async def command(self, *arguments: Argument, deadline: float = DEADLINE) -> Any:
        """See :class:`~twisted_bulk.brokers.store.Store`."""
        return await self._started().command(*arguments, deadline=deadline)

    async def pause(self, seconds: float) -> None:
        """See :class:`~twisted_bulk.brokers.store.Store`."""
        await deferLater(self._reactor, seconds)

    def listen(self, channel: str, heard: Callable[[], object]) -> None:
        """See :class:`~twisted_bulk.brokers.store.Store`."""
        self._started().listen(channel, heard)

    def attend(self, leave: Callable[[], Deferred[None]]) -> None:
        """See :class:`~twisted_bulk.brokers.store.Store`; ``leave`` is called before it closes."""
        self._leaving.append(leave)

    def close(self) -> Deferred[None]:
        """Call all that :meth:`attend` was given, wait for them, and stop the service."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        leaving, self._leaving = self._leaving, []
        await DeferredList([leave() for leave in leaving])
        if self._service.running:
            self._closed = True
            await maybeDeferred(self._service.stopService)


def store_service(reactor: Any, url: str, folder: Path, memory: int = 0) -> StoreService:
    """The service for the broker of a URL; it does not run yet.

    :param url: see :func:`open_queue`; ``embedded`` has no folder in it
    :param folder: of the files of an embedded server
    :param memory: bytes that an embedded server may use for data; 0: no limit
    :raises ConfigError: there is no broker for the URL
    """
    # Imported here: txredisapi installs the global reactor, and a SyncPublisher needs none.
    from twisted_bulk.brokers.embedded import Embedded
    from twisted_bulk.brokers.redis import Connection, connection

    parts = urlsplit(url)
    if url == "embedded":
        return Embedded(reactor, folder, memory)
    if url == "memory:":
        return SqliteStore(reactor, MEMORY)
    if parts.scheme == "sqlite":
        return SqliteStore(reactor, str(Path(unquote(parts.path)).absolute()))
    if parts.scheme in ("redis", "rediss", "unix", "sentinel"):
        return Connection(reactor, connection(reactor, url))
    raise ConfigError(f"broker: {parts.scheme or url}: there is no such broker")
