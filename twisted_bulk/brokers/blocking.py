"""Stores that block their caller's thread, for programs without a reactor."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import valkey
from twisted.internet.defer import Deferred
from valkey.exceptions import ConnectionError as ConnectionLost
from valkey.exceptions import NoScriptError, ResponseError, ValkeyError
from valkey.exceptions import TimeoutError as AnswerLate
from valkey.sentinel import Sentinel

from twisted_bulk.brokers.redis_errors import trouble_of
from twisted_bulk.brokers.redis_url import Address, parse_redis_url
from twisted_bulk.brokers.server_socket import socket_path
from twisted_bulk.brokers.sqlite import Database, word
from twisted_bulk.brokers.store import DEADLINE, Argument, Capabilities, Script
from twisted_bulk.errors import ConfigError, QueueFull, QueueUnavailable

PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # seconds before a call is repeated
REPLICATION_SECONDS = 1.0  # that a write may take to its replicas; then it is repeated


class BlockingStore:
    """What both kinds have in common. See :class:`~twisted_bulk.brokers.store.Store`."""

    capabilities = Capabilities(processes=True, hosts=True, durable=True)

    async def pause(self, seconds: float) -> None:
        """Block for so long."""
        time.sleep(seconds)

    def listen(self, channel: str, heard: Callable[[], object]) -> None:
        """Nothing: who blocks cannot listen."""

    def attend(self, leave: Callable[[], Deferred[None]]) -> None:
        """Nothing: only :meth:`close` closes it."""

    def close(self) -> None:
        """Close the connections."""


class BlockingRedis(BlockingStore):
    """A Redis or Valkey, or the master that Sentinels name.

    A call whose answer was lost is made again until its deadline: the queue's steps bear that.

    :param timeout: seconds for one call, with its repetitions
    :param where: how errors name it, without secrets
    """

    def __init__(self, address: Address, timeout: float = DEADLINE, where: str = "") -> None:
        self.where = where or f"redis at {address.where}"
        self._timeout = timeout
        self._replicas = address.replicas
        self._client = _client(address, timeout)
        self._client.response_callbacks.clear()  # replies are wanted as they are

    async def run(
        self, script: Script, key: str, *arguments: Argument, deadline: float = DEADLINE
    ) -> Any:
        """Run ``script`` with ``key`` as its only key."""
        words = (1, key, *arguments)
        replicas = self._replicas if script.promises else 0

        def run() -> Any:
            try:
                return self._send(replicas, "EVALSHA", script.sha, *words)
            except NoScriptError:
                return self._send(replicas, "EVAL", script.source, *words)

        return self._insist(run, deadline)

    async def command(self, *arguments: Argument, deadline: float = DEADLINE) -> Any:
        """Run one Redis command."""
        return self._insist(lambda: self._send(0, *arguments), deadline)

    def _send(self, replicas: int, *words: Argument) -> Any:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.execute_command(*words)
        if replicas:  # WAIT counts what its own connection has written
            pipeline.execute_command("WAIT", replicas, round(REPLICATION_SECONDS * 1000))
        reply, *reached = pipeline.execute(raise_on_error=False)
        if isinstance(reply, Exception):
            raise reply
        if replicas and (isinstance(reached[0], Exception) or reached[0] < replicas):
            raise ResponseError(f"NOREPLICAS {reached[0]} of {replicas} replicas have it")
        return reply

    def _insist(self, send: Callable[[], Any], deadline: float) -> Any:
        end, tries = time.monotonic() + min(deadline, self._timeout), 0
        while True:
            try:
                return send()
            except (ConnectionLost, AnswerLate, OSError) as error:
                problem = f"{self.where}: {error}"
            except ResponseError as error:
                trouble = trouble_of(str(error))
                if trouble == "OOM":
                    raise QueueFull(f"{self.where} has no memory left") from None
                if not trouble:
                    raise
                problem = f"{self.where}: {error}"
                self._client.connection_pool.disconnect()  # it may not be the master any more
            except ValkeyError as error:  # of the Sentinels: there is no master now
                problem = f"{self.where}: {error}"
            pause = PAUSES[min(tries, len(PAUSES) - 1)]
            if time.monotonic() + pause > end:
                raise QueueUnavailable(problem)
            tries += 1
            time.sleep(pause)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _client(address: Address, timeout: float) -> Any:
    user, password = ("", "", *address.credentials)[-2:]
    options: dict[str, Any] = {
        "db": address.database, "username": user or None, "password": password or None,
        "socket_timeout": timeout, "socket_connect_timeout": timeout,
    }  # fmt: skip
    if address.path:
        return valkey.Valkey(unix_socket_path=address.path, **options)
    tls: dict[str, Any] = {"ssl": True, "ssl_ca_certs": address.ca or None} if address.tls else {}
    if not address.master:
        ((host, port),) = address.hosts
        return valkey.Valkey(host=host, port=port, **options, **tls)
    user, password = ("", "", *address.sentinel_credentials)[-2:]
    about = {"username": user or None, "password": password or None, "socket_timeout": 2.0, **tls}
    sentinel = Sentinel(list(address.hosts), sentinel_kwargs=about, **tls)
    return sentinel.master_for(address.master, **options)


class BlockingSqlite(BlockingStore):
    """A database file."""

    def __init__(self, path: str) -> None:
        self.where = f"sqlite file {path}"
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._database = Database(path, time.time)
        self._lock = threading.Lock()

    async def run(
        self, script: Script, key: str, *arguments: Argument, deadline: float = DEADLINE
    ) -> Any:
        """Run ``script`` with ``key`` as its only key."""
        with self._lock:
            return self._database.run(script, key.encode(), [word(one) for one in arguments])

    async def command(self, *arguments: Argument, deadline: float = DEADLINE) -> Any:
        """Run one Redis command."""
        with self._lock:
            return self._database.command([word(one) for one in arguments])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()


def blocking_store(url: str, timeout: float = DEADLINE) -> BlockingStore:
    """The store of a URL, see :func:`twisted_bulk.queue.open_queue`.

    :raises ConfigError: there is none for the URL that several processes can share
    """
    parts = urlsplit(url)
    if url.startswith("embedded:"):  # the server is started by a consumer
        folder = Path(url.removeprefix("embedded:")).absolute()
        where = f"the server of {folder}, which a worker starts"
        return BlockingRedis(Address(path=str(socket_path(folder))), timeout, where)
    if parts.scheme == "sqlite":
        return BlockingSqlite(str(Path(unquote(parts.path)).absolute()))
    try:
        return BlockingRedis(parse_redis_url(url), timeout)
    except ValueError as error:
        raise ConfigError(f"{parts.scheme or url}: {error}") from None
