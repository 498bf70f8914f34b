"""The job queue: what every broker offers, and how Redis does it."""

import secrets
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Protocol

from twisted_bulk.errors import QueueFull
from twisted_bulk.jobs import Acked, Group, GroupRecord, Job, PartRecord, Submitted, Work
from twisted_bulk.redis import Argument, Redis, Script

LEASE = 30.0  # seconds without a heartbeat after which others take a job
BEAT = 1.0  # seconds between heartbeats: as old as the progress that users see may be
RELEASE_WITHIN = 2.0  # seconds: a stop must not wait long for a server that is away
ATTACHMENT_WAITS = 3600  # seconds that an attachment lives before its group is submitted
RESERVE_BYTES = 8 << 20  # payloads in one reply


class JobQueue(Protocol):
    """What a worker asks of a broker. All calls may be repeated after a lost answer."""

    async def enqueue(self, work: Sequence[Work]) -> list[bool]:
        """Queue up to 500 jobs; False where the id is known already."""

    async def reserve(self, worker: str, count: int) -> tuple[float | None, list[Job]]:
        """Take up to ``count`` jobs; also seconds until the next delayed one is due."""

    async def beat(self, worker: str, held: Sequence[tuple[Job, int, bytes]]) -> list[str]:
        """Renew the leases of all jobs held, with their units done and progress.

        :returns: ids of jobs that are not this worker's any more
        """

    async def ack(self, worker: str, job: Job, ok: int, result: bytes) -> Acked:
        """End a job of whose units ``ok`` succeeded."""

    async def nack(self, worker: str, job: Job, delay: float, error: str, fatal: bool) -> bool:
        """A failed attempt: again after ``delay``, or dead. False if it was not held."""

    async def release(self, worker: str, jobs: Sequence[Job]) -> int:
        """Give jobs back without using up an attempt."""

    async def reconcile(self, worker: str, held: Sequence[Job]) -> int:
        """Give back what the broker thinks ``worker`` holds and it does not."""

    async def reclaim(self, worker: str) -> int:
        """Take the jobs of a worker that is known to be dead."""

    async def cancel(self, job_id: str) -> bool:
        """End a job that has not ended yet."""

    async def attachment(self, key: str) -> bytes | None:
        """The data that was attached to a job."""


def _load(name: str) -> Script:
    folder = files("twisted_bulk") / "lua"
    return Script((folder / "common.lua").read_text() + (folder / f"{name}.lua").read_text())


SCRIPTS = {
    name: _load(name)
    for name in (
        *("enqueue", "submit", "reserve", "beat", "ack", "nack", "release", "reclaim", "cancel"),
        *("forget", "maintain", "group", "groups", "speak"),
    )
}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _pairs(jobs: Sequence[Job]) -> list[Argument]:
    return [word for job in jobs for word in (job.id, job.attempt)]


def _seconds(milliseconds: bytes | None) -> float | None:
    return int(milliseconds) / 1000 if milliseconds else None


