"""Consumers of any function, with their publishers."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.python.reflect import namedAny

from tests.support import functions
from tests.support.brokers import Broker, OnMemory, OnRedis
from tests.support.daemon import ROOT
from tests.support.processes import alive
from tests.support.reactor import reactor
from tests.support.redis_servers import ask
from twisted_bulk.brokers.server_socket import socket_path
from twisted_bulk.calls.arguments import call
from twisted_bulk.calls.declarations import BadArguments
from twisted_bulk.calls.publisher import Publisher
from twisted_bulk.consumer import child_processes, opening, reserve_policy, runner
from twisted_bulk.consumer.acks import AckBuffer
from twisted_bulk.consumer.consumer import Consumer
from twisted_bulk.consumer.task import Backoff, Fatal, GiveBack, Retry
from twisted_bulk.errors import QueueUnavailable
from twisted_bulk.jobs.model import JobRecord
from twisted_bulk.queue import CallQueue, open_queue

SLOW_START = 1.0  # seconds


def slowed(spawn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Starts a child that is ready late."""

    def slow(pool: Any) -> Any:
        child = spawn(pool)
        ready = child.ready.callback
        child.ready.callback = lambda value: reactor.callLater(SLOW_START, ready, value)
        return child

    return slow


class Silent(Exception):
    """An error without a message."""

    def __str__(self) -> str:
        raise ValueError


