"""Groups of jobs that end together, on the same scripts."""

import itertools
import secrets
from collections.abc import Sequence

from twisted_bulk.brokers.store import Argument, Store
from twisted_bulk.errors import NotRetryable, QueueFull, QueueUnavailable
from twisted_bulk.jobs.model import (
    AfterRecord,
    Group,
    GroupRecord,
    Maintained,
    PartRecord,
    Submitted,
)
from twisted_bulk.jobs.scripted import ScriptedQueue, fields, ms, when

ATTACHMENT_WAITS = 600  # seconds that an attachment lives before its group is submitted


class GroupQueue(ScriptedQueue):
    """A queue whose jobs come in groups.

    :param after: the queue that takes the jobs that follow a group
    """

    def __init__(self, store: Store, name: str, cap: int, after: ScriptedQueue) -> None:
        super().__init__(store, name, cap)
        self.after = after
        self._run, self._runs = secrets.token_hex(6), itertools.count()

    def _full(self) -> QueueFull:
        return QueueFull("as many members wait as may", retry_after=30)

    async def attach(self, key: str, data: bytes) -> None:
        """Store data for a job of a group that is submitted soon: it may be large.

        :param key: nothing else has it, see :meth:`new_key`
        """
        await self.store.command(
            "SET", f"{self.prefix}a:{key}", data, "EX", ATTACHMENT_WAITS, deadline=30.0
        )

    def new_key(self) -> str:
        """A key for :meth:`attach`."""
        return secrets.token_hex(16)

    async def drop_members(self, count: int) -> list[str]:
        """Drop the members of groups that have ended, and could be queued again; the oldest first.

        :returns: ids of the groups, ``count`` at most
        """
        return [gid.decode() for gid in await self.script("drop_members", count, deadline=30.0)]

    async def trim(self, record: GroupRecord, results: Sequence[bytes]) -> None:
        """Keep other results of a group's jobs, once it has ended; an empty one changes nothing."""
        await self.script("trim", record.id, record.nonce, *results, deadline=30.0)

    async def attachment(self, key: str) -> bytes | None:
        """The data that was attached to a job."""
        data: bytes | None = await self.store.command("GET", f"{self.prefix}a:{key}")
        return data

    async def detach(self, keys: Sequence[str]) -> None:
        """Drop attachments of a group that was not queued."""
        if keys:
            await self.store.command("UNLINK", *(f"{self.prefix}a:{key}" for key in keys))

    async def check_room(self, total: int) -> None:
        """:raises QueueFull: ``total`` more would be over the cap"""
        backlog = await self.store.command("HGET", f"{self.prefix}meta", "backlog")
        cap = await self.store.command("HGET", f"{self.prefix}cfg", "cap")
        if int(backlog or 0) + total > int(cap or self.cap):
            raise self._full()

    async def submit(self, group: Group) -> tuple[Submitted, int | None]:
        """Queue a group, whole or not at all; its id and digest make it repeatable.

        :returns: what became of it, and how many jobs are ahead of its first one
        :raises QueueFull: nothing was stored
        """
        run = f"{self._run}{next(self._runs):x}"
        words: list[Argument] = [group.id, run, group.digest, group.spec]
        words += (sum(part.size for part in group.parts), group.need, self.cap)
        expires = max(ms(group.expires), int(group.expires > 0))  # 0 is never
        words += (group.priority, expires, group.tries, group.losses)
        words += (self.after.prefix, group.after, group.after_tries, group.owner)
        for part in group.parts:
            words += (part.size, part.attachment, part.data, part.payload)
        status, more = await self.script("submit", *words, deadline=30.0)
        if status == -2:
            raise self._full()
        if status == -3:
            raise QueueUnavailable("the batch's members were lost on the way: send it again")
        if status == 1:
            return Submitted.QUEUED, int(more)
        return (
            Submitted.REPEATED if more.decode() == group.digest else Submitted.CONFLICT,
            None,
        )

    async def group(self, group_id: str) -> GroupRecord | None:
        """One group as it stands; None if there is none (any more)."""
        reply = await self.script("group", group_id)
        if not reply:
            return None
        now, skew, place, flat, parts, after = reply
        f = fields(flat)
        return GroupRecord(
            id=group_id,
            state=f["state"].decode(),
            digest=f["digest"].decode(),
            run=f["nonce"].decode() + ("+" + f["runs"].decode() if "runs" in f else ""),
            spec=f["spec"],
            total=int(f["total"]),
            units=int(f["units"]),
            seq=int(f["seq"]),
            created=when(f["created"], skew) or 0.0,
            started=when(f.get("started"), skew),
            ended=when(f.get("ended"), skew),
            now=when(now, skew) or 0.0,
            place=None if place < 0 else place,
            parts=[_part(*words) for words in parts],
            runs=int(f.get("runs", 0)),
            before=f.get("before", b"").decode(),
            serial=int(f["serial"]),
            after=_after(skew, *after) if after else None,
        )

    async def groups(
        self, state: str = "", cursor: str = "", limit: int = 50, owner: str = ""
    ) -> tuple[list[str], str]:
        """Ids of groups, newest first, and the cursor of the next page or ``""``.

        Of an owner's in one state there may be fewer than ``limit``, and more to come.
        """
        more, *found = await self.script("groups", state, owner, cursor, limit)
        return [group_id.decode() for group_id in found], more.decode()

    async def cancel_group(self, group_id: str) -> bool | None:
        """End all its jobs; False if it had ended, None if there is none."""
        reply = await self.script("cancel", "group", group_id, deadline=30.0)
        return None if reply < 0 else bool(reply)

    async def prioritise_group(self, group_id: str, priority: int) -> int | None:
        """How many of its jobs have another priority now; None if there is no such group."""
        reply = await self.script("prioritise", "group", group_id, priority, deadline=30.0)
        return None if reply < 0 else int(reply)

    async def again(self, group_id: str) -> int | None:
        """Queue once more those jobs of an ended group that were not whole.

        :returns: how many; None if there is no such group
        :raises QueueFull: nothing was changed
        :raises NotRetryable: its members are not kept any more
        """
        reply = int(await self.script("again", self.cap, group_id, deadline=30.0))
        if reply == -4:
            raise NotRetryable("its members are kept no longer, as memory was short: send it again")
        if reply == -2:
            raise self._full()
        return None if reply < 0 else reply

    async def owner_of(self, group_id: str) -> str | None:
        """Whose a group is, or empty; None: there is no such group."""
        known = await self.store.command("HMGET", f"{self.prefix}g:{group_id}", "jobs", "owner")
        return (known[1] or b"").decode() if known[0] else None

    async def running_for(self, group_id: str) -> float:
        """Seconds since the first of a group's jobs began; 0 if none has."""
        return int(await self.script("running", group_id)) / 1000

    async def previous(self, job_id: str) -> bytes:
        """The result of a job before it was queued again, or nothing."""
        data = await self.store.command("HGET", f"{self.prefix}j:{job_id}", "prev")
        return data or b""

    async def forget(self, group_id: str, tombstone: float = 0) -> None:
        """Drop the record of an ended group; ``deleted`` is known for ``tombstone`` s."""
        await self.script("forget", ms(tombstone), group_id, deadline=30.0)

    async def was_deleted(self, group_id: str) -> bool:
        """Whether the group's deletion is still remembered."""
        state = await self.store.command("HGET", f"{self.prefix}g:{group_id}", "state")
        return bool(state == b"deleted")

    async def claim_report(self, group_id: str, reporter: str, lease: float) -> int:
        """Begin a report on a running group.

        :param lease: seconds after which this report must not be on its way any more, if
            :meth:`release_report` was not called before
        :returns: its number, or 0: somebody else reports
        """
        return int(await self.script("claim_report", group_id, reporter, ms(lease)))

    async def release_report(self, group_id: str, reporter: str, keep: float) -> None:
        """End a report.

        :param keep: seconds for which nobody else may begin one; 0: this one reports no more
        """
        await self.script("release_report", group_id, reporter, ms(keep))

    async def is_reported(self, group_id: str, reporter: str) -> bool:
        """Whether a report of another reporter may be on its way."""
        holder = await self.store.command("GET", f"{self.prefix}s:{group_id}")
        return bool(holder and holder[:1] == b"!" and holder[1:] != reporter.encode())

    async def maintain(self, keep: float, count: int = 1_000_000) -> Maintained:
        done = await super().maintain(keep, count)
        for group_id in done.groups:
            await self.forget(group_id)
        return done


def _part(*words: bytes | None) -> PartRecord:
    state, size, ok, progress, result, why, error, before = ((word or b"") for word in words)
    return PartRecord(
        state=state.decode(),
        size=int(size or 1),
        ok=int(ok or 0),
        progress=progress,
        result=result,
        why=why.decode(),
        error=error.decode("utf-8", "replace"),
        previous=before,
    )


def _after(skew: bytes, *words: bytes | None) -> AfterRecord:
    state, failures, result, ended, due = words
    lines = (line.partition(b" ") for line in (failures or b"").splitlines())
    return AfterRecord(
        state=(state or b"").decode(),
        failures=[
            (when(at, skew) or 0.0, error.decode("utf-8", "replace")) for at, _, error in lines
        ],
        result=result or b"",
        ended=when(ended, skew),
        due=when(due, skew),
    )
