"""The connection to Redis or Valkey: txredisapi with its traps taken out.

What is avoided, and why: AUTH and SELECT by txredisapi stop the reconnecting for
ever after one bad handshake, so our protocol shakes hands itself; a command waits
without limit while the server is away, so each has a deadline; numbers and text
are never converted, so replies are bytes and integers only; no MULTI, no pipeline
and no blocking command, which each take a connection out of the pool.
"""

import hashlib
import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import txredisapi
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeadlinePassed
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger

from twisted_bulk.errors import QueueFull, QueueUnavailable

log = Logger()

Argument = str | bytes | int
REPLY_TIMEOUT = 5.0  # a silent server's connections are given up after so long
DEADLINE = 10.0
OLDEST = (6, 2)
# What may pass. Redis 6.2 puts a script's error behind words of its own.
_TROUBLE = re.compile(r"(?:^|-)(OOM|LOADING|BUSY|READONLY|MASTERDOWN|MISCONF|NOREPLICAS)\b")


class Script:
    """A Lua script, sent by its digest and in full only where the server lacks it."""

    def __init__(self, source: str) -> None:
        self.source = source.encode()
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()


class _Protocol(txredisapi.RedisProtocol):
    """One connection, usable once the server took our name and answers."""

    factory: "_Factory"

    def connectionMade(self) -> None:
        if hasattr(self.transport, "setTcpKeepAlive"):
            self.transport.setTcpKeepAlive(True)
        # Once per connection; a hanging handshake ends with the reply time-out.
        Deferred.fromCoroutine(self._handshake())

    async def _handshake(self) -> None:
        try:
            if self.factory.credentials:
                await self.execute_command("AUTH", *self.factory.credentials)
            if self.factory.database:
                await self.execute_command("SELECT", self.factory.database)
            await self.execute_command("PING")  # an error while the server is loading
        except CancelledError:
            raise
        except Exception as error:
            self.factory.complain(error)
            self.transport.loseConnection()
            return
        self.factory.complain(None)
        super().connectionMade()


class _Factory(txredisapi.RedisFactory):
    protocol = _Protocol
    initialDelay = 0.1
    maxDelay = 3.0

    def __init__(self, credentials: tuple[str, ...], database: int, where: str) -> None:
        super().__init__(
            None,
            None,
            2,
            isLazy=True,
            charset=None,
            convertNumbers=False,
            replyTimeout=REPLY_TIMEOUT,
        )
        self.credentials = credentials
        self.database = database
        self._where = where
        self._complaint: str | None = None

    def complain(self, error: Exception | None) -> None:
        """Log a refused handshake once for each new reason."""
        complaint = str(error) if error else None
        if complaint and complaint != self._complaint:
            log.warn("redis at {where} refuses: {reason}", where=self._where, reason=complaint)
        self._complaint = complaint


def _checked(argument: Argument) -> Argument:
    # txredisapi would quietly write None as "None" and cut floats.
    if isinstance(argument, bool) or not isinstance(argument, str | bytes | int):
        raise TypeError(f"not a Redis argument: {argument!r}")
    return argument


class Redis:
    """Commands and scripts on one server, reconnecting for as long as it lives.

    :param where: the server's address as logs should name it (no secrets)
    """

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        where: str,
        credentials: tuple[str, ...] = (),
        database: int = 0,
    ) -> None:
        self.where = where
        self._clock = clock
        self._endpoint = endpoint
        self._factory = _Factory(credentials, database, where)

    def connect(self) -> None:
        """Start connecting; commands given before it succeeds wait up to their deadline."""
        self._factory.startConnecting(self._endpoint)

    async def disconnect(self) -> None:
        """Close all connections and stop trying."""
        await self._factory.disconnect()

    async def command(self, *arguments: Argument, deadline: float = DEADLINE) -> Any:
        """Send one command.

        :param deadline: seconds, waiting for a connection included
        :raises QueueUnavailable: no answer in time, or one that says "not now"
        :raises QueueFull: the server has no memory left
        """
        sent = self._factory.handler.execute_command(*map(_checked, arguments))
        sent.addTimeout(deadline, self._clock)
        try:
            return await sent
        except DeadlinePassed:
            raise QueueUnavailable(f"redis at {self.where} did not answer in time") from None
        except txredisapi.ConnectionError as error:
            raise QueueUnavailable(f"redis at {self.where}: {error}") from None
        except txredisapi.ResponseError as error:
            trouble = _TROUBLE.search(str(error))
            if trouble and trouble[1] == "OOM":
                raise QueueFull(f"redis at {self.where} has no memory left") from None
            if trouble:
                raise QueueUnavailable(f"redis at {self.where}: {error}") from None
            raise

    async def run(
        self, script: Script, key: str, *arguments: Argument, deadline: float = DEADLINE
    ) -> Any:
        """Run ``script`` with ``key`` as its only key."""
        try:
            return await self.command("EVALSHA", script.sha, 1, key, *arguments, deadline=deadline)
        except txredisapi.ResponseError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        return await self.command("EVAL", script.source, 1, key, *arguments, deadline=deadline)

    async def warnings(self) -> list[str]:
        """What about this server puts accepted batches at risk."""
        text = (await self.command("INFO")).decode("utf-8", "replace")
        info = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        found = []
        # Valkey reports the Redis version it is compatible with.
        version = tuple(int(n) for n in info.get("redis_version", "0.0").split(".")[:2])
        if version < OLDEST:
            found.append("it is older than 6.2")
        if info.get("aof_enabled") == "0":
            found.append("appendonly is off: batches accepted since its last dump die with it")
        if info.get("maxmemory_policy", "noeviction") != "noeviction":
            found.append(f"maxmemory-policy {info['maxmemory_policy']} may throw batches away")
        if info.get("aof_last_write_status", "ok") != "ok":
            found.append("it cannot write its append-only file")
        return found


def connection(reactor: Any, url: str) -> Redis:
    """A connection to ``redis://[user:password@]host[:port][/db]`` or ``unix:///path[?db=n]``."""
    parts = urlsplit(url)
    credentials = tuple(unquote(word) for word in (parts.username, parts.password) if word)
    if parts.scheme == "unix":
        where = unquote(parts.path)
        endpoint: IStreamClientEndpoint = UNIXClientEndpoint(reactor, where, timeout=5)
        database = int(parse_qs(parts.query).get("db", ["0"])[0])
    else:
        host, port = parts.hostname or "localhost", parts.port or 6379
        where = f"{host}:{port}"
        endpoint = HostnameEndpoint(reactor, host, port, timeout=5)
        database = int(parts.path.lstrip("/") or 0)
    return Redis(reactor, endpoint, where, credentials, database)


class Connection(Service):
    """A :class:`Redis` that lives as long as the service, checked once it answers."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def startService(self) -> None:
        super().startService()
        self.redis.connect()
        self._checking = Deferred.fromCoroutine(self._check())
        self._checking.addErrback(lambda f: f.trap(CancelledError))

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._checking.cancel()
        return Deferred.fromCoroutine(self.redis.disconnect())

    async def _check(self) -> None:
        while True:
            try:
                found = await self.redis.warnings()
            except QueueUnavailable:
                continue  # it waited for its deadline
            except txredisapi.ResponseError as error:
                found = [f"it does not say how it keeps its data ({error})"]
            for warning in found:
                log.warn("redis at {where}: {warning}", where=self.redis.where, warning=warning)
            return
