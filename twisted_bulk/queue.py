"""The job queue for users of the library: how one is opened by its URL.

Rooms: jobs/, brokers/, consumer/.
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred

from twisted_bulk.brokers.embedded import Embedded
from twisted_bulk.brokers.redis import Connection, connection
from twisted_bulk.brokers.sqlite import MEMORY, SqliteStore
from twisted_bulk.brokers.store import DEADLINE, Argument, Capabilities, Script, Store
from twisted_bulk.errors import ConfigError, QueueUnavailable
from twisted_bulk.jobs.protocol import JobQueue
from twisted_bulk.jobs.scripted import ScriptedQueue

__all__ = ["JobQueue", "StoreService", "open_queue", "store_service"]


class StoreService(Protocol):
    """A service that has a store."""

    running: int

    @property
    def ports(self) -> Collection[int]:
        """TCP ports of its servers, as far as they are known by now."""

    @property
    def store(self) -> Store:
        """Usable while the service runs."""

    def startService(self) -> None:
        """Begin to connect, or start the server."""

    def stopService(self) -> Any:
        """Disconnect; an embedded server ends."""


class LazyStore:
    """A store that starts with its first use and ends with the reactor."""

    def __init__(self, reactor: Any, store_service: StoreService) -> None:
        self._reactor = reactor
        self._keeper = store_service
        self._leaving: list[Callable[[], Deferred[None]]] = []
        self._closed = False

    @property
    def where(self) -> str:
        """As the store says."""
        return self._keeper.store.where

    @property
    def capabilities(self) -> Capabilities:
        """As the store says."""
        return self._keeper.store.capabilities

    def _started(self) -> Store:
        if self._closed:
            raise QueueUnavailable(f"{self.where} has been closed")
        if not self._keeper.running:
            self._keeper.startService()
            self._reactor.addSystemEventTrigger("before", "shutdown", self.close)
        return self._keeper.store

    async def run(
        self, script: Script, key: str, *arguments: Argument, deadline: float = DEADLINE
    ) -> Any:
        """Run ``script`` with ``key`` as its only key."""
        return await self._started().run(script, key, *arguments, deadline=deadline)

    async def command(self, *arguments: Argument, deadline: float = DEADLINE) -> Any:
        """Run one Redis command."""
        return await self._started().command(*arguments, deadline=deadline)

    def listen(self, channel: str, heard: Callable[[], object]) -> None:
        """Call ``heard`` after messages on ``channel``."""
        self._started().listen(channel, heard)

    def attend(self, leave: Callable[[], Deferred[None]]) -> None:
        """Call ``leave``, and wait for it, before the store is closed."""
        self._leaving.append(leave)

    def close(self) -> Deferred[None]:
        """Let those who use it leave, then disconnect; an embedded server ends."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        leaving, self._leaving = self._leaving, []
        await DeferredList([leave() for leave in leaving])
        if self._keeper.running:
            self._closed = True
            await maybeDeferred(self._keeper.stopService)


def store_service(reactor: Any, url: str, folder: Path, memory: int = 0) -> StoreService:
    """A service whose ``store`` is the one that ``url`` names.

    :param folder: where an embedded server keeps its files
    :param memory: bytes that it may use for data; 0: any number
    :raises ConfigError: there is no such broker
    """
    parts = urlsplit(url)
    if url == "embedded":
        return Embedded(reactor, folder, memory)
    if url == "memory:":
        return SqliteStore(reactor, MEMORY)
    if parts.scheme == "sqlite":
        return SqliteStore(reactor, str(Path(unquote(parts.path)).absolute()))
    if parts.scheme in ("redis", "rediss", "unix", "sentinel"):
        return Connection(connection(reactor, url))
    raise ConfigError(f"broker: {parts.scheme or url}: there is no such broker")


def open_queue(
    reactor: Any, url: str, name: str = "default", *, cap: int = 500_000
) -> ScriptedQueue:
    """The queue ``name`` at ``url``; nothing is connected or started before its first use.

    :param url: ``embedded:FOLDER`` (a server of our own), ``redis://...``, ``rediss://...``,
        ``unix:///path``, ``sentinel://...``, ``sqlite:///path`` or ``memory:``
    :raises ConfigError: there is no such broker, or it cannot run here
    """
    folder = Path("bulkwav-data/redis")
    if url.startswith("embedded:"):
        url, folder = "embedded", Path(url.removeprefix("embedded:")).absolute()
    return ScriptedQueue(LazyStore(reactor, store_service(reactor, url, folder)), name, cap)
