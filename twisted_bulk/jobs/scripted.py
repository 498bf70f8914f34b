"""The job queue over any store that runs Lua scripts."""

import time
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred

from twisted_bulk.brokers.store import Argument, Capabilities, Store
from twisted_bulk.errors import ConfigError, QueueFull
from twisted_bulk.jobs import replies
from twisted_bulk.jobs.call_scripts import FULL_RETRY_AFTER, CallScripts, words_of
from twisted_bulk.jobs.model import (
    LEASE_SECONDS,
    RATE_MINUTES,
    Ack,
    Acked,
    Alone,
    BeatReply,
    Job,
    JobRecord,
    Maintained,
    Queued,
    Reserved,
    Stats,
    Work,
)
from twisted_bulk.jobs.replies import ms

BATCH_SIZE = 500  # jobs in one call of a script; more are cut into several calls
RESERVE_BYTES = 8 << 20  # of payloads in one reply; further jobs wait for the next call
RELEASE_SECONDS = 2.0  # for giving jobs back: a stop must not wait long for a server that is away
WORKER_DEAD_SECONDS = 600.0  # without a heartbeat; then a worker without jobs is dropped
MAINTAIN_LIMIT = 1000  # jobs of each kind that one round of housekeeping handles
MAX_SHOWN_WORKERS = 1000  # in ``stats``; those with the oldest heartbeats are left out
MAX_SHOWN_JOBS = 100  # of one worker in ``stats``; a worker with more is shown without jobs


def _setting(name: str, value: float | bool) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if value < 0 or (name == "qps" and value == 0):
        raise ConfigError(f"{name}: expected a number greater than 0, not {value!r}")
    return str(value) if isinstance(value, int) else f"{value:.15g}"


