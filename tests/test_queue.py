"""The queue's state machine, on a real server."""

import random
from typing import Any

from twisted.internet.task import deferLater

from tests.reactor import reactor
from tests.servers import RedisTestCase
from twisted_bulk.errors import QueueFull
from twisted_bulk.jobs import Acked, Group, GroupPart, Job, Submitted, Work
from twisted_bulk.queue import RedisQueue
from twisted_bulk.redis import Script

AUDIT = Script(
    """
local P, bad, seen = KEYS[1], {}, {}
local call = redis.call
local backlog = 0
for _, state in ipairs({'todo', 'later', 'doing', 'done', 'dead'}) do
  for _, id in ipairs(call('ZRANGE', P .. state, 0, -1)) do
    if seen[id] then bad[#bad + 1] = id .. ' is in ' .. seen[id] .. ' and ' .. state end
    seen[id] = state
    local j = call('HMGET', P .. 'j:' .. id, 'state', 'wid', 'size')
    if j[1] ~= state then bad[#bad + 1] = id .. ' says ' .. tostring(j[1]) .. ' in ' .. state end
    if state == 'doing' and call('SISMEMBER', P .. 'w:' .. j[2], id) == 0 then
      bad[#bad + 1] = id .. ' is not held by ' .. j[2]
    end
    if state ~= 'done' and state ~= 'dead' then backlog = backlog + j[3] end
  end
end
for _, key in ipairs(call('KEYS', P .. 'j:*')) do
  if not seen[string.sub(key, #P + 3)] then bad[#bad + 1] = key .. ' is in no index' end
end
local held = 0
for _, key in ipairs(call('KEYS', P .. 'w:*')) do held = held + call('SCARD', key) end
if held ~= call('ZCARD', P .. 'doing') then bad[#bad + 1] = 'held ' .. held end
if backlog ~= tonumber(call('HGET', P .. 'meta', 'backlog') or '0') then
  bad[#bad + 1] = 'backlog ' .. backlog .. ' is counted as ' .. call('HGET', P .. 'meta', 'backlog')
end
return bad
"""
)


