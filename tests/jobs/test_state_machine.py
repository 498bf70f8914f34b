"""Every broker beside the plain model: whatever is asked of them, they do the same.

The steps are taken without a reactor: each store answers at once, so Hypothesis can shrink what
it finds. The conformance suite uses the stores as the daemon does.
"""

from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from tests.support.direct_store import Direct, DirectFile, DirectRedis, DirectSqlite, now
from tests.support.queue_model import LIVE, Model
from twisted_bulk.errors import QueueFull
from twisted_bulk.jobs.model import Ack, Alone, Job, Work
from twisted_bulk.jobs.scripted import ScriptedQueue

CAP = 4


FAR = 100_000.0


workers = st.sampled_from(["w1", "w2"])


ids = st.sampled_from([f"j{n}" for n in range(8)])


prios = st.integers(-2, 2)


class Machine(RuleBasedStateMachine):
    """The model and one broker, told the same."""

    open: Callable[[], Direct]

    def __init__(self) -> None:
        super().__init__()
        self.store = type(self).open()
        self.queue = ScriptedQueue(self.store, "q", CAP)
        self.model = Model(CAP)
        self.held: list[tuple[str, Job]] = []

    def teardown(self) -> None:
        self.store.close()

    @rule(
        id=ids,
        prio=prios,
        first=st.booleans(),
        later=st.booleans(),
        expires=st.booleans(),
        tries=st.integers(1, 4),
        losses=st.integers(0, 3),
        digest=st.sampled_from(["", "x"]),
    )
    def enqueue(
        self,
        id: str,
        prio: int,
        first: bool,
        later: bool,
        expires: bool,
        tries: int,
        losses: int,
        digest: str,
    ) -> None:
        work = Work(
            id=id,
            payload=id.encode() * (30 if prio else 1),
            priority=prio,
            first=first,
            delay=FAR if later else 0,
            expires=FAR if expires else 0,
            tries=tries,
            losses=losses,
            digest=digest,
        )
        known = self.model.enqueue(id, prio, first, later, expires, tries, losses, digest)
        if known is None:
            try:
                now(self.queue.enqueue([work]))
            except QueueFull:
                return
            raise AssertionError("it should be full")
        (queued,) = now(self.queue.enqueue([work]))
        assert queued.id == known, (queued, known)

    @rule(worker=workers, count=st.integers(1, 4), alone=st.sampled_from([*Alone, Alone.NO]))
    def reserve(self, worker: str, count: int, alone: Alone = Alone.NO) -> None:
        jobs = now(self.queue.reserve(worker, count, alone=alone)).jobs
        assert [(job.id, job.attempt) for job in jobs] == self.model.reserve(worker, count, alone)
        assert all(job.payload[: len(job.id)] == job.id.encode() for job in jobs)
        self.held += [(worker, job) for job in jobs]

    def pick(self, number: int) -> tuple[str, Job]:
        """A job that was handed out, perhaps long ago."""
        if not self.held:
            return "w1", Job(id="j0", attempt=1, attachment="", payload=b"")
        return self.held[-1 - number % len(self.held)]

    @rule(number=st.integers(0, 2))
    def ack(self, number: int) -> None:
        worker, job = self.pick(number)
        (reply,) = now(self.queue.ack(worker, [Ack(job)]))
        assert max(reply, 0) == self.model.ack(worker, job.id, job.attempt)

    @rule(number=st.integers(0, 2), later=st.booleans(), fatal=st.booleans())
    def nack(self, number: int, later: bool, fatal: bool) -> None:
        worker, job = self.pick(number)
        reply = now(self.queue.nack(worker, job, FAR if later else 0, "x", fatal))
        assert reply == self.model.nack(worker, job.id, job.attempt, later, fatal)

    @rule(number=st.integers(0, 2), later=st.booleans())
    def release(self, number: int, later: bool) -> None:
        worker, job = self.pick(number)
        reply = now(self.queue.release(worker, [job], FAR if later else 0))
        assert reply == self.model.release(worker, job.id, job.attempt, later)

    @rule(worker=workers, count=st.integers(1, 4), times=st.integers(1, 5), alone=st.booleans())
    def lose(self, worker: str, count: int, times: int, alone: bool) -> None:
        """A worker takes jobs and dies, several times, and one that runs suspects does, too."""
        for _ in range(times):
            self.reserve(worker, count)
            self.reclaim(worker, 0, True)
            if alone:
                self.reserve(worker, 1, Alone.WATCHED)
                self.reclaim(worker, 0, True)

    @rule(worker=workers, kept=st.integers(0, 2), blamed=st.booleans())
    def reclaim(self, worker: str, kept: int, blamed: bool) -> None:
        had = now(self.store.command("SMEMBERS", f"{self.queue.prefix}w:{worker}"))
        told = {job.decode(): kept for job in had}
        reply = now(self.queue.reclaim(worker, told, blamed))
        assert reply == self.model.reclaim(worker, kept, blamed)

    @rule(number=st.integers(0, 2), units=st.integers(0, 3))
    def beat(self, number: int, units: int) -> None:
        worker, job = self.pick(number)
        held = not now(self.queue.beat(worker, [(job, units, b"")])).lost
        assert held == self.model.beat(worker, job.id, job.attempt, units)

    @rule(id=ids)
    def cancel(self, id: str) -> None:
        assert now(self.queue.cancel(id)) == self.model.cancel(id)

    @rule(id=ids, prio=prios)
    def prioritise(self, id: str, prio: int) -> None:
        assert now(self.queue.prioritise(id, prio)) == self.model.prioritise(id, prio)

    @rule(id=ids)
    def revive(self, id: str) -> None:
        expected = self.model.revive(id)
        try:
            reply = now(self.queue.revive(id))
        except QueueFull:
            assert expected == -2
        else:
            assert reply == (expected == 1)

    @rule(state=st.sampled_from(["later", "doing", "exp"]))
    def age(self, state: str) -> None:
        key = self.queue.prefix + state
        for member in now(self.store.command("ZRANGE", key, 0, -1)):
            now(self.store.command("ZADD", key, 1, member))
        self.model.age(state)

    @rule()
    def maintain(self) -> None:
        now(self.queue.maintain(FAR))
        self.model.pass_time()

    @rule(paused=st.booleans(), max_doing=st.sampled_from([None, 0, 2]))
    def control(self, paused: bool, max_doing: int | None) -> None:
        now(self.queue.control({"paused": paused, "max_doing": max_doing}))
        self.model.paused, self.model.max_doing = paused, max_doing

    @invariant()
    def same(self) -> None:
        stats = now(self.queue.stats())
        for state in (*LIVE, "done", "dead"):
            assert stats.counts[state] == len(self.model.state(state)), state
        assert stats.backlog == self.model.backlog
        for job in self.model.jobs.values():
            record = now(self.queue.job(job.id))
            assert record is not None
            told = (record.state, record.tries, record.lost, record.why)
            assert told == (job.state, job.attempt, job.lost, job.why), job.id


class ModelTests(SynchronousTestCase):
    """Random walks, shrunk where they lead astray."""

    def check(self, opener: Callable[[], Direct], examples: int) -> None:
        machine = type("On" + opener.__name__, (Machine,), {"open": staticmethod(opener)})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=50,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )

    def test_redis(self) -> None:
        """Redis or Valkey."""
        self.check(DirectRedis, 100)

    def test_memory(self) -> None:
        """SQLite in memory."""
        self.check(DirectSqlite, 250)

    def test_file(self) -> None:
        """A file that two connections share."""
        self.check(DirectFile, 10)
