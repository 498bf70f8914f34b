"""The connection to Redis or Valkey, on txredisapi.

Four things differ from txredisapi's own connections. It stops reconnecting for ever after one
failed AUTH or SELECT, so our protocol sends these itself. A command waits without limit while the
server is away, so each has a deadline. Replies are bytes and integers only, as nothing is
converted. MULTI, pipelines and blocking commands, which take a connection out of the pool, are not
used.
"""

from collections.abc import Callable, Collection
from typing import Any

import txredisapi
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeadlinePassed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twisted_bulk.brokers.redis_connection import Factory, ListenerFactory
from twisted_bulk.brokers.redis_endpoint import endpoint
from twisted_bulk.brokers.redis_errors import trouble_of
from twisted_bulk.brokers.redis_url import Address, parse_redis_url
from twisted_bulk.brokers.store import DEADLINE, Argument, Capabilities, Script
from twisted_bulk.errors import QueueFull, QueueUnavailable

log = Logger()

CHECK_SECONDS = 1.0  # before the settings of a server that did not answer are asked for again
REPLICATION_SECONDS = 1.0  # that a write may take to its replicas; then QueueUnavailable
OLDEST_VERSION = (6, 2)  # of Redis; an older one gets a warning


def _checked(argument: Argument) -> Argument:
    # txredisapi would write None as "None", and cut floats, without an error.
    if isinstance(argument, bool) or not isinstance(argument, str | bytes | int):
        raise TypeError(f"not a Redis argument: {argument!r}")
    return argument