class QueueTestCase(RedisTestCase):
    """A queue, its follow-up queue, and an audit of both after each test."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.calls = RedisQueue(self.redis, "calls")
        self.queue = RedisQueue(self.redis, "parts", cap=100, after=self.calls)

    async def audit(self) -> None:
        for queue in (self.queue, self.calls):
            self.assertEqual(await self.redis.run(AUDIT, queue.prefix), [])

    async def put(self, *ids: str, **options: Any) -> None:
        await self.queue.enqueue([Work(id=i, payload=i.encode(), **options) for i in ids])

    async def take(self, worker: str = "w1", count: int = 10) -> list[Job]:
        return (await self.queue.reserve(worker, count))[1]

    async def age(self, key: str) -> None:
        """Make everything in the ZSET ``key`` due, as if time had passed."""
        members = await self.redis.command("ZRANGE", self.queue.prefix + key, 0, -1)
        for member in members:
            await self.redis.command("ZADD", self.queue.prefix + key, 1, member)


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
        await self.audit()

    async def test_known_id(self) -> None:
        """A replayed enqueue adds nothing."""
        await self.put("a")
        self.assertEqual(await self.queue.enqueue([Work(id="a", payload=b"x")]), [False])
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
        self.assertEqual(await self.queue.ack("w2", job, 1, b""), Acked.STALE)
        self.assertEqual(await self.queue.ack("w1", job, 1, b""), Acked.RECORDED)
        self.assertEqual(await self.queue.ack("w1", job, 1, b""), Acked.REPEATED)
        other = Job(id="zz", attempt=1, attachment="", payload=b"")
        self.assertEqual(await self.queue.ack("w1", other, 1, b""), Acked.UNKNOWN)
        await self.audit()

    async def test_fence(self) -> None:
        """A worker that lost its lease can neither ack nor nack nor beat."""
        await self.put("a")
        (late,) = await self.take("w1")
        await self.age("doing")
        (now,) = await self.take("w2")
        self.assertEqual(now.attempt, 2)
        self.assertEqual(await self.queue.beat("w1", [(late, 0, b"")]), ["a"])
        self.assertFalse(await self.queue.nack("w1", late, 0, "x", True))
        self.assertEqual(await self.queue.ack("w1", late, 1, b"late"), Acked.STALE)
        self.assertEqual(await self.queue.release("w1", [late]), 0)
        self.assertEqual(await self.queue.ack("w2", now, 1, b"now"), Acked.RECORDED)
        await self.audit()

    async def test_work_done_though_lease_ran_out(self) -> None:
        """Nobody has taken the job yet, so its late worker's result counts."""
        await self.put("a")
        (job,) = await self.take("w1")
        await self.age("doing")
        await self.queue.maintain(keep=60)
        self.assertEqual(await self.queue.ack("w1", job, 1, b""), Acked.RECORDED)
        self.assertEqual(await self.take("w2"), [])
        await self.audit()

    async def test_beat_keeps_the_lease(self) -> None:
        """A heartbeat moves the lease's end forward."""
        await self.put("a")
        (job,) = await self.take()
        await self.age("doing")
        self.assertEqual(await self.queue.beat("w1", [(job, 0, b"{}")]), [])
        self.assertEqual(await self.take("w2"), [])

    async def test_nack_delays(self) -> None:
        """A failed job is due again later, after its last attempt it is dead."""
        await self.put("a", tries=2)
        (job,) = await self.take()
        self.assertTrue(await self.queue.nack("w1", job, 60, "no luck", False))
        due, jobs = await self.queue.reserve("w1", 1)
        self.assertEqual(jobs, [])
        self.assertTrue(due is not None and 55 < due <= 60)
        await self.age("later")
        (job,) = await self.take()
        self.assertEqual(job.attempt, 2)
        self.assertTrue(await self.queue.nack("w1", job, 60, "again", False))
        key = self.queue.prefix + "j:a"
        self.assertEqual(
            await self.redis.command("HMGET", key, "state", "why", "err"),
            [b"dead", b"retries", b"again"],
        )
        await self.audit()

    async def test_release(self) -> None:
        """A released job is next in line, with no attempt used up."""
        await self.put("a", "b", tries=1)
        first, _second = await self.take(count=2)
        self.assertEqual(await self.queue.release("w1", [first]), 1)
        (again,) = await self.take("w2")
        self.assertEqual((again.id, again.attempt), ("a", 1))
        await self.audit()

    async def test_reconcile(self) -> None:
        """What a lost reply reserved goes back; what is held stays."""
        await self.put("a", "b")
        held, _lost = await self.take(count=2)
        self.assertEqual(await self.queue.reconcile("w1", [held]), 1)
        self.assertEqual([job.id for job in await self.take("w2")], ["b"])
        await self.audit()

    async def test_reclaim(self) -> None:
        """The jobs of a dead worker are free at once."""
        await self.put("a", tries=2)
        await self.take("w1")
        self.assertEqual(await self.queue.reclaim("w1"), 1)
        self.assertEqual([job.attempt for job in await self.take("w2")], [2])
        await self.audit()

    async def test_poison(self) -> None:
        """A job that outlives three workers is buried."""
        await self.put("a", tries=99)
        for worker in ("w1", "w2", "w3"):
            self.assertEqual(len(await self.take(worker)), 1)
            await self.queue.reclaim(worker)
        self.assertEqual(await self.take("w4"), [])
        self.assertEqual(
            await self.redis.command("HGET", self.queue.prefix + "j:a", "why"), b"poison"
        )
        await self.audit()

    async def test_expiry(self) -> None:
        """A job that waited too long never starts."""
        await self.put("a", expires=60)
        await self.age("exp")
        self.assertEqual(await self.take(), [])
        await self.audit()

    async def test_expiry_is_for_the_start(self) -> None:
        """One that has started may begin anew, however late that is."""
        await self.put("a", expires=0.01)
        (job,) = await self.take()
        await self.queue.release("w1", [job])
        await deferLater(reactor, 0.02)
        await self.queue.maintain(keep=60)
        self.assertEqual(len(await self.take()), 1)
        await self.audit()

    async def test_living_holder(self) -> None:
        """After an outage longer than the lease, whoever still works keeps the job."""
        await self.put("a")
        (job,) = await self.take("w1")
        for _ in range(4):  # more often than it might lose its worker
            await self.age("doing")
            await self.queue.maintain(keep=60)
            self.assertEqual(await self.queue.beat("w1", [(job, 1, b"")]), [])
            await self.audit()
        self.assertEqual(await self.take("w2"), [])
        self.assertEqual(await self.queue.ack("w1", job, 1, b""), Acked.RECORDED)
        await self.audit()

    async def test_cancel(self) -> None:
        """A waiting job is gone; a running one's worker hears of it with the next beat."""
        await self.put("a", "b")
        (job,) = await self.take(count=1)
        self.assertTrue(await self.queue.cancel("b"))
        self.assertTrue(await self.queue.cancel("a"))
        self.assertFalse(await self.queue.cancel("a"))
        self.assertEqual(await self.queue.beat("w1", [(job, 0, b"")]), ["a"])
        self.assertEqual(await self.queue.ack("w1", job, 1, b""), Acked.STALE)
        await self.audit()

    async def test_cap(self) -> None:
        """Over the cap nothing is stored; what ends makes room."""
        await self.put("a", size=60)
        with self.assertRaises(QueueFull):
            await self.put("b", size=50)
        (job,) = await self.take()
        await self.queue.ack("w1", job, 60, b"")
        await self.put("b", size=50)
        await self.audit()

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
                    priority=dice.randint(-2, 2),
                    delay=dice.choice((0, 0, 60)),
                    tries=dice.randint(1, 3),
                    expires=dice.choice((0, 0, 60)),
                )
            elif roll < 0.5:
                held += [(worker, job) for job in await self.take(worker, dice.randint(1, 3))]
            elif roll < 0.9 and held:
                owner, job = held.pop(dice.randrange(len(held)))
                action = dice.randrange(5)
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
                else:
                    await self.queue.ack(owner, job, 1, b"r")
            elif roll < 0.94:
                await self.age(dice.choice(("doing", "later", "exp")))
            elif roll < 0.97:
                await self.queue.reclaim(worker)
            else:
                await self.queue.maintain(keep=60)
            if step % 20 == 0:
                await self.audit()
        await self.audit()