class ConsumerTestCase(Broker):
    """A queue, and consumers that end with the test."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.patch(runner, "BEAT_SECONDS", 0.05)
        self.queue = CallQueue(self.store, "q")

    def consume(self, function: Callable[..., Any], **options: Any) -> Consumer:
        given: dict[str, Any] = {"drain": 0.1, "backoff": Backoff(0.01)}
        consumer = Consumer(self.queue, function, reactor, **given | options)
        self.addCleanup(lambda: consumer.stopService() if consumer.running else None)
        consumer.startService()
        return consumer

    async def ended(self, job: str) -> JobRecord:
        while True:
            record = await self.queue.job(job)
            assert record is not None
            if record.ended:
                return record
            await deferLater(reactor, 0.01)

    async def call(self, function: Callable[..., Any], *one: Any, **options: Any) -> Any:
        """The value of one call."""
        self.consume(function, **options)
        queued = await self.queue.publisher.push(*one)
        record = await self.ended(queued.id)
        self.assertEqual(record.state, "done", record.error)
        return msgspec.json.decode(record.result) if record.result else None

    async def fails(self, function: Callable[..., Any], *one: Any, **options: Any) -> JobRecord:
        """The record of a call that fails every time."""
        self.consume(function, **options)
        queued = await self.queue.publisher.options(tries=2).push(*one)
        record = await self.ended(queued.id)
        self.assertEqual((record.state, record.tries), ("dead", 2))
        self.flushLoggedErrors()
        return record


class FunctionTests(OnMemory, ConsumerTestCase):
    """All kinds of functions."""

    async def test_coroutine(self) -> None:
        """In the reactor's thread."""

        async def function(word: str) -> list[Any]:
            await deferLater(reactor, 0.01)
            return [word, threading.current_thread() is threading.main_thread()]

        self.assertEqual(await self.call(function, "x"), ["x", True])

    async def test_deferred(self) -> None:
        """A callable that says so returns a Deferred."""

        def function(word: str) -> "Deferred[bool]":
            return succeed(threading.current_thread() is threading.main_thread())

        self.assertIs(await self.call(function, "x"), True)

    async def test_thread(self) -> None:
        """A plain function does not hold the reactor up; it may be told to be in its thread."""

        def function(word: str) -> bool:
            return threading.current_thread() is threading.main_thread()

        self.assertIs(await self.call(function, "x"), False)
        self.queue = CallQueue(self.store, "other")
        self.assertIs(await self.call(function, "x", threads=False), True)

    async def test_process(self) -> None:
        """In a process of its own, which is kept for the next call."""
        path = self.mktemp()
        pid, parent = await self.call(functions.where, path, processes=True, slots=1)
        self.assertEqual(parent, os.getpid())
        queued = await self.queue.publisher.push(path)
        record = await self.ended(queued.id)
        self.assertEqual(msgspec.json.decode(record.result)[0], pid)

    async def test_busy_threads(self) -> None:
        """A thread that cannot be stopped keeps its slot; nobody is begun for nothing."""
        free, calls = threading.Event(), []

        def function(word: str) -> None:
            calls.append(word)
            if word == "hang":
                free.wait(10)

        self.consume(function, slots=1, timeout=0.2)
        hanging = await self.queue.publisher.options(tries=1).push("hang")
        record = await self.ended(hanging.id)
        innocent = await self.queue.publisher.options(tries=1).push("innocent")
        await deferLater(reactor, 0.5)
        free.set()
        self.assertEqual(record.state, "dead")
        self.assertEqual((await self.ended(innocent.id)).state, "done")
        self.assertEqual(calls, ["hang", "innocent"])

    async def test_own_cancellation(self) -> None:
        """Something that the function waits for is cancelled: the call has failed."""

        async def function(word: str) -> None:
            waiting: Deferred[None] = Deferred()
            reactor.callLater(0, waiting.cancel)
            await waiting

        record = await self.fails(function, "x")
        self.assertIn("CancelledError", record.error)

    async def test_grandchild(self) -> None:
        """A process that left another one behind has ended all the same."""
        path = self.mktemp()
        await self.fails(functions.orphan, path, processes=True)
        os.kill(int(Path(path).read_text()), signal.SIGKILL)

    async def test_by_name(self) -> None:
        """Many parameters by name."""
        consumer = self.consume(functions.add)
        queued = await consumer.publisher.push(a=2, b=40)
        self.assertEqual((await self.ended(queued.id)).result, b"42")

    async def test_failures(self) -> None:
        """What was raised is in the record, from wherever."""
        record = await self.fails(functions.fail, "no luck")
        self.assertEqual(record.error, "ValueError: no luck")
        self.queue = CallQueue(self.store, "processes")
        record = await self.fails(functions.fail, "no luck", processes=True)
        self.assertIn("ValueError: no luck", record.error)

    async def test_slow_start(self) -> None:
        """The time that a child needs to start is no part of a call's."""
        self.patch(child_processes.ChildPool, "_spawn", slowed(child_processes.ChildPool._spawn))
        value = await self.call(functions.add, 1, processes=True, timeout=SLOW_START / 2)
        self.assertEqual(value, 2)

    async def test_ends_in_processes(self) -> None:
        """What a function raises for its consumer means the same in a child process."""
        self.consume(functions.raise_task, processes=True)
        publisher = self.queue.publisher
        queued = {kind: (await publisher.push(kind)).id for kind in ("fatal", "retry", "back")}
        record = await self.ended(queued["fatal"])
        self.assertEqual((record.why, record.error, record.tries), ("fatal", "no luck", 1))
        while (await self.queue.stats()).counts["later"] < 2:
            await deferLater(reactor, 0.01)
        for kind, tries, error in (("retry", 1, "busy"), ("back", 0, "")):
            record_of = await self.queue.job(queued[kind])
            assert record_of is not None
            self.assertEqual((record_of.tries, record_of.error), (tries, error), kind)

    async def test_odd_messages(self) -> None:
        """An error is told to the queue whatever its message is."""

        async def half() -> None:
            raise Fatal("caf\udce9")

        async def silent() -> None:
            raise Silent()

        for number, (function, told) in enumerate(((half, "caf?"), (silent, "cannot be read"))):
            self.queue = CallQueue(self.store, f"odd{number}")
            self.consume(function)
            queued = await self.queue.publisher.options(tries=1).push()
            record = await self.ended(queued.id)
            self.assertIn(told, record.error)
        self.flushLoggedErrors()

    async def test_own_time_out(self) -> None:
        """A time-out of the function's own is an error as any other."""

        async def late() -> None:
            raise TimeoutError("mine")

        record = await self.fails(late)
        self.assertEqual(record.error, "TimeoutError: mine")

    async def test_exits(self) -> None:
        """A function that would end its process has failed, wherever it runs."""

        async def leave() -> None:
            raise SystemExit(3)

        for number, (function, options) in enumerate((
            (functions.leave, {}), (leave, {}), (functions.leave, {"threads": False}),
            (functions.leave, {"processes": True}),
        )):  # fmt: skip
            self.queue = CallQueue(self.store, f"exits{number}")
            record = await self.fails(function, **options)
            self.assertRegex(record.error, "SystemExit: 3|exit code 3")

    def test_odd_delays(self) -> None:
        """A delay that is none is an error of the function."""
        for delay in (float("nan"), float("inf"), -1.0):
            self.assertRaises(ValueError, Retry, "again", delay)
            self.assertRaises(ValueError, GiveBack, "back", delay)

    async def test_process_dies(self) -> None:
        """A call that ends its process has failed; the next one gets another process."""
        record = await self.fails(functions.die, 3, processes=True)
        self.assertIn("exit code 3", record.error)

    async def test_bad_arguments(self) -> None:
        """Arguments that do not fit fail at once, without a further try; later they are refused."""
        queued = await self.queue.publisher.push(1, 2, 3)  # nobody has declared the function yet
        self.consume(functions.add)
        record = await self.ended(queued.id)
        self.assertEqual((record.state, record.why, record.tries), ("dead", "fatal", 1))
        self.assertIn("bad_arguments: the function: too many positional", record.error)
        self.assertEqual(self.flushLoggedErrors(), [])
        publisher = Publisher(self.queue)  # which has read nothing before
        for misfit in (call(1, 2, 3), call(), call(1, c=2), call(1, a=1)):
            with self.assertRaises(BadArguments):
                await publisher.push_many([misfit])
        with self.assertRaisesRegex(TypeError, "object"):
            await publisher.push(object())
        self.assertEqual((await self.queue.stats()).counts["dead"], 1)

    def test_no_name(self) -> None:
        """A function that no process could import is refused at once."""
        with self.assertRaisesRegex(ValueError, "no name to import"):
            Consumer(self.queue, lambda x: x, reactor, processes=True)


