"""Groups found by filters, over every broker."""

import random
from typing import Any

from tests.support.brokers import OnMemory, OnRedis, OnSqlite
from tests.support.queues import QueueTestCase
from twisted_bulk.jobs import group_index
from twisted_bulk.jobs.group_index import AFTER_FAILED, AFTER_TRYING, GroupFilter
from twisted_bulk.jobs.group_model import ENDED, Group, GroupPart
from twisted_bulk.jobs.model import Ack

OWNERS = ("", "one", "two")
TAGS = ("", "http_404", "timeout", "http_404,timeout")
NAMES = ("a", "ab", "b", "call-")


class GroupIndexTests(QueueTestCase):
    """Forty groups with an owner, a state and tags each."""

    async def submit(self, gid: str, owner: str = "", after: bytes = b"") -> None:
        part = GroupPart(size=2, payload=b"part")
        await self.queue.submit(
            Group(
                id=gid,
                digest="d",
                spec=b"s",
                need=1,
                parts=[part],
                owner=owner,
                after=after,
                after_tries=9,
            )
        )

    async def end(self, ok: int, tags: str) -> None:
        (job,) = await self.take(count=1)
        await self.queue.ack("w1", [Ack(job, ok, b"result", tags)])

    async def fill(self) -> list[dict[str, Any]]:
        """Groups of all kinds, the newest last, with what is known of them."""
        chance, known = random.Random(7), []
        for number in range(40):
            owner = chance.choice(OWNERS)
            name = f"{chance.choice(NAMES)}{number}"
            gid = f"{owner}:{name}" if owner else name
            await self.submit(gid, owner)
            state, tags = chance.choice(("queued", "done", "partial", "failed", "cancelled")), ""
            if state == "cancelled":
                await self.queue.cancel_group(gid)
                tags = "cancelled"
            elif state != "queued":
                tags = "" if state == "done" else chance.choice(TAGS)
                await self.queue.prioritise_group(gid, 1000)
                await self.end({"done": 2, "partial": 1, "failed": 0}[state], tags)
            created = 1000 + 10 * number
            await self.store.command("HSET", f"{self.queue.prefix}g:{gid}", "created", created)
            known.append({"gid": gid, "name": name, "owner": owner, "state": state, "tags": tags,
                          "created": created / 1000})  # fmt: skip
        return known

    async def found(self, wanted: GroupFilter, limit: int = 7) -> list[str]:
        """The ids of all pages."""
        ids, cursor = await self.queue.groups(wanted, limit=limit)
        while cursor:
            more, cursor = await self.queue.groups(wanted, cursor, limit)
            self.assertLessEqual(len(more), limit)
            ids += more
        return ids

    async def counted(self, wanted: GroupFilter) -> int:
        count, cursor = await self.queue.count_groups(wanted)
        while cursor:
            more, cursor = await self.queue.count_groups(wanted, cursor)
            count += more
        return count

    async def test_every_filter(self) -> None:
        """All conditions together find what a look at each group finds, and are counted so."""
        known = await self.fill()
        chance = random.Random(3)
        some = 0
        for number in range(120):
            # In some rounds the searches are cut into small steps.
            self.patch(group_index, "MAX_LOOKED", 10_000 if number % 2 else 9)
            states = chance.choice(((), (), ("done",), ("partial", "failed"), ENDED, ("expired",)))
            owner = chance.choice(OWNERS)
            tags = chance.choice(((), (), ("timeout",), ("http_404", "timeout"), ("cancelled",)))
            prefix = chance.choice(("", "", "a", "ab", "call-1", "z"))
            since = chance.choice((None, None, 1.05, 1.2))
            before = chance.choice((None, None, 1.3, 0.5))
            wanted = GroupFilter(
                states=states, owner=owner, tags=tags, prefix=prefix, since=since, before=before
            )
            expected = [
                one["gid"]
                for one in reversed(known)
                if (not states or one["state"] in states)
                and owner in ("", one["owner"])
                and set(tags) <= set(one["tags"].split(","))
                and one["name"].startswith(prefix)
                and (since is None or one["created"] >= since)
                and (before is None or one["created"] < before)
            ]
            self.assertEqual(await self.found(wanted), expected, wanted)
            self.assertEqual(await self.counted(wanted), len(expected), wanted)
            some += len(expected) > 1
        self.assertGreater(some, 20)

    async def test_few_of_a_name(self) -> None:
        """Groups of a rare name are found by it: in pages, and by their times."""
        for number in range(40):
            name = f"rare{number}" if number % 8 == 0 else f"many{number}"
            await self.submit(name)
            created = 1000 * number
            await self.store.command("HSET", f"{self.queue.prefix}g:{name}", "created", created)
        rare = ["rare32", "rare24", "rare16", "rare8", "rare0"]
        for limit in (1, 2, 9):
            self.assertEqual(await self.found(GroupFilter(prefix="rare"), limit), rare)
        wanted = GroupFilter(prefix="rare", since=8, before=24.5)
        self.assertEqual(await self.found(wanted), ["rare24", "rare16", "rare8"])
        self.assertEqual(await self.counted(wanted), 3)

    async def test_empty(self) -> None:
        """A queue that never had a group."""
        for wanted in (GroupFilter(), GroupFilter(since=1, before=2, prefix="a")):
            self.assertEqual(await self.found(wanted), [])
            self.assertEqual(await self.counted(wanted), 0)

    async def test_tags_go(self) -> None:
        """A group that is queued again has the tags of its other jobs only; forgotten, none."""
        part = GroupPart(size=2, payload=b"part")
        await self.queue.submit(Group(id="g", digest="d", spec=b"", need=1, parts=[part, part]))
        await self.end(1, "both,first")
        await self.end(1, "both,second")
        for tag in ("both", "first", "second"):
            self.assertEqual(await self.found(GroupFilter(tags=[tag])), ["g"])
        self.assertEqual(await self.queue.again("g", jobs=[2]), 1)
        self.assertEqual(await self.found(GroupFilter(tags=["both", "first"])), ["g"])
        self.assertEqual(await self.found(GroupFilter(tags=["second"])), [])
        # A run that fails leaves what the run before had.
        await self.queue.cancel_group("g")
        for tag in ("both", "second", "cancelled"):
            self.assertEqual(await self.found(GroupFilter(tags=[tag])), ["g"])
        await self.queue.forget("g")
        left = {key.removeprefix(self.queue.prefix) for key in await self.keys()}
        self.assertEqual({key for key in left if key.startswith(("gt:", "gs:", "go:"))}, set())
        self.assertNotIn("names", left)

    async def test_what_follows_has_failed(self) -> None:
        """It is found until the job that follows waits again, or the group itself does."""
        wanted = GroupFilter(tags=[AFTER_FAILED])
        await self.submit("g", after=b"then")
        await self.end(1, "")
        (job,) = (await self.calls.reserve("n1", 1)).jobs
        self.assertEqual(await self.found(wanted), [])
        # One that waits for another try has a tag of its own; asked for, it is due now.
        trying = GroupFilter(tags=[AFTER_TRYING])
        await self.calls.nack("n1", job, 600, "503")
        self.assertEqual((await self.found(trying), await self.found(wanted)), (["g"], []))
        self.assertEqual((await self.calls.reserve("n1", 1)).jobs, [])
        self.assertTrue(await self.calls.revive(job.id))
        self.assertEqual(await self.found(trying), [])
        (job,) = (await self.calls.reserve("n1", 1)).jobs
        await self.calls.nack("n1", job, 0, "503", fatal=True)
        self.assertEqual(await self.found(wanted), ["g"])
        await self.calls.revive(job.id)
        self.assertEqual(await self.found(wanted), [])
        (job,) = (await self.calls.reserve("n1", 1)).jobs
        await self.calls.nack("n1", job, 0, "503", fatal=True)
        await self.queue.again("g")
        self.assertEqual(await self.found(wanted), [])
        # What becomes of the job that followed the run before says nothing of this one.
        await self.calls.revive(job.id)
        (job,) = (await self.calls.reserve("n1", 1)).jobs
        await self.calls.nack("n1", job, 0, "503", fatal=True)
        self.assertEqual(await self.found(wanted), [])
        await self.check()

    async def test_of_an_older_version(self) -> None:
        """Groups that are in no new index are put there by the housekeeping."""
        for name in ("g1", "g2"):
            await self.submit(name, after=b"then")
            await self.end(1, "")
            (job,) = (await self.calls.reserve("n1", 1)).jobs
            await self.calls.nack("n1", job, 0, "503", fatal=True)
        for key in ("names", f"gt:{AFTER_FAILED}"):
            await self.store.command("DEL", self.queue.prefix + key)
        await self.store.command("HDEL", f"{self.queue.prefix}meta", "index", "indexed")
        self.assertEqual(await self.found(GroupFilter(prefix="g")), ["g2", "g1"])
        self.assertEqual(await self.found(GroupFilter(tags=[AFTER_FAILED])), [])
        for _ in range(2):
            await self.queue.maintain(3600)
        for wanted in (GroupFilter(prefix="g"), GroupFilter(tags=[AFTER_FAILED])):
            self.assertEqual(await self.found(wanted), ["g2", "g1"])

    async def test_beside_an_older_version(self) -> None:
        """What its nodes submit is found by name later; what they forget is found no more."""
        for name in ("g1", "g2"):
            await self.submit(name)
            await self.end(0, "timeout")
        await self.queue.maintain(3600)
        await self.queue.maintain(3600)
        for name in ("h1", "h2", "g3"):
            await self.submit(name)
        command, prefix = self.store.command, self.queue.prefix
        for member in await command("ZRANGE", f"{prefix}names", 0, -1):
            if member.startswith(b"g3"):
                await command("ZREM", f"{prefix}names", member)
        for _ in range(3):
            await self.queue.maintain(3600)
        self.assertEqual(len(await command("ZRANGE", f"{prefix}names", 0, -1)), 5)
        for key in ("groups", "gs:failed"):
            await command("ZREM", f"{prefix}{key}", "g1")
        await command("DEL", f"{prefix}g:g1")
        self.assertEqual(await self.found(GroupFilter(tags=["timeout"])), ["g2"])
        self.assertEqual(await self.found(GroupFilter(prefix="g")), ["g3", "g2"])


class RedisGroupIndexTests(OnRedis, GroupIndexTests):
    """On Redis."""


class SqliteGroupIndexTests(OnSqlite, GroupIndexTests):
    """In a file."""


class MemoryGroupIndexTests(OnMemory, GroupIndexTests):
    """In memory."""


del GroupIndexTests
