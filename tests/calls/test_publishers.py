"""Publishers of both kinds, on all brokers."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from tests.chaos.pushes import PushKills
from tests.support.brokers import Broker, OnMemory, OnRedis, OnSqlite
from tests.support.daemon import environment
from tests.support.reactor import reactor
from tests.support.redis_servers import shared_redis
from twisted_bulk.calls import declarations
from twisted_bulk.calls.declarations import declare, declare_all
from twisted_bulk.calls.publisher import CallFailed, NoSuchCall, Publisher
from twisted_bulk.consumer import runner
from twisted_bulk.consumer.consumer import Consumer
from twisted_bulk.consumer.registry import Functions
from twisted_bulk.consumer.task import Backoff, Fatal, Retry
from twisted_bulk.errors import ConfigError, QueueFull, QueueUnavailable
from twisted_bulk.jobs.model import Work
from twisted_bulk.queue import BadArguments, CallQueue, SyncPublisher, call
from twisted_bulk.system.at_once import finish


class PublisherTestCase(Broker):
    """A queue, and consumers of it."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.patch(runner, "BEAT_SECONDS", 0.05)
        self.queue = CallQueue(self.store, "q")
        self.functions = Functions()
        self.publisher = Publisher(self.queue)

    def consume(self, **options: Any) -> Consumer:
        consumer = Consumer(self.queue, self.functions, reactor, drain=0.1, **options)
        self.addCleanup(lambda: consumer.stopService() if consumer.running else None)
        consumer.startService()
        return consumer


class PublisherSuite(PublisherTestCase):
    """On one broker."""

    async def test_functions(self) -> None:
        """Several functions in one consumer, each by its name; their values come back."""

        @self.functions.register()
        def add(a: int, b: int = 1) -> int:
            return a + b

        @self.functions.register("tell", threads=False)
        def tell_it(what: Any) -> Any:
            return what

        self.consume()
        adds, tells = (self.publisher.options(function=name) for name in ("add", "tell"))
        self.assertEqual(await self.publisher.result(await adds.push(1)), 2)
        self.assertEqual(await self.publisher.result(await adds.push(1, b=4), timeout=9), 5)
        given: list[Any] = [{"a": 1}, [1], None, "x", call("y"), call(what={"z": 1})]
        shown: list[Any] = [{"a": 1}, [1], None, "x", "y", {"z": 1}]
        pushed = [await tells.push(one) for one in given[:4]] + await tells.push_many(given)
        values = [await self.publisher.result(one) for one in pushed]
        self.assertEqual(values, shown[:4] + shown)

    async def test_ends(self) -> None:
        """What becomes of a call that fails, that is not there, that takes too long."""

        @self.functions.register(tries=2)
        def fail(kind: str) -> None:
            raise {"again": Retry("not yet", 0), "never": Fatal("no luck")}[kind]

        consumer = self.consume(backoff=Backoff(0.01))
        failing = self.publisher.options(function="fail")
        for kind, why, error in (("again", "retries", "not yet"), ("never", "fatal", "no luck")):
            with self.assertRaises(CallFailed) as caught:
                await self.publisher.result(await failing.push(kind))
            self.assertEqual((caught.exception.why, caught.exception.error), (why, error))
        with self.assertRaises(NoSuchCall):
            await self.publisher.result("none")
        await consumer.stopService()
        with self.assertRaises(TimeoutError):
            await self.publisher.result(await failing.push("x"), timeout=0.05)

    async def test_failed(self) -> None:
        """What has failed is told with its arguments, and can be queued again."""

        @self.functions.register(tries=1)
        def fail(word: str, times: int = 1) -> None:
            raise ValueError(word)

        self.functions.add(lambda: 1, "other")
        consumer = self.consume()
        failing = self.publisher.options(function="fail")
        for asked in (call("a"), call("b" * 100, times=2)):
            with self.assertRaises(CallFailed):
                await self.publisher.result((await failing.push_many([asked]))[0])
        await consumer.stopService()
        self.flushLoggedErrors(ValueError)
        found = [one async for one in self.publisher.failed()]
        told = [(one.function, one.args, one.kwargs, one.why) for one in found]
        self.assertEqual(told, [("fail", ["b" * 100], {"times": 2}, "retries"),
                                ("fail", ["a"], {}, "retries")])  # fmt: skip
        self.assertEqual((found[1].error, found[1].tries), ("ValueError: a", 1))
        self.assertTrue(found[1].id.startswith("fail-"))
        other = self.publisher.options(function="other")
        self.assertEqual([one async for one in other.failed()], [])
        self.assertTrue(await self.publisher.revive(found[1].id))
        self.assertFalse(await self.publisher.revive(found[1].id))
        self.assertEqual([one.id async for one in self.publisher.failed()], [found[0].id])

    async def test_declared(self) -> None:
        """A function's options hold wherever it is pushed from, unless the publisher has others."""

        @self.functions.register(tries=7, priority=3, unique=True)
        def f(a: int) -> None: ...

        self.consume(max_doing=0)
        while not await self.queue.declared():
            await self.queue.pause(0.01)
        publisher = Publisher(CallQueue(self.store, "q"))  # one function: it needs no name
        first = await publisher.push(1)
        self.assertEqual((await publisher.push(1)).id, first.id)
        self.assertFalse((await publisher.push(1)).new)
        other = await publisher.options(unique=False, tries=1).push(1)
        self.assertTrue(other.new)
        work: list[Work] = []

        async def enqueue(some: list[Work]) -> list[Any]:
            work.extend(some)
            return []

        self.patch(publisher.queue, "enqueue", enqueue)
        with self.assertRaises(ValueError):
            await publisher.options(tries=1).push(1)
        self.assertEqual((work[0].tries, work[0].priority, bool(work[0].digest)), (1, 3, True))

    async def test_versions(self) -> None:
        """A call for a newer version of a function is left to it; old declarations are none."""

        @self.functions.register("f")
        def older(a: int) -> int:
            return a

        consumer = self.consume()
        while not await self.queue.declared():
            await self.queue.pause(0.01)
        newer = {"f": declare(lambda a, b: None, {})}
        await declare_all(self.queue, newer)
        queued = await Publisher(self.queue, "f").push(1, 2)
        while not (await self.queue.stats()).counts["later"]:
            await self.queue.pause(0.01)
        record = await self.queue.job(queued.id)
        assert record is not None
        self.assertEqual((record.state, record.tries), ("later", 0))
        await consumer.stopService()
        with self.assertRaises(BadArguments):
            await Publisher(self.queue, "f").push(1)
        self.patch(declarations, "DECLARED_SECONDS", -1.0)
        await Publisher(self.queue, "f").push(1)

    async def test_checked(self) -> None:
        """Arguments and names that no consumer has are refused; a newer consumer is noticed."""
        await self.publisher.options(function="early").push(1, 2, 3)  # nobody has declared anything

        @self.functions.register()
        def early(a: int) -> None: ...

        @self.functions.register()
        def late() -> None: ...

        first = self.consume(max_doing=0)
        while not await self.queue.declared():
            await self.queue.pause(0.01)
        for name, asked, words in (
            ("early", call(), "missing a required argument: 'a'"),
            ("earyl", call(1), "did you mean 'early'?"),
            ("", call(1), "which function?"),
        ):
            with self.assertRaisesRegex(BadArguments, words):
                await Publisher(self.queue, name).push_many([asked])
        newer = Publisher(self.queue, "newer")
        with self.assertRaises(BadArguments):
            await newer.push()
        await newer.options(check=False).push()
        self.functions.add(lambda: None, "newer")
        await first.stopService()
        self.consume(max_doing=0)
        while b"newer" not in map(str.encode, await self.queue.declared()):
            await self.queue.pause(0.01)
        await newer.push()  # it looks again before it refuses