class TimeoutTests(OnMemory, ConsumerTestCase):
    """Calls that take too long."""

    async def test_coroutine(self) -> None:
        """It is cancelled."""
        cancelled: list[bool] = []

        async def function(word: str) -> None:
            try:
                await Deferred()
            finally:
                cancelled.append(True)

        record = await self.fails(function, "x", timeout=0.05)
        self.assertEqual((record.error, cancelled), ("took longer than 0.05 s", [True, True]))

    async def test_process(self) -> None:
        """It is killed."""
        path = self.mktemp()
        record = await self.fails(functions.hang, path, timeout=1, processes=True)
        self.assertEqual(record.error, "took longer than 1 s")
        while alive(int(Path(path).read_text())):
            await deferLater(reactor, 0.01)


class WishesTests(OnRedis, ConsumerTestCase):
    """What a consumer may ask for."""

    async def collect(self, count: int, **options: Any) -> list[float]:
        """When each of ``count`` calls began."""
        began: list[float] = []

        async def function(n: int) -> None:
            began.append(reactor.seconds())

        await self.queue.publisher.push_many(range(count))
        consumer = self.consume(function, **options)
        await consumer.empty()
        self.assertEqual(len(began), count)
        return began

    async def test_rate(self) -> None:
        """Starts keep their distance; none is begun too early."""
        began = await self.collect(20, qps=50, slots=20)
        self.assertGreaterEqual(began[-1] - began[0], 19 / 50 - 0.25)

    async def test_slots(self) -> None:
        """Calls at once, in one process and in all."""
        now = most = 0

        async def function(n: int) -> None:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await deferLater(reactor, 0.01)
            now -= 1

        await self.queue.publisher.push_many(range(12))
        first = self.consume(function, slots=2)
        await first.empty()
        self.assertEqual(most, 2)
        most = 0
        await self.queue.publisher.push_many(range(12))
        self.consume(function, slots=4, max_doing=3)
        await first.empty()
        self.assertEqual(most, 3)

    async def test_unique(self) -> None:
        """Equal calls are dropped while one waits or runs, or for a while after its success."""
        unique = self.queue.publisher.options(unique=True)
        first = await unique.push(a=1, b=2)
        self.assertEqual((await unique.push(b=2, a=1)).id, first.id)
        self.assertTrue((await unique.push(a=1, b=3)).new)
        consumer = self.consume(functions.add)
        await consumer.empty()
        self.assertTrue((await unique.push(a=1, b=2)).new)
        await consumer.empty()
        window = self.queue.publisher.options(window=60)
        await window.push(a=5)
        await consumer.empty()
        self.assertFalse((await window.push(a=5)).new)

    async def test_no_run(self) -> None:
        """Nothing is reserved in a window when nothing runs."""
        queued = await self.queue.publisher.push(1)
        self.consume(functions.add, no_run="00:00-24:00")
        await deferLater(reactor, 0.2)
        record = await self.queue.job(queued.id)
        assert record is not None
        self.assertEqual((record.state, record.tries), ("todo", 0))

    async def test_pause(self) -> None:
        """A paused consumer takes nothing until that is taken back."""
        await self.queue.control({"paused": True})
        queued = await self.queue.publisher.push(1)
        self.consume(functions.add)
        await deferLater(reactor, 0.1)
        record = await self.queue.job(queued.id)
        self.assertEqual(record and record.state, "todo")
        await self.queue.control({"paused": False})
        await self.ended(queued.id)

    async def test_stop(self) -> None:
        """What runs is given back, with no try used up; it goes on when that is taken back.

        Fails on ecffb8f: what runs goes on, and after the stop nothing ever runs again.
        """
        self.patch(opening, "LOOK_AGAIN_SECONDS", 0.05)
        calls: list[int] = []

        async def function(number: int) -> int:
            calls.append(number)
            if len(calls) < 3:
                await Deferred()
            return number

        queued = [await self.queue.publisher.push(n) for n in range(2)]
        consumer = self.consume(function)
        while len(calls) < 2:
            await deferLater(reactor, 0.01)
        await self.queue.control({"stop": True})
        while (await self.queue.stats()).counts["todo"] < 2:
            await deferLater(reactor, 0.01)
        await deferLater(reactor, 0.2)
        self.assertEqual((len(calls), (await self.queue.stats()).counts["todo"]), (2, 2))
        (told,) = (await self.queue.stats()).workers
        self.assertEqual(told.waits_for, "stopped")
        await self.queue.control({"stop": None})
        for one in queued:
            await self.ended(one.id)
        record = await self.queue.job(queued[0].id)
        self.assertEqual((record and record.tries, consumer.ended.called), (1, False))

    async def test_stop_taken_back(self) -> None:
        """A call that begins after that is not given back by what was told before."""
        self.patch(opening, "LOOK_AGAIN_SECONDS", 0.02)
        calls: list[int] = []

        async def function(number: int) -> None:
            calls.append(number)
            await deferLater(reactor, 0.2)

        self.consume(function)
        await self.queue.control({"stop": True})
        queued = await self.queue.publisher.push(1)
        await deferLater(reactor, 0.2)  # a heartbeat tells it
        await self.queue.control({"stop": None})
        await self.ended(queued.id)
        self.assertEqual(calls, [1])

    async def test_stopped_while_it_halts(self) -> None:
        """A consumer that is ended while it gives back takes nothing any more."""
        gate: Deferred[None] = Deferred()

        async def function(number: int) -> None:
            try:
                await Deferred()
            finally:
                await gate  # it takes a while to end

        consumer = self.consume(function, drain=0.1)
        await self.queue.publisher.push(1)
        while not consumer.held:
            await deferLater(reactor, 0.01)
        await self.queue.control({"stop": True})
        await deferLater(reactor, 0.3)
        stopping = consumer.stopService()
        gate.callback(None)
        await stopping
        await self.queue.control({"stop": None})
        await deferLater(reactor, 0.2)
        counts = (await self.queue.stats()).counts
        self.assertEqual((counts["todo"], counts["doing"]), (1, 0))
        self.assertTrue(consumer.ended.called)

    async def test_suspect(self) -> None:
        """A call that may have killed two workers runs while nothing else does."""
        running: set[int] = set()
        beside: list[set[int]] = []
        gate: Deferred[None] = Deferred()

        async def function(number: int) -> int:
            running.add(number)
            beside.append(set(running))
            await (deferLater(reactor, 0.1) if number else gate)
            running.remove(number)
            return number

        queued = [await self.queue.publisher.push(n) for n in range(3)]
        for _ in range(2):
            self.assertEqual(len((await self.queue.reserve("dies", 2)).jobs), 2)
            await self.queue.reclaim("dies")
        self.assertEqual((await self.queue.stats()).suspects, 2)
        self.consume(function, slots=4)
        while not running:
            await deferLater(reactor, 0.01)
        await deferLater(reactor, 0.2)
        gate.callback(None)
        for one in queued:
            await self.ended(one.id)
        alone = [group for group in beside if group & {0, 1}]
        self.assertEqual([len(group) for group in alone], [1, 1])

    async def test_woken(self) -> None:
        """A waiting consumer hears of a call; it does not look every so often only."""
        self.patch(reserve_policy, "IDLE_PAUSES", (30.0,))
        consumer = self.consume(functions.add)
        await deferLater(reactor, 0.3)  # it has looked and waits
        await self.queue.publisher.push(1)
        await consumer.empty()


