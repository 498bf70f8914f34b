"""The consumer, on a real queue."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.support.eventually import eventually
from tests.support.reactor import reactor
from tests.support.redis_servers import RedisServer, RedisTestCase
from twisted_bulk.consumer import runner
from twisted_bulk.consumer.runner import Runner
from twisted_bulk.consumer.slots import Slots
from twisted_bulk.consumer.task import GiveBack, Result, Retry, Task
from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs.model import Work
from twisted_bulk.jobs.scripted import ScriptedQueue


def tell(waiting: Deferred[None]) -> None:
    """Let a test go on, but not from within the consumer's own step."""
    reactor.callLater(0, waiting.callback, None)


class RunnerTestCase(RedisTestCase):
    """A queue, and consumers that stop with the test."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.queue = ScriptedQueue(self.redis, "jobs")
        self.patch(runner, "BEAT_SECONDS", 0.05)

    def make(self, function: Any, **options: Any) -> Runner:
        slots = Slots(options.pop("slots", 4))
        given: dict[str, Any] = {"worker": "w1", "slots": slots, "drain": 5.0}
        consumer = Runner(self.queue, function, reactor, **given | options)
        self.addCleanup(lambda: consumer.stopService() if consumer.running else None)
        return consumer

    def consume(self, function: Any, **options: Any) -> Runner:
        consumer = self.make(function, **options)
        consumer.startService()
        return consumer

    async def field(self, job: str, name: str) -> bytes:
        value: bytes = await self.redis.command("HGET", f"{self.queue.prefix}j:{job}", name)
        return value

    async def until(self, job: str, state: bytes) -> None:
        while await self.field(job, "state") != state:
            await deferLater(reactor, 0.01)


class RunnerTests(RunnerTestCase):
    """Jobs run, retried, cancelled, given back."""

    async def test_runs(self) -> None:
        """Each job once, up to ``slots`` at the same time."""
        seen: list[bytes] = []
        most = now = 0

        async def function(task: Task) -> Result:
            nonlocal most, now
            now += 1
            most = max(most, now)
            await deferLater(reactor, 0.02)
            now -= 1
            seen.append(task.job.payload)
            return Result(data=b"r")

        await self.queue.enqueue([Work(id=f"{n}", payload=b"%d" % n) for n in range(20)])
        self.consume(function)
        for n in range(20):
            await self.until(f"{n}", b"done")
        self.assertEqual(sorted(seen), sorted(b"%d" % n for n in range(20)))
        self.assertEqual((most, await self.field("3", "res")), (4, b"r"))

    async def test_retry(self) -> None:
        """A job that asks for it, or breaks, is tried again; then it is dead."""
        attempts: list[int] = []

        async def function(task: Task) -> Result:
            attempts.append(task.job.attempt)
            if task.job.attempt == 1:
                raise Retry("not yet", 0.01)
            raise ValueError("broken")

        await self.queue.enqueue([Work(id="a", payload=b"", tries=3)])
        self.consume(function)
        await self.until("a", b"dead")
        self.assertEqual(attempts, [1, 2, 3])
        self.assertEqual(await self.field("a", "err"), b"ValueError: broken")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    async def test_cancelled(self) -> None:
        """A cancelled job is stopped within a heartbeat; its slot is free again."""
        began: Deferred[None] = Deferred()
        stopped: Deferred[None] = Deferred()

        async def function(task: Task) -> Result:
            if task.job.id == "b":
                return Result()
            tell(began)
            try:
                await Deferred()
            finally:
                tell(stopped)
            raise AssertionError

        await self.queue.enqueue([Work(id="a", payload=b"")])
        self.consume(function, slots=1)
        await began
        await self.queue.cancel("a")
        await stopped
        await self.queue.enqueue([Work(id="b", payload=b"")])
        await self.until("b", b"done")

    async def test_too_late(self) -> None:
        """A result that does not count any more is undone."""
        undone: Deferred[None] = Deferred()

        async def function(task: Task) -> Result:
            await self.queue.cancel("a")
            return Result(undo=lambda: undone.callback(None))

        await self.queue.enqueue([Work(id="a", payload=b"")])
        self.consume(function)
        await undone

    async def test_stop_waits(self) -> None:
        """A job that ends in time is done when the stop returns."""
        began: Deferred[None] = Deferred()

        async def function(task: Task) -> Result:
            tell(began)
            await deferLater(reactor, 0.05)
            return Result()

        await self.queue.enqueue([Work(id="a", payload=b"")])
        consumer = self.consume(function)
        await began
        await consumer.stopService()
        self.assertEqual(await self.field("a", "state"), b"done")

    async def test_stop_gives_back(self) -> None:
        """One that does not is waiting again, with no attempt used up."""
        began: Deferred[None] = Deferred()

        async def function(task: Task) -> Result:
            tell(began)
            await Deferred()
            raise AssertionError

        await self.queue.enqueue([Work(id="a", payload=b"")])
        consumer = self.consume(function, drain=0.05)
        await began
        await consumer.stopService()
        self.assertEqual(
            (await self.field("a", "state"), await self.field("a", "tries")), (b"todo", b"0")
        )

    async def test_lost_reply(self) -> None:
        """What was reserved for us without our knowledge is not lost."""
        await self.queue.enqueue([Work(id="a", payload=b"")])
        await self.queue.reserve("w1", 1)

        async def function(task: Task) -> Result:
            return Result()

        # As after a reserve whose answer did not come.
        consumer = self.make(function)
        consumer._reserver.doubts = 1
        consumer.startService()
        await self.until("a", b"done")

    async def test_given_back_in_vain(self) -> None:
        """The queue goes away while a job is given back, and while more is asked for: the job is
        given back later."""
        asked, go = Deferred[None](), Deferred[None]()
        reserve, release = self.queue.reserve, self.queue.release
        calls: list[str] = []

        async def slow(worker: str, count: int, **more: Any) -> Any:
            calls.append("reserve")
            found = await reserve(worker, count, **more)
            if len(calls) == 2:
                tell(asked)
                await go
            return found

        async def away(*arguments: Any) -> None:
            if "release" in calls:
                await release(*arguments)
                return
            calls.append("release")
            reactor.callLater(0, go.callback, None)
            raise Unavailable("away")

        async def function(task: Task) -> Result:
            if "release" not in calls:
                await asked
                raise GiveBack("no room")
            return Result()

        self.patch(self.queue, "reserve", slow)
        self.patch(self.queue, "release", away)
        await self.queue.enqueue([Work(id="a", payload=b"")])
        self.consume(function)
        await self.until("a", b"done")


class OutageTests(RunnerTestCase):
    """A server that dies while jobs run."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.server = RedisServer("--appendfsync", "always")  # as the embedded one
        self.addCleanup(self.server.close)
        self.redis = self.connect(self.server.url)
        self.queue = ScriptedQueue(self.redis, "jobs")
        self.patch(runner, "BEAT_SECONDS", 0.05)

    async def test_outage(self) -> None:
        """A result is kept until the server is back, and counts."""
        began: Deferred[None] = Deferred()

        async def function(task: Task) -> Result:
            tell(began)
            await deferLater(reactor, 0.1)
            return Result(data=b"kept")

        await self.queue.enqueue([Work(id="a", payload=b"")])
        self.consume(function)
        await began
        self.server.kill()
        await deferLater(reactor, 0.3)
        self.server.start()

        async def result() -> bytes:
            return await self.field("a", "res") or b""

        while await eventually(result) != b"kept":
            await deferLater(reactor, 0.02)