class ScriptedQueue(CallScripts):
    """One queue. Each step is one script, which the store runs as one transaction.

    The methods without a docstring are described in :class:`~twisted_bulk.jobs.protocol.JobQueue`.

    :param cap: units of work that may be unfinished before new ones are refused
    :param monotonic: seconds on a clock that nobody sets
    """

    def __init__(
        self,
        store: Store,
        name: str,
        cap: int = 2_000_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(store, name, cap)
        self._monotonic = monotonic
        # The queue's time (ms) and our monotonic clock (s) at the last `maintain`.
        self._ticked = (0, 0.0)

    @property
    def capabilities(self) -> Capabilities:
        """As the store says."""
        return self.store.capabilities

    async def enqueue(self, work: Sequence[Work]) -> list[Queued]:
        queued: list[Queued] = []
        for begin in range(0, len(work), BATCH_SIZE):
            try:
                queued += await self._enqueue(work[begin : begin + BATCH_SIZE])
            except QueueFull as full:
                full.queued = [*queued, *full.queued]
                raise
        return queued

    async def _enqueue(self, work: Sequence[Work]) -> list[Queued]:
        words = [word for one in work for word in words_of(one)]
        replies = await self.script("enqueue", self.cap, *words)
        found = [
            Queued(w.id, reply == 1) if isinstance(reply, int) else Queued(reply.decode(), False)
            for w, reply in zip(work, replies, strict=True)
            if reply != -2
        ]
        if len(found) < len(work):
            full = QueueFull("as much is waiting as may", FULL_RETRY_AFTER)
            full.queued = found
            raise full
        return found

    async def reserve(
        self,
        worker: str,
        count: int,
        max_bytes: int = RESERVE_BYTES,
        *,
        alone: Alone = Alone.NO,
        late: int = 0,
        express: int = 0,
    ) -> Reserved:
        count, late, express = (min(n, BATCH_SIZE) for n in (count, late, express))
        words = (worker, count, ms(LEASE_SECONDS), max_bytes, int(alone), late, express)
        return replies.reserved(await self.script("reserve", *words))

    async def beat(
        self, worker: str, held: Sequence[tuple[Job, int, bytes]], waits_for: str = ""
    ) -> BeatReply:
        words: list[Argument] = [waits_for]
        for job, units, progress in held:
            words += (job.id, job.attempt, units, progress)
        reply = await self.script("beat", worker, ms(LEASE_SECONDS), *words, deadline=5.0)
        stop, paused, lost, cancelled = reply
        return BeatReply(
            stop=bool(stop),
            paused=bool(paused),
            lost=frozenset(map(bytes.decode, lost)),
            cancelled=frozenset(map(bytes.decode, cancelled)),
        )

    async def ack(self, worker: str, acks: Sequence[Ack]) -> list[Acked]:
        words: list[Argument] = []
        for ack in acks:
            words += (ack.job.id, ack.job.attempt, ack.ok, ack.result, ack.tags)
        return [Acked(reply) for reply in await self.script("ack", worker, *words)]

    async def nack(
        self, worker: str, job: Job, delay: float, error: str, fatal: bool = False
    ) -> bool:
        words = (worker, job.id, job.attempt, ms(delay), int(fatal), error)
        return bool(await self.script("nack", *words))

    async def release(self, worker: str, jobs: Sequence[Job], delay: float = 0) -> int:
        return await self._release(worker, "only", jobs, delay)

    async def reconcile(self, worker: str, held: Sequence[Job]) -> int:
        return await self._release(worker, "except", held)

    async def _release(self, worker: str, which: str, jobs: Sequence[Job], delay: float = 0) -> int:
        words = [which, ms(delay), *(word for job in jobs for word in (job.id, job.attempt))]
        return int(await self.script("release", worker, *words, deadline=RELEASE_SECONDS))

    async def reclaim(
        self, worker: str, kept: Mapping[str, int] | None = None, blamed: bool = False
    ) -> int:
        words = [word for pair in (kept or {}).items() for word in pair]
        return int(await self.script("reclaim", worker, int(blamed), *words))

    async def cancel(self, job_id: str) -> bool:
        return bool(await self.script("cancel", "job", job_id) == 1)

    async def prioritise(self, job_id: str, priority: int) -> bool:
        return bool(await self.script("prioritise", "job", job_id, priority) > 0)

    async def revive(self, job_id: str) -> bool:
        reply = await self.script("revive", self.cap, job_id)
        if reply == -2:
            raise QueueFull("as much is waiting as may", FULL_RETRY_AFTER)
        return bool(reply == 1)

    async def dead(self, cursor: str = "", limit: int = 50) -> tuple[list[str], str]:
        more, *found = await self.script("dead", cursor, limit)
        return [job_id.decode() for job_id in found], more.decode()

    async def job(self, job_id: str) -> JobRecord | None:
        reply = await self.script("job", job_id)
        return replies.job_record(job_id, reply) if reply else None

    async def stats(self, minutes: int = RATE_MINUTES) -> Stats:
        reply = await self.script("stats", minutes, MAX_SHOWN_WORKERS, MAX_SHOWN_JOBS)
        return replies.stats(reply)

    async def control(self, settings: Mapping[str, float | bool | None]) -> None:
        words: list[Argument] = []
        for name, value in settings.items():
            if name not in ("stop", "paused", "max_doing", "qps", "cap"):
                raise ConfigError(f"{name}: not a setting of a queue")
            words += (name, "" if value is None else _setting(name, value))
        if words:
            await self.script("control", *words)

    async def maintain(self, keep: float, count: int = 1_000_000) -> Maintained:
        at, began = self._ticked
        for again in (0, 1):
            elapsed = ms(self._monotonic() - began) if at else 0
            words = (MAINTAIN_LIMIT, ms(keep), count, ms(WORKER_DEAD_SECONDS), at, elapsed, again)
            reply = await self.script("maintain", *words)
            if reply:
                break
        now, step, forgotten, *groups = reply
        self._ticked = (int(now), self._monotonic())
        return Maintained(
            step=int(step) / 1000,
            forgotten=forgotten,
            groups=[group.decode() for group in groups],
        )

    async def suspects(self) -> int:
        """Jobs that wait to be run alone."""
        return int(await self.store.command("ZCARD", f"{self.prefix}suspect"))

    async def holds(self, worker: str) -> int:
        """How many jobs a worker holds."""
        return int(await self.store.command("SCARD", f"{self.prefix}w:{worker}"))

    async def heard(self, worker: str) -> bytes | None:
        """When a worker was heard last, by the queue's time (ms); None: it is unknown."""
        score: bytes | None = await self.store.command("ZSCORE", f"{self.prefix}wk", worker)
        return score

    def listen(self, heard: Callable[[], object]) -> None:
        self.store.listen(f"{self.prefix}wake", heard)

    def attend(self, leave: Callable[[], Deferred[None]]) -> None:
        self.store.attend(leave)

    async def ping(self) -> None:
        """Ask the store for a sign of life.

        :raises QueueUnavailable: there was none within 2 s
        """
        await self.store.command("PING", deadline=2.0)