class GroupTests(QueueTestCase):
    """Groups of jobs: submitted whole, ended with their last job."""

    async def submit(
        self, name: str = "g", parts: int = 1, size: int = 4, attachment: str = "", **fields: Any
    ) -> Submitted:
        part = GroupPart(size=size, attachment=attachment, payload=b"part")
        given: dict[str, Any] = {"digest": "d1", "spec": b"spec", "need": 1, "after": b"then"}
        group = Group(id=name, parts=[part] * parts, **given | fields)
        return await self.queue.submit(group)

    async def state(self, name: str = "g") -> str:
        record = await self.queue.group(name)
        assert record is not None
        return record.state

    async def end(self, ok: int, parts: int = 1) -> None:
        """Let one worker finish ``parts`` parts with ``ok`` good units each."""
        for job in await self.take(count=parts):
            await self.queue.ack("w1", job, ok, b"result")

    async def test_same_id(self) -> None:
        """The same group again is recognised, another one under its id refused."""
        self.assertEqual(await self.submit(), Submitted.QUEUED)
        self.assertEqual(await self.submit(), Submitted.REPEATED)
        self.assertEqual(await self.submit(digest="d2"), Submitted.CONFLICT)
        self.assertEqual(len(await self.take()), 1)
        await self.audit()

    async def test_life(self) -> None:
        """Queued with a place in line, running once taken, ended with its last part."""
        await self.submit("first")
        await self.submit(parts=2)
        record = await self.queue.group("g")
        assert record is not None
        self.assertEqual((record.state, record.place, record.total), ("queued", 1, 8))
        await self.end(4)
        await self.end(4)
        record = await self.queue.group("g")
        assert record is not None
        self.assertEqual((record.state, record.place, record.units), ("running", None, 4000))
        self.assertEqual((await self.calls.reserve("w", 9))[1][0].id[:6], "first@")
        await self.end(4)
        record = await self.queue.group("g")
        assert record is not None
        self.assertEqual((record.state, record.units), ("done", 8000))
        self.assertEqual([part.result for part in record.parts], [b"result"] * 2)
        (after,) = (await self.calls.reserve("w", 9))[1]
        self.assertEqual((after.id, after.payload), (f"g@{record.nonce}", b"then"))
        await self.audit()

    async def test_outcomes(self) -> None:
        """The state at the end follows from how many units succeeded and were needed."""
        for ok, needed, state in (
            (4, 4, "done"),
            (3, 1, "partial"),
            (3, 4, "failed"),
            (0, 1, "failed"),
        ):
            await self.submit(f"g{ok}{needed}", need=needed)
            await self.end(ok)
            self.assertEqual(await self.state(f"g{ok}{needed}"), state)
        await self.audit()

    async def test_hopeless(self) -> None:
        """When the need cannot be met any more the other parts are not begun."""
        await self.submit(parts=3, need=12)
        jobs = await self.take(count=2)
        await self.queue.ack("w1", jobs[0], 3, b"")
        self.assertEqual(await self.state(), "failed")
        self.assertEqual(await self.queue.beat("w1", [(jobs[1], 0, b"")]), [jobs[1].id])
        self.assertEqual(await self.take(), [])
        await self.audit()

    async def test_progress_never_falls(self) -> None:
        """A second attempt starts from nothing; what is shown does not."""
        await self.submit()
        (job,) = await self.take("w1")
        await self.queue.beat("w1", [(job, 2500, b"p")])
        await self.queue.reclaim("w1")
        (job,) = await self.take("w2")
        await self.queue.beat("w2", [(job, 100, b"p")])
        record = await self.queue.group("g")
        assert record is not None
        self.assertEqual(record.units, 2500)
        await self.queue.beat("w2", [(job, 2600, b"p")])
        record = await self.queue.group("g")
        assert record is not None
        self.assertEqual(record.units, 2600)

    async def test_cancel(self) -> None:
        """All parts end at once, and what comes after is queued once."""
        await self.submit(parts=3)
        (job,) = await self.take(count=1)
        self.assertEqual(await self.queue.cancel_group("g"), True)
        self.assertEqual(await self.queue.cancel_group("g"), False)
        self.assertIsNone(await self.queue.cancel_group("none"))
        self.assertEqual(await self.state(), "cancelled")
        self.assertEqual(await self.queue.ack("w1", job, 4, b""), Acked.STALE)
        self.assertEqual(len((await self.calls.reserve("w", 9))[1]), 1)
        await self.audit()

    async def test_expiry(self) -> None:
        """A group none of whose parts began in time has expired."""
        await self.submit(parts=2, expires=60)
        await self.age("exp")
        await self.queue.maintain(keep=60)
        self.assertEqual(await self.state(), "expired")
        await self.audit()

    async def test_cap(self) -> None:
        """A group over the cap leaves nothing behind."""
        with self.assertRaises(QueueFull):
            await self.submit(size=101)
        self.assertIsNone(await self.queue.group("g"))
        await self.audit()

    async def test_attachment(self) -> None:
        """An attachment outlives its submission and goes with its job."""
        key = await self.queue.attach(b"many members")
        await self.submit(attachment=key)
        name = f"{self.queue.prefix}a:{key}"
        self.assertEqual(await self.redis.command("TTL", name), -1)
        (job,) = await self.take()
        self.assertEqual(await self.queue.attachment(job.attachment), b"many members")
        await self.queue.ack("w1", job, 1, b"")
        self.assertEqual(await self.redis.command("EXISTS", name), 0)

    async def test_list(self) -> None:
        """Newest first, by state, page by page."""
        for n in range(5):
            await self.submit(f"g{n}")
        await self.end(4)
        ids, cursor = await self.queue.groups(limit=2)
        self.assertEqual(ids, ["g4", "g3"])
        ids, cursor = await self.queue.groups(limit=2, cursor=cursor)
        self.assertEqual(ids, ["g2", "g1"])
        ids, cursor = await self.queue.groups(limit=2, cursor=cursor)
        self.assertEqual((ids, cursor), (["g0"], ""))
        self.assertEqual(await self.queue.groups("done"), (["g0"], ""))
        self.assertEqual(len((await self.queue.groups("queued"))[0]), 4)

    async def test_forget(self) -> None:
        """Old groups go with all their keys; a deleted id is remembered and free again."""
        await self.submit(after=b"")
        await self.end(4)
        await self.queue.forget("g", tombstone=60)
        self.assertTrue(await self.queue.was_deleted("g"))
        self.assertIsNone(await self.queue.group("g"))
        self.assertEqual(await self.submit(digest="d2", after=b""), Submitted.QUEUED)
        await self.end(4)
        await self.age("gend")
        await self.queue.maintain(keep=60)
        keys = await self.redis.command("KEYS", "*g:*")
        self.assertEqual(keys, [])
        await self.audit()

    async def test_one_speaker(self) -> None:
        """One node at a time reports a running group, with rising numbers."""
        await self.submit()
        self.assertEqual(await self.queue.speak("g", "n1", 60), 0)
        (job,) = await self.take()
        self.assertEqual(await self.queue.speak("g", "n1", 60), 1)
        self.assertEqual(await self.queue.speak("g", "n2", 60), 0)
        self.assertEqual(await self.queue.speak("g", "n1", 60), 2)
        await self.queue.ack("w1", job, 4, b"")
        self.assertEqual(await self.queue.speak("g", "n1", 60), 0)
        record = await self.queue.group("g")
        assert record is not None
        self.assertEqual(record.seq, 3)


class FullServerTests(QueueTestCase):
    """A server over its memory limit."""

    async def test_drains(self) -> None:
        """Nothing more is taken in, all that is there can be worked off."""
        await self.put(*"abcde")
        await self.redis.command("CONFIG", "SET", "maxmemory", 1)
        try:
            with self.assertRaises(QueueFull):
                await self.put("f")
            jobs = await self.take()
            self.assertEqual(len(jobs), 5)
            self.assertEqual(await self.queue.beat("w1", [(job, 1, b"p") for job in jobs]), [])
            for job in jobs:
                self.assertEqual(await self.queue.ack("w1", job, 1, b"r"), Acked.RECORDED)
        finally:
            await self.redis.command("CONFIG", "SET", "maxmemory", 0)
        await self.audit()
