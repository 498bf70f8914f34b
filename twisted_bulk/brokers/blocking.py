"""Stores that block their caller's thread, for programs without a reactor."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import valkey
from twisted.internet.defer import Deferred
from valkey.exceptions import (
    AuthenticationError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    ValkeyError,
)
from valkey.sentinel import Sentinel

from twisted_bulk.brokers.redis_errors import trouble_of
from twisted_bulk.brokers.redis_url import Address, parse_redis_url
from twisted_bulk.brokers.server_socket import socket_path
from twisted_bulk.brokers.sqlite import Database, errors_of, word
from twisted_bulk.brokers.store import DEADLINE, Argument, Capabilities, Script
from twisted_bulk.errors import ConfigError, QueueFull, QueueUnavailable

PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # seconds before a call is repeated
SILENCE_SECONDS = 3.0  # of a server; then its connection is given up
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
            except OutOfMemoryError:
                raise QueueFull(f"{self.where} has no memory left") from None
            except AuthenticationError as error:  # the next try would be refused, too
                raise QueueUnavailable(f"{self.where}: {error}") from None
            except ResponseError as error:
                trouble = trouble_of(str(error))
                if trouble == "OOM":
                    raise QueueFull(f"{self.where} has no memory left") from None
                is_replica = isinstance(error, ReadOnlyError)
                if not trouble and not is_replica:
                    raise
                if is_replica or trouble in ("READONLY", "NOREPLICAS"):
                    # It is not the master any more. Other threads' connections are left alone.
                    self._client.connection_pool.disconnect(inuse_connections=False)
                problem = f"{self.where}: {error}"
            except (ValkeyError, OSError) as error:  # also of Sentinels that have no master now
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
    silence = min(timeout, SILENCE_SECONDS)  # then the call is made again, on another connection
    user, password = ("", "", *address.credentials)[-2:]
    options: dict[str, Any] = {
        "db": address.database, "username": user or None, "password": password or None,
        "socket_timeout": silence, "socket_connect_timeout": silence,
    }  # fmt: skip
    if address.path:
        return valkey.Valkey(unix_socket_path=address.path, **options)
    tls: dict[str, Any] = {"ssl": True, "ssl_ca_certs": address.ca or None} if address.tls else {}
    if tls:  # valkey-py does not ask for it by itself
        tls["ssl_check_hostname"] = True
    if not address.master:
        ((host, port),) = address.hosts
        return valkey.Valkey(host=host, port=port, **options, **tls)
    user, password = ("", "", *address.sentinel_credentials)[-2:]
    about = {"username": user or None, "password": password or None, "socket_timeout": 2.0, **tls}
    sentinel = Sentinel(list(address.hosts), sentinel_kwargs=about, **tls)
    return sentinel.master_for(address.master, **options)


class BlockingSqlite(BlockingStore):
    """A database file. It is opened by the first call."""

    def __init__(self, path: str) -> None:
        self.where = f"sqlite file {path}"
        self._path = path
        self._database: Database | None = None
        self._owner = 0
        self._lock = threading.Lock()

    async def run(
        self, script: Script, key: str, *arguments: Argument, deadline: float = DEADLINE
    ) -> Any:
        """Run ``script`` with ``key`` as its only key."""
        words = [word(one) for one in arguments]
        return self._do(lambda database: database.run(script, key.encode(), words))

    async def command(self, *arguments: Argument, deadline: float = DEADLINE) -> Any:
        """Run one Redis command."""
        words = [word(one) for one in arguments]
        return self._do(lambda database: database.command(words))

    def _do(self, action: Callable[[Database], Any]) -> Any:
        with self._lock, errors_of(self.where):
            if self._database is None or self._owner != os.getpid():
                Path(self._path).parent.mkdir(parents=True, exist_ok=True)
                # A connection must not be taken along into a child process.
                self._database, self._owner = Database(self._path, time.time), os.getpid()
            return action(self._database)

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        with self._lock:
            if self._database is not None:
                self._database.close()
            self._database = None


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