class Redis:
    """Commands and scripts on one server; connects again for as long as the service lives.

    :param where: the server's address as logs should name it (no secrets)
    :param ports: TCP ports of the servers and of the Sentinels; more may come in
    """

    capabilities = Capabilities(processes=True, hosts=True, durable=True)

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        address: Address,
        where: str = "",
        ports: Collection[int] = (),
    ) -> None:
        self.ports = ports
        self.where = where or f"redis at {address.where}"
        self._clock = clock
        self._endpoint = endpoint
        self._replicas = address.replicas
        self._factory = Factory(address, 2, clock)
        self._listeners = ListenerFactory(address, clock)

    def connect(self) -> None:
        """Start connecting; commands given before it succeeds wait up to their deadline."""
        self._factory.startConnecting(self._endpoint)

    async def disconnect(self) -> None:
        """Close all connections and stop trying."""
        await self._factory.disconnect()
        if self._listeners.heard:
            await self._listeners.disconnect()

    def listen(self, channel: str, heard: Callable[[], object]) -> None:
        """Call ``heard`` after messages on ``channel``; and after a reconnection, to be sure.

        All channels have to be named before the first connection is made.
        """
        if not self._listeners.heard:
            self._clock.callLater(0, self._listeners.startConnecting, self._endpoint)
        self._listeners.heard.setdefault(channel, []).append(heard)

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await deferLater(self._clock, seconds)

    def attend(self, leave: Callable[[], Deferred[None]]) -> None:
        """Do nothing: this store is only closed by its service."""

    async def command(self, *arguments: Argument, deadline: float = DEADLINE) -> Any:
        """Send one command.

        :param deadline: seconds, waiting for a connection included
        :raises QueueUnavailable: no answer in time, or one that says "not now"
        :raises QueueFull: the server has no memory left
        """
        words = [*map(_checked, arguments)]
        connection = self._factory.connection()
        if connection is None:
            waiting = self._factory.wait()
            sent = waiting.addCallback(lambda found: found.execute_command(*words))
        else:
            sent = connection.execute_command(*words)
        return await self._answered(sent, deadline)

    async def _answered(self, sent: Deferred[Any], deadline: float) -> Any:
        sent.addTimeout(deadline, self._clock)
        try:
            return await sent
        except DeadlinePassed:
            raise QueueUnavailable(f"{self.where} did not answer in time") from None
        except txredisapi.ConnectionError as error:
            raise QueueUnavailable(f"{self.where}: {error}") from None
        except txredisapi.ResponseError as error:
            trouble = trouble_of(str(error))
            if trouble == "OOM":
                raise QueueFull(f"{self.where} has no memory left") from None
            if trouble:
                if trouble in ("READONLY", "NOREPLICAS"):
                    self._reconnect()  # it is not the master any more
                raise QueueUnavailable(f"{self.where}: {error}") from None
            raise

    def _reconnect(self) -> None:
        for connection in [*self._factory.pool, *self._listeners.pool]:
            connection.transport.loseConnection()

    async def run(
        self, script: Script, key: str, *arguments: Argument, deadline: float = DEADLINE
    ) -> Any:
        """Run ``script`` with ``key`` as its only key."""
        words = (1, key, *arguments)
        send = self._replicated if self._replicas and script.promises else self.command
        try:
            return await send("EVALSHA", script.sha, *words, deadline=deadline)
        except txredisapi.ResponseError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        return await send("EVAL", script.source, *words, deadline=deadline)

    async def _replicated(self, *arguments: Argument, deadline: float) -> Any:
        """Send a command, and wait until the replicas have its effect.

        :raises QueueUnavailable: too few replicas have it in time
        """
        words = [*map(_checked, arguments)]

        async def send() -> Any:
            # WAIT counts what its own connection has written.
            connection = self._factory.connection() or await self._factory.wait()
            sent = connection.execute_command(*words)
            waiting = connection.execute_command(
                "WAIT", self._replicas, round(REPLICATION_SECONDS * 1000)
            )
            try:
                reply = await sent
            finally:
                waiting.addErrback(lambda _: 0)
            return reply, await waiting

        reply, reached = await self._answered(Deferred.fromCoroutine(send()), deadline)
        if reached < self._replicas:
            raise QueueUnavailable(f"{self.where}: {reached} of {self._replicas} replicas have it")
        return reply

    async def memory(self) -> tuple[int, int]:
        """Bytes in use, as the server's limit counts them, and the limit; 0: there is none."""
        info = await self._info("memory")
        used = int(info.get("used_memory", 0)) - int(info.get("mem_not_counted_for_evict", 0))
        return max(0, used), int(info.get("maxmemory", 0))

    async def _info(self, *section: str) -> dict[str, str]:
        text = (await self.command("INFO", *section)).decode("utf-8", "replace")
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    async def warnings(self) -> list[str]:
        """Settings of this server that put accepted batches at risk, in words."""
        info = await self._info()
        found = []
        # Valkey reports the Redis version it is compatible with.
        version = tuple(int(n) for n in info.get("redis_version", "0.0").split(".")[:2])
        if version < OLDEST_VERSION:
            found.append("it is older than 6.2")
        if info.get("aof_enabled") == "0":
            found.append("appendonly is off: batches accepted since its last dump die with it")
        if info.get("maxmemory_policy", "noeviction") != "noeviction":
            found.append(f"maxmemory-policy {info['maxmemory_policy']} may throw batches away")
        if info.get("maxmemory", "0") == "0":
            found.append("it has no maxmemory: nothing bounds what batches may take there")
        if info.get("aof_last_write_status", "ok") != "ok":
            found.append("it cannot write its append-only file")
        return found


def connection(reactor: Any, url: str) -> Redis:
    """A connection to the server that ``url`` names, see :mod:`twisted_bulk.brokers.redis_url`.

    :raises ValueError: ``url`` is not the URL of a Redis
    """
    address = parse_redis_url(url)
    ports = {port for _, port in address.hosts}
    return Redis(reactor, endpoint(reactor, address, ports.add), address, ports=ports)


class Connection(Service):
    """A :class:`Redis` that lives as long as the service; its settings are checked once."""

    def __init__(self, clock: IReactorTime, redis: Redis) -> None:
        self._clock = clock
        self.store = redis
        self.ports = redis.ports

    def startService(self) -> None:
        super().startService()
        self.store.connect()
        self._checking = Deferred.fromCoroutine(self._check())
        self._checking.addErrback(lambda f: f.trap(CancelledError))

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._checking.cancel()
        return Deferred.fromCoroutine(self.store.disconnect())

    async def _check(self) -> None:
        while True:
            try:
                found = await self.store.warnings()
            except QueueUnavailable:  # it may have come at once, as of a server that is busy
                await deferLater(self._clock, CHECK_SECONDS)
                continue
            except txredisapi.ResponseError as error:
                found = [f"it does not say how it keeps its data ({error})"]
            for warning in found:
                log.warn("{where}: {what}", where=self.store.where, what=warning)
            return