class ConsumerSpoolTests(OnMemory, ConsumerTestCase):
    """Results that come while the queue is away."""

    async def test_kept_and_delivered(self) -> None:
        """The slot is free, the result safe in a file; it counts once the queue is back."""
        folder = Path(self.mktemp())
        gate: Deferred[None] = Deferred()

        async def function(n: int) -> int:
            await gate
            return n

        self.consume(function, spool=folder)
        queued = await self.queue.publisher.push(7)
        while (await self.queue.stats()).counts["doing"] == 0:
            await deferLater(reactor, 0.01)
        store: Any = self.store
        store.running = 0  # as if it were away
        gate.callback(None)
        while not list(folder.glob("*.q.acks")):
            await deferLater(reactor, 0.01)
        (file,) = folder.glob("*.q.acks")
        self.assertIn(queued.id, file.read_text())
        store.running = 1
        record = await self.ended(queued.id)
        self.assertEqual((record.state, record.result), ("done", b"7"))
        while file.exists():
            await deferLater(reactor, 0.01)

    async def test_cannot_be_read(self) -> None:
        """Kept results that cannot be read keep a consumer from nothing."""
        folder = Path(self.mktemp())
        (folder / "w.q.acks").mkdir(parents=True)

        async def function(n: int) -> int:
            return n

        self.consume(function, spool=folder)
        queued = await self.queue.publisher.push(7)
        self.assertEqual((await self.ended(queued.id)).result, b"7")

    async def test_left_by_the_dead(self) -> None:
        """The next process delivers what a dead one had kept; the fence decides."""
        folder = Path(self.mktemp())
        folder.mkdir()
        first, second = await self.queue.publisher.push_many([1, 2])
        await self.queue.reserve("dead", 2)
        line = b'{"queue":"q","worker":"%s","id":"%s","attempt":1,"ok":1,"result":"Nw=="}\n'
        lines = line % (b"dead", first.id.encode()) + line % (b"other", second.id.encode())
        (folder / "dead.q.acks").write_bytes(lines + b'{"worker":"de')
        (folder / "dead.other.acks").write_bytes(b"")
        # A queue whose name ends like ours.
        kept = ["dead.new.q.acks", "dead.other.acks"]
        strange = lines.replace(b'"q"', b'"new.q"')
        (folder / "dead.new.q.acks").write_bytes(strange)
        self.consume(functions.add, spool=folder)
        record = await self.ended(first.id)
        self.assertEqual((record.state, record.result), ("done", b"7"))
        record2 = await self.queue.job(second.id)
        self.assertEqual(record2 and record2.state, "doing")
        self.assertEqual(sorted(path.name for path in folder.glob("dead*")), kept)

    async def test_nowhere_to_keep(self) -> None:
        """Where the disk takes nothing either, the memory keeps results; nothing hangs."""
        folder = Path(self.mktemp())
        folder.write_text("not a folder")
        done: list[int] = []
        consumer = self.consume(done.append, slots=1, threads=False)
        vars(consumer)["_acks"] = AckBuffer(self.queue, vars(consumer)["_worker"], folder)
        away = self.patch(self.queue, "ack", self.refuse)
        first, second = await self.queue.publisher.push_many([1, 2])
        while not done:
            await deferLater(reactor, 0.01)
        await deferLater(reactor, 0.05)
        away.restore()
        self.assertEqual((await self.ended(first.id)).state, "done")
        self.assertEqual((await self.ended(second.id)).state, "done")

    async def refuse(self, worker: str, acks: Any) -> Any:
        """What a queue that is away says."""
        raise QueueUnavailable("away")


