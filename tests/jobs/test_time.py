"""The queue's time, while the server's clock is put forward and back."""

from typing import Any

from tests.support.brokers import Broker
from tests.support.reactor import reactor
from twisted_bulk.brokers.sqlite import MEMORY, SqliteStore
from twisted_bulk.jobs.group_model import Group, GroupPart
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.jobs.model import LEASE_SECONDS, Ack, Job, Work
from twisted_bulk.jobs.scripted import ScriptedQueue

HOUR, DAY = 3600.0, 86400.0


class TimeTests(Broker):
    """Two nodes beside a server whose clock the test sets; its scripts are Redis's."""

    def make(self) -> Any:
        self.true = 1_000_000_000.0  # seconds that have really passed
        self.wrong = 0.0  # what was added to the server's clock
        return SqliteStore(reactor, MEMORY, now=lambda: self.true + self.wrong)

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.nodes = [self.node(), self.node()]
        self.queue, self.calls = self.nodes[0]
        await self.live(3)

    def node(self) -> tuple[GroupQueue, ScriptedQueue]:
        calls = ScriptedQueue(self.store, "calls", monotonic=lambda: self.true)
        return GroupQueue(self.store, "parts", 100, calls), calls

    async def live(self, seconds: int, keep: float = 7 * DAY, job: Job | None = None) -> None:
        """Let time pass, with all that nodes do each second."""
        for _ in range(seconds):
            self.true += 1
            for parts, calls in self.nodes:
                parts._monotonic = lambda: self.true
                await parts.maintain(keep)
                await calls.maintain(keep)
            if job is not None:
                self.assertEqual((await self.calls.beat("w1", [(job, 0, b"")])).lost, set())

    async def jump(self, seconds: float) -> None:
        """Put the server's clock forward, and let a worker ask before anybody has noticed."""
        self.wrong += seconds
        await self.calls.reserve("w2", 9)

    async def put(self, **options: Any) -> Job:
        await self.calls.enqueue([Work(id="a", payload=b"x", **options)])
        (job,) = (await self.calls.reserve("w1", 1)).jobs
        return job

    async def state(self) -> str:
        record = await self.calls.job("a")
        return record.state if record else "gone"

    async def test_leases(self) -> None:
        """A step takes nothing from a worker that lives.

        Fails on ecffb8f: the job is another's at once.
        """
        job = await self.put()
        for step in (8 * DAY, -HOUR, 10, -16 * DAY):
            await self.jump(step)
            self.assertEqual(await self.state(), "doing")
            await self.live(3, job=job)
            await self.live(40, job=job)
            self.assertEqual(await self.state(), "doing")

    async def test_lease_runs_out_all_the_same(self) -> None:
        """One whose worker died at the moment of the step is free a lease later."""
        job = await self.put()
        for units, step in enumerate((8 * DAY, -8 * DAY), 1):
            self.wrong += step
            await self.calls.beat("w1", [(job, units, b"")])
            for _ in range(int(LEASE_SECONDS) + 15):
                await self.live(1)
                await self.calls.beat("w3", [])  # somebody lives
            (job,) = (await self.calls.reserve("w1", 9)).jobs

    async def test_due(self) -> None:
        """What is to be tried in a minute is tried in a minute, wherever the clock goes.

        Fails on ecffb8f: an hour back, and it is tried an hour later.
        """
        job = await self.put(tries=9)
        for step in (-HOUR, 8 * DAY):
            await self.calls.nack("w1", job, 60, "x")
            self.wrong += step
            await self.live(50)
            self.assertEqual((await self.calls.reserve("w1", 9)).jobs, [])
            await self.live(12)
            (job,) = (await self.calls.reserve("w1", 9)).jobs

    async def test_expiry(self) -> None:
        """Nothing has waited too long because the clock was put forward."""
        await self.calls.enqueue([Work(id="a", payload=b"x", expires=HOUR)])
        self.wrong += 2 * HOUR
        await self.live(3)
        self.assertEqual(await self.state(), "todo")
        await self.live(3)
        self.true += HOUR - 10
        await self.live(20)
        self.assertEqual(await self.state(), "dead")

    async def test_records(self) -> None:
        """Eight days forward, and every record is there still.

        Fails on ecffb8f: all that had ended is gone within a minute.
        """
        await self.calls.ack("w1", [Ack(await self.put())])
        part = GroupPart(size=1, payload=b"x")
        await self.queue.submit(Group(id="g", digest="", spec=b"", need=1, parts=[part]))
        (job,) = (await self.queue.reserve("w1", 1)).jobs
        await self.queue.ack("w1", [Ack(job)])
        await self.jump(8 * DAY)
        await self.live(90)
        self.assertEqual(await self.state(), "done")
        self.assertIsNotNone(await self.queue.group("g"))

    async def test_absence(self) -> None:
        """After two days without anybody retention first goes on as if there had been none, then
        catches up: not more than else in four hours each hour."""
        await self.calls.ack("w1", [Ack(await self.put())])
        self.true += 6 * HOUR
        self.nodes = [self.node()]
        self.queue, self.calls = self.nodes[0]
        keep = HOUR
        await self.live(110, keep)
        self.assertEqual(await self.state(), "done")
        await self.live(850, keep)  # 120 s as they come, then four for each
        self.assertEqual(await self.state(), "done")
        await self.live(60, keep)
        self.assertEqual(await self.state(), "gone")

    async def test_shown(self) -> None:
        """Times are shown as the server's clock has them now, with the right time between them."""
        await self.put()
        await self.live(5)
        self.wrong += DAY
        await self.live(5)
        record = await self.calls.job("a")
        assert record is not None
        self.assertAlmostEqual(record.enqueued, self.true + self.wrong - 10, delta=2.5)

    async def test_queued_before_it_is_found(self) -> None:
        """What is queued between the step and the next tick begins, is due, and expires in time.

        A line is not held up by a job that was queued "tomorrow".
        """
        self.wrong += DAY
        for name, options in (("now", {}), ("later", {"delay": 60}), ("late", {"expires": 60})):
            work = Work(id=name, payload=b"", **options)  # type: ignore[arg-type]
            await self.calls.enqueue([work])
        await self.live(1)
        await self.calls.beat("w2", [])  # so that "late" ones have to wait
        reserved = await self.calls.reserve("w1", 1, late=9)
        self.assertEqual([job.id for job in reserved.jobs], ["now", "late"])
        await self.calls.release("w1", reserved.jobs[1:])
        await self.live(50)
        self.assertEqual([job.id for job in (await self.calls.reserve("w1", 9)).jobs], ["late"])
        await self.live(12)
        self.assertEqual([job.id for job in (await self.calls.reserve("w1", 9)).jobs], ["later"])

    async def test_frozen_server(self) -> None:
        """A server that stands still for a minute while it is asked has not stepped."""
        run = self.calls.script
        asked: list[str] = []

        async def frozen(name: str, *words: Any, deadline: float = 10.0) -> Any:
            asked.append(name)
            if asked == ["maintain"]:
                self.true += 60
            return await run(name, *words, deadline=deadline)

        self.patch(self.calls, "script", frozen)
        self.assertEqual((await self.calls.maintain(DAY)).step, 0)
        self.assertAlmostEqual((await self.calls.stats()).now, self.true, delta=1)

    async def test_told(self) -> None:
        """The step is told once."""
        self.wrong -= HOUR
        self.true += 1
        steps = [(await queue.maintain(DAY)).step for node in self.nodes for queue in node]
        self.assertAlmostEqual(steps[0], -HOUR, delta=2)
        self.assertEqual(steps[1:], [0, 0, 0])

    async def test_a_node_that_slept(self) -> None:
        """A node whose own clock stood still does not stop the others' time."""
        slept = self.nodes.pop()
        at = self.true
        slept[0]._monotonic = lambda: at
        await self.live(600)
        before = (await self.queue.stats()).now
        await slept[0].maintain(DAY)
        await self.live(10)
        self.assertAlmostEqual((await self.queue.stats()).now, before + 10, delta=1)


del Broker  # trial would run it