class RedisQueue:
    """One queue on Redis: ZSETs for the states, a HASH per job, each step one script.

    :param cap: units of work that may be unfinished before new ones are refused
    :param after: the queue that takes the jobs that follow a group
    """

    def __init__(
        self, redis: Redis, name: str, cap: int = 2_000_000, after: "RedisQueue | None" = None
    ) -> None:
        # The braces keep all keys of all our queues in one slot.
        self.prefix = f"bw:{{bulkwav}}:{name}:"
        self._redis = redis
        self._cap = cap
        self._after = after

    async def _run(self, script: str, *arguments: Argument, deadline: float = 10.0) -> Any:
        return await self._redis.run(SCRIPTS[script], self.prefix, *arguments, deadline=deadline)

    async def enqueue(self, work: Sequence[Work]) -> list[bool]:
        words: list[Argument] = []
        for w in work:
            words += (w.id, w.priority, int(w.first), _ms(w.delay), _ms(w.expires))
            words += (w.tries, w.losses, w.size, w.payload)
        replies = await self._run("enqueue", self._cap, *words)
        if -2 in replies:
            raise QueueFull(f"{self._cap} are waiting already", retry_after=30)
        return [reply == 1 for reply in replies]

    async def reserve(self, worker: str, count: int) -> tuple[float | None, list[Job]]:
        due, jobs = await self._run("reserve", worker, count, _ms(LEASE), RESERVE_BYTES)
        return (
            None if due < 0 else due / 1000,
            [
                Job(id=i.decode(), attempt=a, attachment=att.decode(), payload=p)
                for i, a, att, p in jobs
            ],
        )

    async def beat(self, worker: str, held: Sequence[tuple[Job, int, bytes]]) -> list[str]:
        words: list[Argument] = []
        for job, units, progress in held:
            words += (job.id, job.attempt, units, progress)
        lost = await self._run("beat", worker, _ms(LEASE), *words, deadline=5.0)
        return [job_id.decode() for job_id in lost]

    async def ack(self, worker: str, job: Job, ok: int, result: bytes) -> Acked:
        return Acked(await self._run("ack", worker, job.id, job.attempt, ok, result))

    async def nack(self, worker: str, job: Job, delay: float, error: str, fatal: bool) -> bool:
        words = (worker, job.id, job.attempt, _ms(delay), int(fatal), error)
        return bool(await self._run("nack", *words))

    async def release(self, worker: str, jobs: Sequence[Job]) -> int:
        return await self._release(worker, "only", jobs)

    async def reconcile(self, worker: str, held: Sequence[Job]) -> int:
        return await self._release(worker, "except", held)

    async def _release(self, worker: str, which: str, jobs: Sequence[Job]) -> int:
        words = (worker, which, *_pairs(jobs))
        return int(await self._run("release", *words, deadline=RELEASE_WITHIN))

    async def reclaim(self, worker: str) -> int:
        return int(await self._run("reclaim", worker))

    async def cancel(self, job_id: str) -> bool:
        return bool(await self._run("cancel", "job", job_id) == 1)

    async def attach(self, data: bytes) -> str:
        """Store data that is too large for a payload, for a group submitted soon."""
        key = secrets.token_hex(16)
        await self._redis.command(
            "SET", f"{self.prefix}a:{key}", data, "EX", ATTACHMENT_WAITS, deadline=30.0
        )
        return key

    async def attachment(self, key: str) -> bytes | None:
        data: bytes | None = await self._redis.command("GET", f"{self.prefix}a:{key}")
        return data

    async def detach(self, keys: Sequence[str]) -> None:
        """Drop attachments of a group that was not queued."""
        if keys:
            await self._redis.command("UNLINK", *(f"{self.prefix}a:{key}" for key in keys))

    async def check_room(self, total: int) -> None:
        """:raises QueueFull: ``total`` more would be over the cap"""
        backlog = await self._redis.command("HGET", f"{self.prefix}meta", "backlog")
        if int(backlog or 0) + total > self._cap:
            raise QueueFull(f"more than {self._cap} members would wait", retry_after=30)

    async def submit(self, group: Group) -> Submitted:
        """Queue a group, whole or not at all; its id and digest make it repeatable.

        :raises QueueFull: nothing was stored
        """
        words: list[Argument] = [group.id, secrets.token_hex(4), group.digest, group.spec]
        words += (sum(part.size for part in group.parts), group.need, self._cap)
        words += (group.priority, _ms(group.expires), group.tries, group.losses)
        words += (self._after.prefix if self._after else "", group.after, group.after_tries)
        for part in group.parts:
            words += (part.size, part.attachment, part.payload)
        status, digest = await self._run("submit", *words, deadline=30.0)
        if status == -2:
            raise QueueFull(f"more than {self._cap} members would wait", retry_after=30)
        if status == 0 and digest.decode() != group.digest:
            return Submitted.CONFLICT
        return Submitted(status)

    async def group(self, group_id: str) -> GroupRecord | None:
        """One group as it stands; None if there is none (any more)."""
        reply = await self._run("group", group_id)
        if not reply:
            return None
        now, place, flat, parts = reply
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        return GroupRecord(
            id=group_id,
            state=fields[b"state"].decode(),
            digest=fields[b"digest"].decode(),
            nonce=fields[b"nonce"].decode(),
            spec=fields[b"spec"],
            total=int(fields[b"total"]),
            units=int(fields[b"units"]),
            seq=int(fields[b"seq"]),
            created=int(fields[b"created"]) / 1000,
            started=_seconds(fields.get(b"started")),
            ended=_seconds(fields.get(b"ended")),
            now=int(now) / 1000,
            place=None if place < 0 else place,
            parts=[_part(*words) for words in parts],
        )

    async def groups(
        self, state: str = "", cursor: str = "", limit: int = 50
    ) -> tuple[list[str], str]:
        """Ids of groups, newest first, and the cursor of the next page or ``""``."""
        reply = await self._run("groups", state, cursor, limit)
        more = reply[-1].decode() if len(reply) == 2 * limit else ""
        return [group_id.decode() for group_id in reply[::2]], more

    async def cancel_group(self, group_id: str) -> bool | None:
        """End all its jobs; False if it had ended, None if there is none."""
        reply = await self._run("cancel", "group", group_id, deadline=30.0)
        return None if reply < 0 else bool(reply)

    async def forget(self, group_id: str, tombstone: float = 0) -> None:
        """Drop the record of an ended group; ``deleted`` is known for ``tombstone`` s."""
        await self._run("forget", _ms(tombstone), group_id, deadline=30.0)

    async def was_deleted(self, group_id: str) -> bool:
        """Whether the group's deletion is still remembered."""
        state = await self._redis.command("HGET", f"{self.prefix}g:{group_id}", "state")
        return bool(state == b"deleted")

    async def speak(self, group_id: str, speaker: str, lease: float) -> int:
        """The number of the next report on a running group, or 0: somebody else reports."""
        return int(await self._run("speak", group_id, speaker, _ms(lease)))

    async def maintain(self, keep: float) -> None:
        """Promote, reclaim, expire, and drop records that ended ``keep`` seconds ago."""
        for group_id in await self._run("maintain", 1000, _ms(keep), 3600_000):
            await self.forget(group_id.decode())

    async def ping(self) -> None:
        """Nothing, if the server answers within 2 s.

        :raises QueueUnavailable: it does not
        """
        await self._redis.command("PING", deadline=2.0)


def _part(*words: bytes | None) -> PartRecord:
    state, size, ok, progress, result, why, error = ((word or b"") for word in words)
    return PartRecord(
        state=state.decode(),
        size=int(size or 0),
        ok=int(ok or 0),
        progress=progress,
        result=result,
        why=why.decode(),
        error=error.decode("utf-8", "replace"),
    )
