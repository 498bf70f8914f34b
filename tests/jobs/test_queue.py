"""The state machine of jobs: one suite, over every broker."""

import random
from collections import Counter
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.support.brokers import OnMemory, OnRedis, OnSqlite
from tests.support.queues import QueueTestCase
from tests.support.reactor import reactor
from twisted_bulk.errors import ConfigError, QueueFull
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.jobs.model import Ack, Acked, Alone, Job, Queued, Work


class JobTests(QueueTestCase):
    """Single jobs."""

    async def test_first_in_first_out_by_priority(self) -> None:
        """Higher priority first, head of the line within one, else in order."""
        await self.put("a", "b")
        await self.put("c", priority=1)
        await self.put("d", first=True)
        await self.put("e", priority=-1)
        jobs = await self.take()
        self.assertEqual([job.id for job in jobs], ["c", "d", "a", "b", "e"])
        self.assertEqual({job.attempt for job in jobs}, {1})
        await self.check()

    async def test_known_id(self) -> None:
        """A replayed enqueue adds nothing."""
        await self.put("a")
        self.assertEqual(
            await self.queue.enqueue([Work(id="a", payload=b"x")]), [Queued("a", False)]
        )
        self.assertEqual([job.payload for job in await self.take()], [b"a"])

    async def test_opaque_bytes(self) -> None:
        """Payloads come back as they were, whatever they look like."""
        for payload in (b"007", b"1_000", b"+5 ", b"\x00\xff\r\n", b"1.10", b"nil"):
            await self.queue.enqueue([Work(id=payload.hex(), payload=payload)])
            (job,) = await self.take()
            self.assertEqual(job.payload, payload)

    async def test_ack(self) -> None:
        """An ack counts once, its replay is recognised, a stranger's does nothing."""
        await self.put("a")
        (job,) = await self.take()
        self.assertEqual(await self.ack("w2", job, 1, b""), Acked.STALE)
        self.assertEqual(await self.ack("w1", job, 1, b""), Acked.RECORDED)
        self.assertEqual(await self.ack("w1", job, 1, b""), Acked.REPEATED)
        other = Job(id="zz", attempt=1, attachment="", payload=b"")
        self.assertEqual(await self.ack("w1", other, 1, b""), Acked.UNKNOWN)
        await self.check()

    async def test_fence(self) -> None:
        """A worker that lost its lease can neither ack nor nack nor beat."""
        await self.put("a")
        (late,) = await self.take("w1")
        await self.due("doing")
        (now,) = await self.take("w2")
        self.assertEqual(now.attempt, 2)
        self.assertEqual(await self.lost("w1", late), {"a"})
        self.assertFalse(await self.queue.nack("w1", late, 0, "x", True))
        self.assertEqual(await self.ack("w1", late, 1, b"late"), Acked.STALE)
        self.assertEqual(await self.queue.release("w1", [late]), 0)
        self.assertEqual(await self.ack("w2", now, 1, b"now"), Acked.RECORDED)
        await self.check()

    async def test_work_done_though_lease_ran_out(self) -> None:
        """Nobody has taken the job yet, so its late worker's result counts."""
        await self.put("a")
        (job,) = await self.take("w1")
        await self.due("doing")
        await self.queue.maintain(keep=60)
        self.assertEqual(await self.ack("w1", job, 1, b""), Acked.RECORDED)
        self.assertEqual(await self.take("w2"), [])
        await self.check()

    async def test_beat_keeps_the_lease(self) -> None:
        """A heartbeat moves the lease's end forward."""
        await self.put("a")
        (job,) = await self.take()
        await self.due("doing")
        self.assertEqual(await self.lost("w1", job), frozenset())
        self.assertEqual(await self.take("w2"), [])

    async def test_nack_delays(self) -> None:
        """A failed job is due again later, after its last attempt it is dead."""
        await self.put("a", tries=2)
        (job,) = await self.take()
        self.assertTrue(await self.queue.nack("w1", job, 60, "no luck", False))
        reserved = await self.queue.reserve("w1", 1)
        self.assertEqual((reserved.supply, reserved.jobs), ("empty", []))
        self.assertTrue(reserved.wait is not None and 55 < reserved.wait <= 60)
        await self.due("later")
        (job,) = await self.take()
        self.assertEqual(job.attempt, 2)
        self.assertTrue(await self.queue.nack("w1", job, 60, "again", False))
        record = await self.record()
        self.assertEqual((record.state, record.why, record.error), ("dead", "retries", "again"))
        await self.check()

    async def test_release(self) -> None:
        """A released job is next in line, with no attempt used up."""
        await self.put("a", "b", tries=1)
        first, _second = await self.take(count=2)
        self.assertEqual(await self.queue.release("w1", [first]), 1)
        (again,) = await self.take("w2")
        self.assertEqual((again.id, again.attempt), ("a", 1))
        await self.check()

    async def test_release_for_later(self) -> None:
        """A released job may have to wait before it is taken again; it loses no attempt."""
        await self.put("a", tries=1)
        (job,) = await self.take()
        self.assertEqual(await self.queue.release("w1", [job], 0.2), 1)
        self.assertEqual((await self.record()).state, "later")
        self.assertEqual(await self.take(), [])
        await deferLater(reactor, 0.25)
        (again,) = await self.take("w2")
        self.assertEqual((again.id, again.attempt), ("a", 1))
        await self.check()

    async def test_reconcile(self) -> None:
        """What a lost reply reserved goes back; what is held stays."""
        await self.put("a", "b")
        held, _lost = await self.take(count=2)
        self.assertEqual(await self.queue.reconcile("w1", [held]), 1)
        self.assertEqual([job.id for job in await self.take("w2")], ["b"])
        await self.check()

    async def test_reclaim(self) -> None:
        """The jobs of a dead worker are free at once."""
        await self.put("a", tries=2)
        await self.take("w1")
        self.assertEqual(await self.queue.reclaim("w1"), 1)
        self.assertEqual([job.attempt for job in await self.take("w2")], [2])
        await self.check()

    async def test_lost_leases_use_up_no_try(self) -> None:
        """However many workers die, a job of which something gets further has all its tries.

        Fails on ecffb8f: three losses bury it, and each uses up a try.
        """
        await self.put("a", tries=2)
        for units in range(1, 9):
            (job,) = await self.take("w1")
            await self.lost("w1", job, units)
            await self.queue.reclaim("w1")
        (job,) = await self.take("w1")
        self.assertEqual((job.attempt, (await self.record()).lost), (9, 0))
        self.assertTrue(await self.queue.nack("w1", job, 0, "x"))
        (job,) = await self.take("w1")
        self.assertTrue(await self.queue.nack("w1", job, 0, "x"))
        self.assertEqual((await self.record()).why, "retries")
        await self.check()

    async def test_kept_work(self) -> None:
        """What is on the disk of a dead worker is progress, also where it had no time to say so."""
        await self.put("a")
        for kept in range(1, 9):
            (job,) = await self.take("w1")
            await self.queue.reclaim("w1", {job.id: kept})
        self.assertEqual((await self.record()).lost, 0)
        for lost in (1, 2):  # no further than before
            (job,) = await self.take("w1")
            await self.queue.reclaim("w1", {job.id: 8})
            self.assertEqual((await self.record()).lost, lost)
        self.assertEqual(await self.take("w1"), [])
        await self.check()

    async def suspect(self, job: str = "a") -> None:
        """Make it one."""
        await self.put(job, tries=2, losses=3)
        for _ in range(2):
            self.assertEqual([one.id for one in await self.take("dies")], [job])
            await self.queue.reclaim("dies")

    async def alone(self, worker: str, alone: Alone = Alone.YES) -> Sequence[Job]:
        return (await self.queue.reserve(worker, 10, alone=alone)).jobs

    async def test_suspect(self) -> None:
        """A job that has lost two workers, and got no further, is given out alone only."""
        await self.suspect("a")
        await self.suspect("b")
        await self.put("c")
        self.assertEqual((await self.queue.stats()).suspects, 2)
        reserved = await self.queue.reserve("w1", 10)
        self.assertEqual(([job.id for job in reserved.jobs], reserved.suspects), (["c"], 2))
        self.assertEqual([job.id for job in await self.alone("w2")], ["a"])
        await self.check()

    async def test_suspect_that_is_none(self) -> None:
        """One whose worker lives is as good as any; one that gets further is, too."""
        await self.suspect()
        (job,) = await self.alone("w1")
        self.assertTrue(await self.queue.nack("w1", job, 0, "x"))
        self.assertEqual([one.id for one in await self.take("w1")], ["a"])
        await self.queue.cancel("a")
        await self.suspect("b")
        (job,) = await self.alone("w1")
        await self.lost("w1", job, 1)
        await self.queue.reclaim("w1", blamed=True)
        self.assertEqual([one.id for one in await self.take("w1")], ["b"])
        await self.check()

    async def test_poison(self) -> None:
        """A job that loses three workers that had nothing else, and gets no further, is buried."""
        await self.suspect()
        for _ in range(3):
            self.assertEqual(len(await self.alone("w1")), 1)
            await self.queue.reclaim("w1")
        self.assertEqual((await self.record()).why, "poison")
        await self.check()

    async def test_not_blamed(self) -> None:
        """Where others die with the worker, or its lease runs out, the job is not blamed."""
        await self.suspect()
        for _ in range(9):
            self.assertEqual(len(await self.alone("w1", Alone.WATCHED)), 1)
            await self.queue.reclaim("w1")
            self.assertEqual(len(await self.alone("w1", Alone.WATCHED)), 1)
            await self.due("doing")
            await self.queue.maintain(keep=60)
        for _ in range(3):
            self.assertEqual((await self.record()).why, "")
            self.assertEqual(len(await self.alone("w1", Alone.WATCHED)), 1)
            await self.queue.reclaim("w1", blamed=True)
        self.assertEqual((await self.record()).why, "poison")
        await self.check()

    async def test_suspects_are_jobs(self) -> None:
        """They are given back, cancelled, expire, and change their place as others do."""
        for name in "abcde":
            await self.suspect(name)
        self.assertTrue(await self.queue.cancel("a"))
        self.assertTrue(await self.queue.prioritise("c", 5))
        (job,) = await self.alone("w1")
        self.assertEqual(job.id, "c")
        self.assertEqual(await self.queue.release("w1", [job]), 1)
        # It ran alone and its worker lives: it is as good as any.
        self.assertEqual([one.id for one in await self.take("w1")], ["c"])
        self.assertEqual([one.id for one in await self.alone("w1")], ["b"])
        record = await self.record("e")
        self.assertEqual((record.state, record.place), ("todo", 1))
        await self.check()

    async def test_expiry(self) -> None:
        """A job that waited too long never starts."""
        await self.put("a", expires=60)
        await self.due("exp")
        self.assertEqual(await self.take(), [])
        await self.check()

    async def test_expiry_is_for_the_start(self) -> None:
        """One that has started may begin anew, however late that is."""
        await self.put("a", expires=60)
        (job,) = await self.take()
        await self.queue.release("w1", [job])
        await self.due("exp")
        await self.queue.maintain(keep=60)
        self.assertEqual(len(await self.take()), 1)
        await self.check()

    async def test_living_holder(self) -> None:
        """After an outage longer than the lease, whoever still works keeps the job."""
        await self.put("a")
        (job,) = await self.take("w1")
        for _ in range(4):  # more often than it might lose its worker
            await self.due("doing")
            await self.queue.maintain(keep=60)
            self.assertEqual(await self.lost("w1", job), frozenset())
            await self.check()
        self.assertEqual(await self.take("w2"), [])
        self.assertEqual(await self.ack("w1", job, 1, b""), Acked.RECORDED)
        await self.check()

    async def test_cancel(self) -> None:
        """A waiting job is gone; a running one's worker hears of it with the next beat."""
        await self.put("a", "b")
        (job,) = await self.take(count=1)
        self.assertTrue(await self.queue.cancel("b"))
        self.assertTrue(await self.queue.cancel("a"))
        self.assertFalse(await self.queue.cancel("a"))
        beaten = await self.queue.beat("w1", [(job, 0, b"")])
        self.assertEqual((beaten.lost, beaten.cancelled), ({"a"}, {"a"}))
        self.assertEqual(await self.ack("w1", job, 1, b""), Acked.STALE)
        await self.check()

    async def test_cap(self) -> None:
        """Over the cap nothing is stored; what ends makes room."""
        await self.put("a", size=60)
        with self.assertRaises(QueueFull):
            await self.put("b", size=50)
        (job,) = await self.take()
        await self.ack("w1", job, 60, b"")
        await self.put("b", size=50)
        await self.check()

    async def test_many(self) -> None:
        """Hundreds in one call, and more than one call takes."""
        self.queue.cap = 5000
        work = [Work(id=f"{n:04}", payload=b"%d" % n) for n in range(1200)]
        self.assertTrue(all(queued.new for queued in await self.queue.enqueue(work)))
        jobs = await self.take(count=5000)
        self.assertEqual(len(jobs), 500)
        jobs = [*jobs, *await self.take(count=500), *await self.take(count=500)]
        self.assertEqual([job.id for job in jobs], [one.id for one in work])
        acked = await self.queue.ack("w1", [Ack(job) for job in jobs[:500]])
        self.assertEqual(acked, [Acked.RECORDED] * 500)
        await self.check()

    async def test_bytes(self) -> None:
        """A reserve stops before its bytes are used up, but takes at least one."""
        big = b"x" * 1000
        await self.queue.enqueue([Work(id=i, payload=big) for i in "abc"])
        jobs = (await self.queue.reserve("w1", 9, max_bytes=2500)).jobs
        self.assertEqual([(job.id, job.payload) for job in jobs], [("a", big), ("b", big)])
        self.assertEqual(len((await self.queue.reserve("w1", 9, max_bytes=1)).jobs), 1)
        await self.check()

    async def test_digest(self) -> None:
        """Of twins one is queued, until it ends; a failure does not stand in the way."""
        await self.put("a", digest="d")
        self.assertEqual(
            await self.queue.enqueue([Work(id="b", payload=b"", digest="d")]), [Queued("a", False)]
        )
        (job,) = await self.take()
        self.assertEqual(
            await self.queue.enqueue([Work(id="b", payload=b"", digest="d")]), [Queued("a", False)]
        )
        await self.queue.nack("w1", job, 0, "x", fatal=True)
        (queued,) = await self.queue.enqueue([Work(id="b", payload=b"", digest="d")])
        self.assertTrue(queued.new)
        (job,) = await self.take()
        await self.ack("w1", job)
        (queued,) = await self.queue.enqueue([Work(id="c", payload=b"", digest="d")])
        self.assertTrue(queued.new)
        await self.check()

    async def test_window(self) -> None:
        """After a success twins are dropped for a while."""
        twin = Work(id="b", payload=b"", digest="d", window=0.05)
        await self.put("a", digest="d", window=0.05)
        (job,) = await self.take()
        await self.ack("w1", job)
        self.assertEqual(await self.queue.enqueue([twin]), [Queued("a", False)])
        while not (await self.queue.enqueue([twin]))[0].new:
            await deferLater(reactor, 0.01)
        await self.check()

    async def test_prioritise(self) -> None:
        """A job moves to its place in another priority, also when it comes back later."""
        await self.put("a", "b", "c")
        self.assertTrue(await self.queue.prioritise("c", 3))
        self.assertTrue(await self.queue.prioritise("a", -8000))
        self.assertFalse(await self.queue.prioritise("none", 1))
        jobs = await self.take()
        self.assertEqual([job.id for job in jobs], ["c", "b", "a"])
        await self.queue.prioritise("a", 1)
        await self.queue.release("w1", jobs)
        self.assertEqual([job.id for job in await self.take()], ["c", "a", "b"])
        await self.check()

    async def test_revive(self) -> None:
        """A job that failed is queued again with its payload and all its tries."""
        long = b"long" * 50
        await self.queue.enqueue([Work(id="a", payload=long, tries=1, digest="d")])
        self.assertFalse(await self.queue.revive("a"))
        (job,) = await self.take()
        await self.queue.nack("w1", job, 0, "broken")
        self.assertEqual((await self.record()).error, "broken")
        self.assertEqual(await self.queue.dead(), (["a"], ""))
        ids, cursor = await self.queue.dead(limit=1)
        self.assertEqual((ids, await self.queue.dead(cursor)), (["a"], ([], "")))
        self.assertTrue(await self.queue.revive("a"))
        self.assertEqual(await self.queue.dead(), ([], ""))
        self.assertFalse(await self.queue.revive("a"))
        (job,) = await self.take()
        self.assertEqual((job.attempt, job.payload), (1, long))
        await self.queue.nack("w1", job, 0, "broken")
        await self.put("b", digest="d")
        self.assertFalse(await self.queue.revive("a"))  # its twin waits
        await self.check()

    async def test_flags(self) -> None:
        """Paused, nothing is taken; stopped neither; those who work go on."""
        await self.put("a", "b")
        (job,) = await self.take(count=1)
        for flag in ("paused", "stop"):
            await self.queue.control({flag: True})
            self.assertEqual((await self.queue.reserve("w1", 1)).supply, flag)
            beaten = await self.queue.beat("w1", [(job, 0, b"")])
            self.assertEqual((beaten.paused, beaten.stop), (flag == "paused", flag == "stop"))
            self.assertFalse(beaten.lost)
            await self.queue.control({flag: False})
        self.assertEqual(len(await self.take()), 1)
        with self.assertRaises(ConfigError):
            await self.queue.control({"pausd": True})
        with self.assertRaises(ConfigError):
            await self.queue.control({"qps": 0})

    async def test_max_doing(self) -> None:
        """As many run at once as may, over all workers."""
        await self.put(*"abcde")
        await self.queue.control({"max_doing": 3})
        self.assertEqual(len(await self.take("w1", 2)), 2)
        (job,) = await self.take("w2", 2)
        self.assertEqual((await self.queue.reserve("w3", 2)).supply, "full")
        await self.ack("w2", job)
        self.assertEqual(len(await self.take("w3")), 1)
        await self.queue.control({"max_doing": None})
        self.assertEqual(len(await self.take("w3")), 1)
        await self.check()

    async def test_live_cap(self) -> None:
        """The cap may be changed while all run."""
        await self.queue.control({"cap": 2})
        with self.assertRaises(QueueFull):
            await self.put("a", "b", "c")
        await self.queue.control({"cap": 3})
        await self.put("a", "b", "c")
        with self.assertRaises(QueueFull):
            await self.queue.check_room(1)
        await self.check()

    async def test_rate(self) -> None:
        """One worker is told how long to wait for the next start."""
        await self.put(*(f"{n}" for n in range(50)))
        await self.queue.control({"qps": 2})
        self.assertEqual(len(await self.take("w1", 9)), 1)
        reserved = await self.queue.reserve("w2", 9)
        self.assertEqual((reserved.supply, len(reserved.jobs)), ("rate", 0))
        self.assertTrue(reserved.wait is not None and 0.2 < reserved.wait <= 0.5)

    async def test_hold(self) -> None:
        """After an outage nothing is reclaimed before workers had time to beat."""
        await self.put("a")
        (job,) = await self.take("w1")
        await self.due("doing")
        meta = self.queue.prefix + "meta"
        await self.store.command("HSET", meta, "alive", 1)  # nobody has been heard since 1970
        await self.queue.maintain(keep=60)
        self.assertEqual(await self.take("w2"), [])
        await self.queue.maintain(keep=60)
        self.assertEqual(await self.lost("w1", job), frozenset())
        self.assertEqual((await self.record()).lost, 0)
        await self.due("doing")
        await self.store.command("HSET", meta, "hold", 1)  # the time is over
        self.assertEqual(len(await self.take("w2")), 1)
        self.assertEqual((await self.record()).lost, 1)
        await self.check()

    async def test_trim(self) -> None:
        """Records go by age, and all but the last so many."""
        await self.put(*"abcde")
        for job in await self.take():
            await self.ack("w1", job)
            await deferLater(reactor, 0.002)
        await self.queue.maintain(keep=60, count=2)
        self.assertEqual((await self.queue.stats()).counts["done"], 2)
        self.assertIsNone(await self.queue.job("a"))
        self.assertIsNotNone(await self.queue.job("e"))
        await self.due("done")
        await self.queue.maintain(keep=60)
        self.assertEqual((await self.queue.stats()).counts["done"], 0)
        await self.check()

    async def test_record(self) -> None:
        """Where a job stands, from its place in line to its result."""
        self.assertIsNone(await self.queue.job("a"))
        await self.put("z", "a")
        record = await self.record()
        self.assertEqual((record.state, record.place, record.tries), ("todo", 1, 0))
        _, job = await self.take()
        await self.lost("w1", job)
        record = await self.record()
        self.assertEqual((record.state, record.worker, record.progress), ("doing", "w1", b"p"))
        await self.ack("w1", job, 1, b"result")
        record = await self.record()
        self.assertEqual((record.state, record.result, record.place), ("done", b"result", None))
        assert record.started is not None and record.ended is not None
        self.assertTrue(record.enqueued <= record.started <= record.ended)

    async def test_stats(self) -> None:
        """Counts by state, what happened in this minute, who holds what."""
        self.assertIsNone((await self.queue.stats()).empty)
        await self.put(*"abcdef", size=2)
        await self.put("g", delay=60)
        await self.put("h", digest="d")
        await self.put("i", digest="d")
        jobs = await self.take("w1", 5)
        await self.ack("w1", jobs[0], 2)
        await self.queue.nack("w1", jobs[1], 60, "x")
        await self.queue.nack("w1", jobs[2], 60, "x", fatal=True)
        await self.queue.reclaim("w1")
        await self.take("w2", 1)
        stats = await self.queue.stats()
        self.assertEqual(stats.counts, {"todo": 3, "later": 2, "doing": 1, "done": 1, "dead": 1})
        self.assertEqual((stats.backlog, stats.empty), (10, None))
        events = Counter(stats.minutes[0]) + Counter(stats.minutes[1])
        del events["busy"]
        self.assertEqual(
            events,
            {"enqueued": 8, "duplicate": 1, "started": 6, "done": 1, "units": 2, "retried": 1,
             "failed": 1, "lost": 2},
        )  # fmt: skip
        (worker,) = stats.workers
        self.assertEqual((worker.id, worker.holds, worker.jobs), ("w2", 1, ["d"]))
        self.assertLess(worker.silent, 10)

    async def test_empty_since(self) -> None:
        """The queue knows since when there has been nothing to do."""
        await self.put("a")
        (job,) = await self.take()
        self.assertIsNone((await self.queue.stats()).empty)
        await self.ack("w1", job)
        empty = (await self.queue.stats()).empty
        self.assertTrue(empty is not None and empty < 10)
        await self.put("b", delay=60)
        self.assertIsNone((await self.queue.stats()).empty)

    async def test_empty_from_the_start(self) -> None:
        """Also a queue in which nothing ever was is empty since somebody looked."""
        await self.take()
        empty = (await self.queue.stats()).empty
        self.assertTrue(empty is not None and empty < 10)

    async def test_many_expired(self) -> None:
        """One call does not bury any number of jobs."""
        self.queue = GroupQueue(self.store, "many", 10_000, self.queue.after)
        await self.put(*(f"e{n}" for n in range(1300)), expires=0.01)
        await self.put("a")
        await deferLater(reactor, 0.02)
        first = await self.queue.reserve("w1", 1)
        self.assertEqual((first.supply, first.wait, first.jobs), ("empty", 0, []))
        (job,) = await self.take()
        self.assertEqual(job.id, "a")

    async def test_rate_raised(self) -> None:
        """A higher rate counts at once."""
        await self.put("a", "b")
        await self.queue.control({"qps": 0.001})
        await self.take("w1", 1)
        await self.queue.control({"qps": 1000})
        reserved = await self.queue.reserve("w1", 1)
        self.assertTrue(reserved.jobs or (reserved.wait is not None and reserved.wait < 1))

    async def test_reply_of_a_second_attempt_lost(self) -> None:
        """What the server thinks that we hold is given back, though we hold it from before."""
        await self.put("a")
        (job,) = await self.take("w1")
        await self.due("doing")
        await self.queue.reserve("w1", 1)  # its reply is lost
        self.assertEqual(await self.queue.reconcile("w1", [job]), 1)
        (again,) = await self.take("w2")
        self.assertEqual(again.attempt, 2)

    async def test_heard(self) -> None:
        """Whoever listens is told of what can be taken."""
        heard: Deferred[None] = Deferred()
        self.queue.listen(lambda: None if heard.called else heard.callback(None))
        while not heard.called:
            await self.put(f"{reactor.seconds()}")
            await deferLater(reactor, 0.01)

    async def test_random_walk(self) -> None:
        """Whatever happens in whatever order, every job is in exactly one state."""
        dice = random.Random(7)
        held: list[tuple[str, Job]] = []
        for step in range(600):
            worker = dice.choice(("w1", "w2", "w3"))
            roll = dice.random()
            if roll < 0.25:
                await self.put(
                    f"j{step}",
                    first=dice.random() < 0.2,
                    digest=dice.choice(("", "", "x", "y")),
                    priority=dice.randint(-2, 2),
                    delay=dice.choice((0, 0, 60)),
                    tries=dice.randint(1, 3),
                    expires=dice.choice((0, 0, 60)),
                )
            elif roll < 0.5:
                held += [(worker, job) for job in await self.take(worker, dice.randint(1, 3))]
            elif roll < 0.9 and held:
                owner, job = held.pop(dice.randrange(len(held)))
                action = dice.randrange(7)
                if action == 0:
                    await self.queue.nack(
                        owner, job, dice.choice((0, 60)), "x", dice.random() < 0.2
                    )
                elif action == 1:
                    await self.queue.release(owner, [job])
                elif action == 2:
                    await self.queue.beat(owner, [(job, 1, b"p")])
                elif action == 3:
                    await self.queue.cancel(job.id)
                elif action == 4:
                    await self.queue.revive(job.id)
                elif action == 5:
                    await self.queue.prioritise(job.id, dice.randint(-2, 2))
                else:
                    await self.ack(owner, job, 1, b"r")
            elif roll < 0.94:
                await self.due(dice.choice(("doing", "later", "exp")))
            elif roll < 0.97:
                await self.queue.reclaim(worker)
            else:
                await self.queue.maintain(keep=60)
            if step % 20 == 0:
                await self.check()
        await self.check()


class RedisJobTests(OnRedis, JobTests):
    """On Redis."""


class SqliteJobTests(OnSqlite, JobTests):
    """On Sqlite."""


class MemoryJobTests(OnMemory, JobTests):
    """On Memory."""


del JobTests  # trial would run them without a broker
