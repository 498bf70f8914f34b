"""Actions on many groups at once, over every broker."""

from typing import Any

from tests.support.brokers import OnMemory, OnRedis, OnSqlite
from tests.support.queues import QueueTestCase
from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs import bulk
from twisted_bulk.jobs.bulk import Action, BulkActions, BulkRecord, Step
from twisted_bulk.jobs.group_index import EVERY_GROUP, GroupFilter
from twisted_bulk.jobs.group_model import Group, GroupPart
from twisted_bulk.jobs.model import Ack


class BulkTests(QueueTestCase):
    """A plan, and what becomes of it."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.actions = BulkActions(self.queue)

    async def submit(self, *names: str, owner: str = "", parts: int = 1) -> None:
        part = GroupPart(size=2, payload=b"part")
        for name in names:
            group = Group(
                id=name, digest="d", spec=b"s", need=1, parts=[part] * parts, owner=owner,
                after=b"then",
            )  # fmt: skip
            await self.queue.submit(group)

    async def end(self, ok: int, count: int = 1) -> None:
        for job in await self.take(count=count):
            await self.queue.ack("w1", [Ack(job, ok, b"result", "" if ok == 2 else "timeout")])

    async def state(self, name: str) -> str:
        record = await self.queue.group(name)
        return record.state if record else ""

    async def record(self, bulk_id: str = "") -> BulkRecord:  # type: ignore[override]
        found = await self.actions.record(bulk_id)
        assert found is not None
        return found

    async def plan(
        self, action: Action, wanted: GroupFilter = EVERY_GROUP, value: str = "", *selected: str
    ) -> str:
        found = await self.actions.plan(action, value, "me", wanted, selected)
        assert found is not None
        return found

    async def run_all(self, bulk_id: str) -> list[str]:
        """Run it to its end; the ids of the groups that were changed."""
        await self.actions.begin(bulk_id)
        changed, outcome = list[str](), Step.MORE
        while outcome is Step.MORE:
            outcome, some = await self.actions.step(bulk_id, 0)
            changed += some
        self.assertEqual(outcome, Step.ENDED)
        return changed

    async def test_retry(self) -> None:
        """What has failed is queued again; a plan tells how many, and why the others are not."""
        await self.submit("whole", "some", "none", "waits")
        await self.end(2)
        await self.end(1)
        await self.end(0)
        planned = await self.plan(Action.RETRY)
        record = await self.record(planned)
        self.assertEqual((record.total, record.eligible, record.state), (4, 2, "planned"))
        self.assertEqual(record.left, {"nothing_failed": 1, "not_ended": 1})
        self.assertEqual((await self.actions.step(planned, 0))[0], Step.ENDED)  # not begun
        self.assertEqual(await self.state("none"), "failed")
        self.assertEqual(await self.run_all(planned), ["none", "some"])
        record = await self.record(planned)
        self.assertEqual((record.state, record.done, record.by), ("done", 2, "me"))
        self.assertEqual(record.left, {"nothing_failed": 1, "not_ended": 1})
        self.assertEqual(await self.state("none"), "queued")
        await self.check()

    async def test_each_once(self) -> None:
        """Several callers, none of whom knows what became of the one before."""
        self.patch(bulk, "KEEP_SECONDS", 60.0)
        names = [f"g{n:02}" for n in range(5)]
        await self.queue.control({"cap": 10_000})
        await self.submit(*names, parts=80)
        await self.end(1, 400)
        planned = await self.plan(Action.RETRY, GroupFilter(states=["partial"]))
        await self.actions.begin(planned)
        steps, seen = 0, list[str]()
        while True:
            outcome, some = await BulkActions(self.queue).step(planned, 0)
            seen, steps = seen + some, steps + 1
            await self.end(1, 80 * len(some))  # it ends as before: it could be tried again
            if outcome is not Step.MORE:
                break
        self.assertEqual((sorted(seen), steps), (names, 2))
        for name in names:
            record = await self.queue.group(name)
            assert record is not None
            self.assertEqual((record.state, record.runs), ("partial", 1))

    async def test_an_id_used_again(self) -> None:
        """A group that came after the plan, under the id of one that is gone, is left alone."""
        await self.submit("a")
        planned = await self.plan(Action.CANCEL)
        await self.queue.cancel_group("a")
        await self.queue.forget("a")
        await self.submit("a")
        key = f"{self.queue.prefix}bk:{planned}"
        frozen = await self.store.command("HGET", key, "frozen")
        await self.store.command("HSET", key, "frozen", int(frozen) - 1)  # of one millisecond
        self.assertEqual(await self.run_all(planned), [])
        self.assertEqual((await self.state("a"), (await self.record(planned)).left),
                         ("queued", {"changed": 1}))  # fmt: skip

    async def test_behind_many(self) -> None:
        """One that runs is found, however many are newer."""
        self.patch(bulk, "MAX_SHOWN", 2)
        await self.submit("a")
        first = await self.plan(Action.CANCEL)
        await self.actions.begin(first)
        for by in "1234":
            await self.actions.plan(Action.CANCEL, "", by, EVERY_GROUP)
        self.assertEqual([one.id for one in await self.actions.running()], [first])
        self.assertEqual(len(await self.actions.latest()), 2)
        self.assertEqual([one.id for one in await self.actions.latest("me")], [first])

    async def test_plan_in_steps(self) -> None:
        """A plan looks at groups with many jobs in several steps: others need the queue, too."""
        await self.queue.control({"cap": 10_000})
        await self.submit("a", "b", "c", "d", parts=900)
        script, steps = self.queue.script, list[str]()

        async def counted(name: str, *words: Any, **more: Any) -> Any:
            steps.append(name)
            return await script(name, *words, **more)

        self.patch(self.queue, "script", counted)
        planned = await self.plan(Action.CANCEL)
        self.assertEqual(steps.count("bulk_fill"), 2)
        record = await self.record(planned)
        self.assertEqual((record.total, record.eligible, record.state), (4, 4, "planned"))
        # So it is where the groups are selected by their ids.
        steps.clear()
        planned = await self.plan(Action.CANCEL, EVERY_GROUP, "", *"abcda")
        self.assertEqual(steps.count("bulk_fill"), 2)
        record = await self.record(planned)
        self.assertEqual((record.total, record.eligible, record.state), (4, 4, "planned"))

    async def test_dropped_while_it_is_made(self) -> None:
        """A plan is never begun in part: not while it is made, nor when its record was dropped."""
        self.patch(bulk, "MAX_LOOKED", 1)
        await self.submit("a", "b", "c")
        script, made = self.queue.script, list[str]()

        async def once(name: str, *words: Any, **more: Any) -> Any:
            if name == "bulk_fill" and made:
                self.assertIs(await self.actions.begin(made[0]), False)
                await script("bulk_drop", made[0])
            made.append(str(words[0]))
            return await script(name, *words, **more)

        self.patch(self.queue, "script", once)
        with self.assertRaises(Unavailable):
            await self.actions.plan(Action.CANCEL, "", "me", EVERY_GROUP)
        self.assertEqual(await self.actions.latest(), [])

    async def test_frozen(self) -> None:
        """Groups that changed since the plan, or came later, are left alone."""
        await self.submit("a", "b", "c")
        await self.end(1, 3)
        planned = await self.plan(Action.DELETE, GroupFilter(states=["partial"]))
        await self.submit("d")
        await self.end(1)
        await self.queue.again("b")
        key = f"{self.queue.prefix}bk:{planned}"
        await self.queue.forget("c")
        # So that the end of the next run is after the plan, however coarse the clock is.
        frozen = await self.store.command("HGET", key, "frozen")
        await self.store.command("HSET", key, "frozen", int(frozen) - 1)
        await self.store.command("HSET", f"{self.queue.prefix}g:a", "ended", int(frozen) - 1)
        await self.end(1)
        self.assertEqual(await self.run_all(planned), ["a"])
        self.assertEqual((await self.record(planned)).left, {"changed": 1, "unknown": 1})
        self.assertEqual(
            [await self.state(name) for name in "abcd"], ["", "partial", "", "partial"]
        )

    async def test_cancel_and_priority(self) -> None:
        """Both take groups that have not ended, also those that began since the plan."""
        await self.submit("a", "b", "c")
        await self.end(2)
        first = await self.plan(Action.PRIORITY, EVERY_GROUP, "7")
        self.assertEqual(await self.run_all(first), ["c", "b"])
        planned = await self.plan(Action.CANCEL)
        (job,) = await self.take(count=1)
        self.assertEqual((job.id[0], (await self.record(planned)).left), ("b", {"ended": 1}))
        self.assertEqual(await self.run_all(planned), ["c", "b"])
        self.assertEqual([await self.state(n) for n in "abc"], ["done", "cancelled", "cancelled"])

    async def test_notify(self) -> None:
        """Jobs that follow and have failed wait again."""
        await self.submit("a", "b")
        await self.end(2, 2)
        for job in (await self.calls.reserve("n", 2)).jobs:
            if job.id.startswith("a"):
                await self.calls.nack("n", job, 0, "503", fatal=True)
        planned = await self.plan(Action.NOTIFY)
        self.assertEqual((await self.record(planned)).left, {"not_undelivered": 1})
        self.assertEqual(await self.run_all(planned), ["a"])
        (job,) = (await self.calls.reserve("n", 2)).jobs
        self.assertEqual(job.id[0], "a")
        await self.check()

    async def test_selected(self) -> None:
        """Some by their ids; those of other owners, and unknown ones, are not found."""
        await self.submit("one:a", owner="one")
        await self.submit("two:b", owner="two")
        planned = await self.plan(
            Action.CANCEL, GroupFilter(owner="one"), "", "one:a", "one:a", "two:b", "none"
        )
        self.assertEqual((await self.record(planned)).total, 1)
        self.assertEqual(await self.run_all(planned), ["one:a"])
        self.assertEqual(await self.state("two:b"), "queued")

    async def test_full(self) -> None:
        """Without room in the queue it waits, and goes on when there is room."""
        await self.submit("a")
        await self.submit("b", parts=2)
        await self.end(1, 3)
        planned = await self.plan(Action.RETRY)
        await self.queue.control({"cap": 2})
        await self.actions.begin(planned)
        # The large one has no room; a smaller one behind it has.
        self.assertEqual(await self.actions.step(planned, 0), (Step.MORE, ["a"]))
        self.assertEqual(await self.actions.step(planned, 0), (Step.FULL, []))
        await self.queue.control({"cap": None})
        self.assertEqual(await self.actions.step(planned, 0), (Step.ENDED, ["b"]))
        self.assertEqual((await self.record(planned)).done, 2)

    async def test_stop(self) -> None:
        """One that is stopped changes nothing more; a second start changes nothing either."""
        await self.queue.control({"cap": 10_000})
        await self.submit("a", "b", "c", parts=150)
        planned = await self.plan(Action.CANCEL)
        self.assertIs(await self.actions.stop(planned), False)
        await self.actions.begin(planned)
        self.assertEqual(await self.actions.step(planned, 0), (Step.MORE, ["c", "b"]))
        self.assertIs(await self.actions.stop(planned), True)
        self.assertIs(await self.actions.begin(planned), False)
        self.assertEqual(await self.actions.step(planned, 0), (Step.ENDED, []))
        self.assertEqual(await self.state("a"), "queued")
        record = await self.record(planned)
        self.assertEqual((record.state, record.done, record.total), ("stopped", 2, 3))
        other = await self.plan(Action.CANCEL)
        self.assertEqual([one.id for one in await self.actions.latest()], [other, planned])
        self.assertIsNone(await self.actions.begin("none"))

    async def test_bounded(self) -> None:
        """Of a token's plans the latest three stay, and three actions of it run at once."""
        await self.submit("a")
        await self.actions.plan(Action.CANCEL, "", "other", EVERY_GROUP)
        plans = [await self.plan(Action.CANCEL) for _ in range(5)]
        kept = [one.id for one in await self.actions.latest("me")]
        self.assertEqual(kept, plans[:1:-1])
        self.assertEqual(sum(":bi:" in key for key in await self.keys()), 4)
        self.assertIsNone(await self.actions.begin(plans[0]))
        for plan in plans[2:]:
            await self.actions.begin(plan)
        last = await self.plan(Action.CANCEL)
        with self.assertRaises(Unavailable):
            await self.actions.begin(last)
        for other in await self.actions.latest("other"):
            await self.actions.begin(other.id)
        await self.actions.step(plans[-1], 0)
        await self.actions.begin(last)
        for _ in range(60):
            await self.plan(Action.CANCEL)
        self.assertLessEqual(len([key for key in await self.keys() if ":bk:" in key]), 55)
        self.assertEqual(len(await self.actions.latest("other")), 1)

    async def test_broken_plans(self) -> None:
        """Of plans whose client went away while they were made no more stay than of others."""
        self.patch(bulk, "MAX_LOOKED", 1)
        await self.submit("a", "b", "c")
        words = ["cancel", "", "me", 60_000, *EVERY_GROUP.words, "", 1]
        for number in range(9):
            await self.queue.script("bulk_fill", f"p{number}", *words)
        states = [one.state for one in await self.actions.latest()]
        self.assertEqual(states, ["finding"] * 3)

    async def test_too_many(self) -> None:
        """A plan for too many groups is none."""
        self.patch(bulk, "MAX_GROUPS", 2)
        await self.submit("a", "b", "c")
        self.assertIsNone(await self.actions.plan(Action.CANCEL, "", "me", EVERY_GROUP))
        self.assertEqual(await self.actions.latest(), [])
        self.assertFalse([key for key in await self.keys() if ":bi:" in key])


class RedisBulkTests(OnRedis, BulkTests):
    """On Redis."""


class SqliteBulkTests(OnSqlite, BulkTests):
    """In a file."""


class MemoryBulkTests(OnMemory, BulkTests):
    """In memory."""


del BulkTests
