"""The connection, against real servers that misbehave."""

import signal
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.support.eventually import eventually
from tests.support.reactor import reactor
from tests.support.redis_servers import RedisServer, RedisTestCase
from twisted_bulk.brokers import redis_connection as wire
from twisted_bulk.brokers.redis import CHECK_SECONDS, Connection, connection
from twisted_bulk.brokers.redis_connection import REPLY_TIMEOUT
from twisted_bulk.brokers.redis_url import parse_redis_url
from twisted_bulk.brokers.store import Script
from twisted_bulk.errors import QueueFull, QueueUnavailable


class _Slam(Protocol):
    """Accept and close, as a proxy before its server is up."""

    def connectionMade(self) -> None:
        self.factory.count += 1
        transport: Any = self.transport
        transport.abortConnection()


class _Busy(Protocol):
    """A server that runs a long script: it answers PING, and everything else with BUSY."""

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        for command in data.split(b"*")[1:]:
            is_ping = b"PING" in command
            self.factory.asked += not is_ping
            transport.write(b"+PONG\r\n" if is_ping else b"-BUSY a script runs\r\n")


class ServerTestCase(RedisTestCase):
    """A server of the test's own."""

    flags: tuple[str, ...] = ()

    async def setUp(self) -> None:  # type: ignore[override]
        self.server = RedisServer(*self.flags)
        self.addCleanup(self.server.close)


class LossTests(ServerTestCase):
    """Servers that are away, come late, or say nothing."""

    async def test_restart(self) -> None:
        """After a kill -9 and a restart, commands work again and scripts are loaded anew."""
        redis = self.connect(self.server.url)
        script = Script("return redis.call('INCR', KEYS[1])")
        self.assertEqual(await redis.run(script, "n"), 1)
        self.server.kill()
        with self.assertRaises(QueueUnavailable):
            await redis.command("PING", deadline=0.2)
        self.server.start()
        self.assertEqual(await eventually(lambda: redis.run(script, "n", deadline=1)), 2)

    async def test_bounded_wait(self) -> None:
        """A command given while the server is away fails at its deadline and never runs late."""
        self.server.kill()
        redis = self.connect(self.server.url)
        began = reactor.seconds()
        with self.assertRaises(QueueUnavailable):
            await redis.command("SET", "late", "1", deadline=0.3)
        self.assertLess(reactor.seconds() - began, 5)
        self.server.start()
        self.assertIsNone(await eventually(lambda: redis.command("GET", "late", deadline=1)))

    async def test_nothing_left(self) -> None:
        """txredisapi keeps no connection that nobody would take from it."""
        redis = self.connect(self.server.url)
        await redis.command("PING")
        self.assertEqual(redis._factory.connectionQueue.pending, [])

    async def test_silent_connection(self) -> None:
        """A connection on which no reply comes is given up."""
        clock, transport = Clock(), StringTransport()
        ended: list[bool] = []
        transport.abortConnection = lambda: ended.append(True)  # type: ignore[method-assign]
        protocol: Any = wire.Factory(
            parse_redis_url("redis://127.0.0.1:1"), 1, clock
        ).buildProtocol(None)
        protocol.makeConnection(transport)  # it says PING
        clock.advance(REPLY_TIMEOUT - 1)
        self.assertEqual(ended, [])
        clock.advance(1)
        self.assertEqual(ended, [True])
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_silent_server(self) -> None:
        """A server that is stopped in its tracks fails commands; it recovers by itself."""
        redis = self.connect(self.server.url)
        await redis.command("PING")
        self.server.signal(signal.SIGSTOP)
        try:
            with self.assertRaises(QueueUnavailable):
                await redis.command("PING", deadline=0.3)
        finally:
            self.server.signal(signal.SIGCONT)
        self.assertEqual(await eventually(lambda: redis.command("PING", deadline=1)), b"PONG")

    async def test_slammed_doors(self) -> None:
        """However often the handshake fails, with password and database, we keep trying."""
        factory: Any = Factory.forProtocol(_Slam)
        factory.noisy, factory.count = False, 0
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        number = port.getHost().port
        redis = self.connect(f"redis://user:secret@127.0.0.1:{number}/3")
        while factory.count < 8:
            with self.assertRaises(QueueUnavailable):
                await redis.command("PING", deadline=0.2)
        await port.stopListening()
        account = "--user user on >secret ~* +@all"
        server = RedisServer("--port", str(number), *account.split())
        self.addCleanup(server.close)
        self.assertEqual(await eventually(lambda: redis.command("PING", deadline=1)), b"PONG")
        info = await redis.command("CLIENT", "INFO")
        self.assertIn(b" db=3 ", info)
        self.assertIn(b" user=user ", info)

    async def test_too_many_clients(self) -> None:
        """A server that was full for a while is not given up."""
        first = self.connect(self.server.url)
        await first.command("CONFIG", "SET", "maxclients", 2)
        second = self.connect(self.server.url + "?db=1")
        with self.assertRaises(QueueUnavailable):
            await second.command("PING", deadline=0.5)
        await first.command("CONFIG", "SET", "maxclients", 100)
        self.assertEqual(await eventually(lambda: second.command("PING", deadline=1)), b"PONG")