class MemoryPublisherTests(OnMemory, PublisherSuite):
    """In memory."""

    async def test_cap(self) -> None:
        """Where not all calls have room, those that were queued are told."""
        queue = CallQueue(self.store, "capped", 7)
        with self.assertRaises(QueueFull) as caught:
            await queue.publisher.push_many(range(9))
        self.assertEqual([one.new for one in caught.exception.queued], [True] * 7)

    async def test_junk_declaration(self) -> None:
        """A declaration that cannot be read counts as absent."""
        odd = {"a": b"{", "b": b'{"parameters": [["x", 9, true]], "at": 9e9}',
               "c": b'{"options": {"later": 1}, "at": 9e9}'}  # fmt: skip
        await self.queue.declare(odd)
        await Publisher(self.queue, "a").push(1)
        self.assertRaises(ValueError, self.publisher.options, delay=float("nan"))

    async def test_many_unknown(self) -> None:
        """Calls that nobody here has come back one after the other, and let others through."""
        self.functions.add(lambda: "here", "good")
        await Publisher(self.queue, "bad").push_many([call()] * 300)
        self.consume(slots=2)
        good = self.publisher.options(function="good")
        self.assertEqual(await good.result(await good.push(), timeout=20), "here")
        later = await self.store.command("ZRANGE", f"{self.queue.prefix}later", 0, -1, "WITHSCORES")
        due = sorted(float(one) for one in later[1::2])
        self.assertGreater(due[-1] - due[0], 10_000)

    async def test_lost_answer(self) -> None:
        """A call that was sent once more, as its answer was lost, is a new one."""
        enqueue = self.queue.enqueue

        async def twice(work: Any) -> Any:
            await enqueue(work)
            return await enqueue(work)

        self.patch(self.queue, "enqueue", twice)
        self.assertTrue((await self.publisher.push(1)).new)
        self.assertEqual((await self.queue.stats()).counts["todo"], 1)

    async def test_unknown(self) -> None:
        """A call whose function is not here stays, for a consumer that has it."""
        self.functions.add(lambda: 1, "a")
        queued = await Publisher(self.queue, "b").push()
        self.consume()
        while not (await self.queue.stats()).counts["later"]:
            await self.queue.pause(0.01)
        record = await self.queue.job(queued.id)
        assert record is not None
        self.assertEqual((record.state, record.tries), ("later", 0))

    async def test_periodic(self) -> None:
        """A call at a fixed time is run as any other, with its arguments and options."""
        found: list[Any] = []

        @self.functions.cron("* * * * *", call=call("x", b=2), name="each minute")
        @self.functions.cron("0 0 1 1 *", zone="Europe/Berlin", call=call("new year"))
        @self.functions.register(threads=False)
        def f(a: str, b: int = 0) -> None:
            found.append((a, b))

        self.consume()
        key = f"{self.queue.prefix}cron"
        while await self.store.command("HGET", key, "each minute") is None:
            await self.queue.pause(0.01)
        now, last = await self.queue.last_times({"each minute": "* * * * * UTC"})
        self.assertLess(abs(now - last[0]), 2)  # one that is new counts from now
        then = int(now) // 60 * 60 - 90
        await self.store.command("HSET", key, "each minute", f"{then * 1000} * * * * * UTC")
        while len(found) < 2:
            await self.queue.pause(0.01)
        self.assertEqual(found[:2], [("x", 2)] * 2)

    def test_registry(self) -> None:
        """Mistakes are told where they are made."""
        self.functions.add(len, "f")
        for wrong, kind in (
            (lambda: self.functions.add(max, "f"), ValueError),
            (lambda: self.functions.add(max, "g", trise=3), TypeError),
            (lambda: self.functions.cron("x")(len), ValueError),
            (lambda: self.functions.cron("* * * * *", call=call())(len), BadArguments),
            (lambda: Consumer(self.queue, Functions(), reactor), ValueError),
            (lambda: Consumer(self.queue, self.functions, reactor, processes=True), ValueError),
        ):
            self.assertRaises(kind, wrong)