class OpenTests(ConsumerTestCase):
    """Queues by their URL."""

    def make(self) -> Any:
        return contextlib.nullcontext()

    async def setUp(self) -> None:  # type: ignore[override]
        pass

    async def test_lazy(self) -> None:
        """Nothing is opened before the first use."""
        folder = Path(self.mktemp()).absolute()
        queue = open_queue(reactor, f"sqlite://{folder}/q.db", "x")
        self.assertFalse(folder.exists())
        await queue.publisher.push(1)
        self.assertEqual((await queue.stats()).counts["todo"], 1)
        store: Any = queue.store
        await store.close()

    def test_stop(self) -> None:
        """A program that ends lets its calls end, and leaves no server behind."""
        for url in ("embedded:{}", "sqlite://{}/q.db"):
            folder = Path(tempfile.mkdtemp(prefix="bw"))
            self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
            words = [sys.executable, "-m", "tests.support.functions", url.format(folder)]
            done = subprocess.run(words, timeout=30, capture_output=True, text=True, cwd=ROOT)
            self.assertEqual(
                (done.returncode, done.stdout), (0, "began\nended\ndone\n"), done.stderr
            )
            if "embedded" in url:
                self.assertRaises(OSError, ask, socket_path(folder), "PING")

    def test_unknown(self) -> None:
        """A broker that there is not."""
        for url in ("amqp://h", "nonsense"):
            with self.assertRaisesRegex(namedAny("twisted_bulk.errors.ConfigError"), "no such"):
                open_queue(reactor, url)