class CheckTests(TestCase):
    """The look at a server's settings."""

    timeout = 20

    async def test_busy(self) -> None:
        """A server that says at once that it cannot answer is asked once a second."""
        factory: Any = Factory.forProtocol(_Busy)
        factory.asked = 0
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        clock = Clock()
        redis = connection(reactor, f"redis://127.0.0.1:{port.getHost().port}")
        service = Connection(clock, redis)
        service.startService()
        self.addCleanup(service.stopService)
        for second in range(1, 4):
            while factory.asked < second:
                await redis.command("PING")
            for _ in range(5):  # a further question would come before these answers
                await redis.command("PING")
            self.assertEqual(factory.asked, second)
            clock.advance(CHECK_SECONDS)


class WrongPasswordTests(ServerTestCase):
    """A password that is not right, and then is."""

    flags = ("--requirepass", "right")

    async def test_keeps_trying(self) -> None:
        """Nothing gets through until the server agrees; then everything does."""
        redis = self.connect(f"unix://:wrong@{self.server.socket}")
        with self.assertRaises(QueueUnavailable):
            await redis.command("PING", deadline=0.5)
        admin = self.connect(f"unix://:right@{self.server.socket}")
        await admin.command("CONFIG", "SET", "requirepass", "wrong")
        self.assertEqual(await eventually(lambda: redis.command("PING", deadline=1)), b"PONG")


class ValueTests(RedisTestCase):
    """What goes in comes out."""

    async def test_unchanged(self) -> None:
        """Bytes that look like numbers or text stay the bytes they are."""
        for value in (
            b"007",
            b"1_000",
            b"+5",
            b"5 ",
            b"1.10",
            b"00000000",
            b"\xff\xfe",
            b"",
            b"QUEUED",
        ):
            await self.redis.command("SET", "k", value)
            self.assertEqual(await self.redis.command("GET", "k"), value)

    async def test_refused_arguments(self) -> None:
        """What would be written as something else is not written."""
        wrong: list[Any] = [None, 1.5, True, [], {}]
        for argument in wrong:
            with self.assertRaises(TypeError):
                await self.redis.command("SET", "k", argument)

    async def test_script_reload(self) -> None:
        """A flushed script cache does not matter."""
        script = Script("return KEYS[1]")
        self.assertEqual(await self.redis.run(script, "a"), b"a")
        await self.redis.command("SCRIPT", "FLUSH")
        self.assertEqual(await self.redis.run(script, "a"), b"a")

    async def test_many_at_once(self) -> None:
        """Answers go to whom they belong."""
        waiting = [Deferred.fromCoroutine(self.redis.command("ECHO", str(n))) for n in range(200)]
        self.assertEqual([await d for d in waiting], [b"%d" % n for n in range(200)])

    async def test_out_of_memory(self) -> None:
        """A server without memory is a full queue, not a mistake."""
        await self.redis.command("CONFIG", "SET", "maxmemory", 1)
        try:
            with self.assertRaises(QueueFull):
                await self.redis.command("SET", "k", "v")
        finally:
            await self.redis.command("CONFIG", "SET", "maxmemory", 0)

    async def test_warnings(self) -> None:
        """A server that may lose batches is named; a good one is not."""
        (unbounded,) = await self.redis.warnings()
        self.assertIn("maxmemory", unbounded)
        await self.redis.command("CONFIG", "SET", "maxmemory", "1gb")
        self.assertEqual(await self.redis.warnings(), [])
        used, most = await self.redis.memory()
        self.assertEqual(most, 1 << 30)
        self.assertTrue(100_000 < used < 20_000_000)
        await self.redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        await self.redis.command("CONFIG", "SET", "appendonly", "no")
        try:
            warnings = " ".join(await self.redis.warnings())
        finally:
            await self.redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
            await self.redis.command("CONFIG", "SET", "appendonly", "yes")
        self.assertIn("allkeys-lru", warnings)
        self.assertIn("appendonly is off", warnings)