class SqlitePublisherTests(OnSqlite, PublisherSuite):
    """In a file."""


class RedisPublisherTests(OnRedis, PublisherSuite):
    """On a real Redis."""


class SyncTests(OnRedis, PublisherTestCase):
    """From a thread without a reactor."""

    async def test_all(self) -> None:
        """Pushes, values, failures, options, for several threads at once."""

        @self.functions.register()
        def double(n: int) -> int:
            if n < 0:
                raise Fatal("below 0")
            return 2 * n

        self.consume()
        while not await self.queue.declared():
            await self.queue.pause(0.01)
        publisher = SyncPublisher(shared_redis().url, "q", function="double")
        self.addCleanup(publisher.close)

        def work() -> None:
            for n in range(20):
                self.assertEqual(publisher.result(publisher.push(n), 20), 2 * n)
            some = publisher.push_many([1, call(n=2)])
            self.assertEqual([publisher.result(one) for one in some], [2, 4])
            with self.assertRaises(CallFailed):
                publisher.result(publisher.options(tries=1).push(-1))
            with self.assertRaises(BadArguments):
                publisher.push()
            self.assertIn([-1], [one.args for one in publisher.failed()])
            self.assertFalse(publisher.cancel(some[0].id))
            self.assertGreater(publisher.stats().counts["dead"], 0)
            record = publisher.job(some[0].id)
            assert record is not None
            self.assertEqual(record.state, "done")

        results = [deferToThread(work) for _ in range(3)]
        for one in results:
            await one

    async def test_full(self) -> None:
        """A full queue and a server that is away have their errors."""
        publisher = SyncPublisher(shared_redis().url, "full", cap=1)
        self.addCleanup(publisher.close)
        await deferToThread(publisher.push, 1)
        with self.assertRaises(QueueFull):
            await deferToThread(publisher.push, 2)
        away = SyncPublisher("unix:///nowhere/s", timeout=0.1)
        with self.assertRaisesRegex(QueueUnavailable, "/nowhere/s"):
            await deferToThread(away.push, 1)
        for url in ("memory:", "foo://x", "redis://h:x"):
            self.assertRaises(ConfigError, SyncPublisher, url)


class SyncFileTests(SynchronousTestCase):
    """Without any server."""

    def test_file(self) -> None:
        """An SQLite file that threads share."""
        publisher = SyncPublisher(f"sqlite://{Path(self.mktemp()).absolute()}")
        self.addCleanup(publisher.close)
        threads = [
            threading.Thread(target=publisher.push_many, args=(range(20),)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stats = finish(publisher._publisher.queue.stats())
        self.assertEqual(stats.counts["todo"], 80)

    def test_no_reactor(self) -> None:
        """It installs none: the program may have one of its own kind later."""
        code = (
            "import sys; from twisted_bulk.queue import SyncPublisher; SyncPublisher('redis://h')"
        )
        code += "; sys.exit('twisted.internet.reactor' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], env=environment(), check=True)

    def test_killed(self) -> None:
        """The server is killed while threads push: what was answered is there, once."""
        chaos = PushKills(threads=4, pushes=600)
        self.addCleanup(chaos.close)
        self.assertEqual(chaos.run(kills=1), [])
        self.assertEqual(chaos.refused, 0)


del PublisherSuite  # trial would run it without a broker
