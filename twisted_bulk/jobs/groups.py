"""Groups of jobs that end together, on the same scripts."""

import itertools
import secrets
from collections.abc import Iterable, Mapping, Sequence

from twisted_bulk.brokers.store import Argument, Store
from twisted_bulk.errors import NotRetryable, QueueFull, QueueUnavailable
from twisted_bulk.jobs.call_scripts import FULL_RETRY_AFTER
from twisted_bulk.jobs.group_index import GroupIndex
from twisted_bulk.jobs.group_model import Group, GroupRecord, Submitted, split_after_id
from twisted_bulk.jobs.model import Maintained
from twisted_bulk.jobs.replies import group_record, ms
from twisted_bulk.jobs.scripted import ScriptedQueue

#: Seconds that an attachment stays before its group is submitted; then the server removes it.
ATTACHMENT_SECONDS = 600
LONG_DEADLINE = 30.0  # seconds for a script that handles all jobs of a group


class GroupQueue(GroupIndex):
    """A queue whose jobs come in groups.

    :param after: the queue that takes the jobs that follow a group
    """

    def __init__(self, store: Store, name: str, cap: int, after: ScriptedQueue) -> None:
        super().__init__(store, name, cap)
        self.after = after
        self._run, self._runs = secrets.token_hex(6), itertools.count()

    def _full(self) -> QueueFull:
        return QueueFull("as many members wait as may", FULL_RETRY_AFTER)

    async def attach(self, key: str, data: bytes) -> None:
        """Store data for a job of a group that is submitted soon. The data may be large.

        :param key: a new one, see :meth:`new_key`
        """
        await self.store.command(
            "SET", f"{self.prefix}a:{key}", data, "EX", ATTACHMENT_SECONDS, deadline=LONG_DEADLINE
        )

    def new_key(self) -> str:
        """A key for :meth:`attach`."""
        return secrets.token_hex(16)

    async def drop_members(self, count: int) -> list[str]:
        """Drop the members of ended groups, the oldest first: these cannot be queued again then.

        :returns: ids of the groups, ``count`` at most
        """
        return [
            gid.decode() for gid in await self.script("drop_members", count, deadline=LONG_DEADLINE)
        ]

    async def trim(self, record: GroupRecord, results: Sequence[bytes]) -> None:
        """Replace the results of an ended group's jobs; an empty result changes nothing."""
        await self.script("trim", record.id, record.nonce, *results, deadline=LONG_DEADLINE)

    async def attachment(self, key: str) -> bytes | None:
        """The data under the key ``key``; None: there is none any more."""
        data: bytes | None = await self.store.command("GET", f"{self.prefix}a:{key}")
        return data

    async def detach(self, keys: Sequence[str]) -> None:
        """Drop the attachments of a group that was not queued."""
        if keys:
            await self.store.command("UNLINK", *(f"{self.prefix}a:{key}" for key in keys))

    async def check_room(self, total: int) -> None:
        """:raises QueueFull: ``total`` more units would exceed the cap"""
        backlog = await self.store.command("HGET", f"{self.prefix}meta", "backlog")
        cap = await self.store.command("HGET", f"{self.prefix}cfg", "cap")
        if int(backlog or 0) + total > int(cap or self.cap):
            raise self._full()

    async def submit(self, group: Group) -> tuple[Submitted, int | None]:
        """Queue a group, whole or not at all; its id and digest make it repeatable.

        :returns: the outcome, and how many jobs are ahead of its first one; None: it was not queued
        :raises QueueFull: nothing was stored
        :raises QueueUnavailable: an attachment is gone; nothing was stored
        """
        run = f"{self._run}{next(self._runs):x}"
        words: list[Argument] = [group.id, run, group.digest, group.spec]
        words += (sum(part.size for part in group.parts), group.need, self.cap)
        expires = max(ms(group.expires), int(group.expires > 0))  # 0 is never
        words += (group.priority, expires, group.tries, group.losses)
        words += (self.after.prefix, group.after, group.after_tries, group.owner)
        for part in group.parts:
            words += (part.size, part.attachment, part.data, part.payload)
        status, more = await self.script("submit", *words, deadline=LONG_DEADLINE)
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
        """One group; None: there is none (any more)."""
        reply = await self.script("group", group_id)
        return group_record(group_id, reply) if reply else None

    async def cancel_group(self, group_id: str) -> bool | None:
        """End all its jobs. False: it had ended. None: there is no such group."""
        reply = await self.script("cancel", "group", group_id, deadline=LONG_DEADLINE)
        return None if reply < 0 else bool(reply)

    async def prioritise_group(self, group_id: str, priority: int) -> int | None:
        """Change the priority of its jobs.

        :returns: how many have another one now; None: there is no such group
        """
        reply = await self.script("prioritise", "group", group_id, priority, deadline=LONG_DEADLINE)
        return None if reply < 0 else int(reply)

    async def attachment_of(self, record: GroupRecord, number: int) -> str:
        """The key of the attachment of a group's job; empty: it has none.

        :param number: of the job, from 1
        """
        job = f"{self.prefix}j:{record.id}@{record.nonce}/{number}"
        return (await self.store.command("HGET", job, "att") or b"").decode()

    async def payload_of(self, record: GroupRecord, number: int) -> bytes:
        """The payload of a group's job; empty: it is kept no more.

        :param number: of the job, from 1
        """
        job = record.job_id(number)
        short = await self.store.command("HGET", f"{self.prefix}j:{job}", "payload")
        return short or await self.store.command("GET", f"{self.prefix}p:{job}") or b""

    async def again(
        self,
        group_id: str,
        replaced: Mapping[int, str] | None = None,
        only: bytes = b"",
        jobs: Iterable[int] = (),
    ) -> int | None:
        """Queue those jobs of an ended group again of which some units failed.

        :param replaced: by the numbers of jobs: the keys of their new attachments
        :param only: for the worker, see :meth:`previous`
        :param jobs: numbers of the jobs that are wanted; none: all
        :returns: how many; 0: the group has not ended, or nothing failed; None: there is none
        :raises QueueFull: nothing was changed
        :raises NotRetryable: its members are not kept any more
        """
        words: list[Argument] = [self.cap, group_id, only, ",".join(map(str, jobs))]
        words += (word for pair in (replaced or {}).items() for word in pair)
        reply = int(await self.script("again", *words, deadline=LONG_DEADLINE))
        if reply == -4:
            raise NotRetryable("its members are kept no longer, as memory was short: send it again")
        if reply == -2:
            raise self._full()
        return None if reply < 0 else reply

    async def owner_of(self, group_id: str) -> str | None:
        """The token that submitted a group, or empty; None: there is no such group."""
        known = await self.store.command("HMGET", f"{self.prefix}g:{group_id}", "jobs", "owner")
        return (known[1] or b"").decode() if known[0] else None

    async def claim_names(self, group_id: str, claims: Sequence[bytes]) -> list[int]:
        """Claim names for units of a group, once in all its jobs.

        :param claims: for each a digest of the name (6 bytes), and the claimant's number (4 bytes)
        :returns: for each 1: it is the claimant's; 0: it is another one's
        """
        return list(await self.script("claim_names", group_id, *claims))

    async def running_for(self, group_id: str) -> float:
        """Seconds since the first of a group's jobs began; 0 if none has."""
        return int(await self.script("running", group_id)) / 1000

    async def previous(self, job_id: str) -> tuple[bytes, bytes]:
        """The result of a job in the run before; and which of its units that failed are wanted.

        The latter are the bytes ``only`` of :meth:`again`. Both may be empty.
        """
        group_id = split_after_id(job_id)[0]
        previous = await self.store.command("HGET", f"{self.prefix}j:{job_id}", "prev")
        only = await self.store.command("HGET", f"{self.prefix}g:{group_id}", "only")
        return previous or b"", only or b""

    async def forget(self, group_id: str, tombstone: float = 0) -> None:
        """Remove the record of an ended group.

        :param tombstone: seconds for which :meth:`was_deleted` still knows of it
        """
        await self.script("forget", ms(tombstone), group_id, deadline=LONG_DEADLINE)

    async def was_deleted(self, group_id: str) -> bool:
        """Whether the group was deleted, as long as that is remembered."""
        state = await self.store.command("HGET", f"{self.prefix}g:{group_id}", "state")
        return bool(state == b"deleted")

    async def claim_report(self, group_id: str, reporter: str, lease: float) -> int:
        """Claim the right to send the next report on a running group.

        :param reporter: id of this process

        :param lease: seconds after which this report must not be on its way any more, if
            :meth:`release_report` was not called before
        :returns: the report's number; 0: another process reports
        """
        return int(await self.script("claim_report", group_id, reporter, ms(lease)))

    async def release_report(self, group_id: str, reporter: str, keep: float) -> None:
        """The report is not on its way any more.

        :param keep: seconds for which no other process may report; 0: this one reports no more
        """
        await self.script("release_report", group_id, reporter, ms(keep))

    async def is_reported(self, group_id: str, reporter: str) -> bool:
        """Whether a report of another process may be on its way."""
        holder = await self.store.command("GET", f"{self.prefix}s:{group_id}")
        return bool(holder and holder[:1] == b"!" and holder[1:] != reporter.encode())

    async def maintain(self, keep: float, count: int = 1_000_000) -> Maintained:
        done = await super().maintain(keep, count)
        for group_id in done.groups:
            await self.forget(group_id)
        return done
