"""The brokers that the conformance suite runs over."""

import sqlite3
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from tests.support.reactor import reactor
from tests.support.redis_servers import shared_redis
from twisted_bulk.brokers.services import store_service
from twisted_bulk.brokers.sqlite import MEMORY, SqliteStore
from twisted_bulk.brokers.store import Store
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.jobs.scripted import ScriptedQueue


class Broker(TestCase):
    """An empty store for each test, which ends with it."""

    timeout = 60
    store: Store

    def make(self) -> Any:
        """The service that keeps the store."""
        raise NotImplementedError

    async def setUp(self) -> None:  # type: ignore[override]
        service = self.make()
        service.startService()
        self.addCleanup(service.stopService)
        self.store = service.store

    async def keys(self) -> set[str]:
        """All keys that there are."""
        raise NotImplementedError

    async def audit(self, queue: ScriptedQueue) -> None:
        """Every job is in the one index that it says, and everything is counted right."""
        command, prefix = self.store.command, queue.prefix
        seen: dict[str, str] = {}
        backlog = held = 0
        small = set(await command("ZRANGE", f"{prefix}small", 0, -1))
        for line in ("todo", "suspect", "later", "doing", "done", "dead"):
            for member in await command("ZRANGE", prefix + line, 0, -1):
                job = member.decode()
                self.assertNotIn(job, seen, f"also in {line}")
                seen[job] = state = "todo" if line == "suspect" else line
                names = ("state", "wid", "size", "lost", "few")
                words = await command("HMGET", f"{prefix}j:{job}", *names)
                self.assertEqual(words[0], state.encode(), job)
                if state == "todo":
                    self.assertEqual(line == "suspect", int(words[3] or 0) >= 2, job)
                self.assertEqual(member in small, line == "todo" and words[4] == b"1", job)
                small.discard(member)
                if state == "doing":
                    held += 1
                    self.assertIn(
                        member, await command("SMEMBERS", f"{prefix}w:{words[1].decode()}")
                    )
                if state not in ("done", "dead"):
                    backlog += int(words[2] or 1)
        self.assertEqual(small, set())
        keys = await self.keys()
        hashes = {key.removeprefix(f"{prefix}j:") for key in keys if key.startswith(f"{prefix}j:")}
        self.assertEqual(hashes, set(seen))
        for key in keys:
            if key.startswith(f"{prefix}p:"):
                self.assertIn(key.removeprefix(f"{prefix}p:"), hashes)
            if key.startswith(f"{prefix}dd:"):
                self.assertIn((await command("GET", key)).decode(), hashes)
            if key.startswith(f"{prefix}w:"):
                held -= await command("SCARD", key)
        self.assertEqual(held, 0)
        counted = await command("HMGET", f"{prefix}meta", "backlog", "empty_since")
        self.assertEqual(int(counted[0] or 0), backlog)
        if counted[0]:
            self.assertEqual(counted[1] is not None, backlog == 0)

    async def age(self, queue: ScriptedQueue, key: str) -> None:
        """Make everything in the ZSET ``key`` due, as if time had passed."""
        for member in await self.store.command("ZRANGE", queue.prefix + key, 0, -1):
            await self.store.command("ZADD", queue.prefix + key, 1, member)


class OnRedis(Broker):
    """A real Redis or Valkey."""

    def make(self) -> Any:
        return store_service(reactor, shared_redis().url, Path())

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.store.command("FLUSHALL")

    async def keys(self) -> set[str]:
        return {key.decode() for key in await self.store.command("KEYS", "*")}


class OnSqlite(Broker):
    """A database file, on its thread."""

    def make(self) -> Any:
        self.path = self.mktemp() + "/queue.db"
        return SqliteStore(reactor, self.path)

    async def keys(self) -> set[str]:
        return sqlite_keys(sqlite3.connect(self.path))


class OnMemory(Broker):
    """A database in memory."""

    def make(self) -> Any:
        return SqliteStore(reactor, MEMORY)

    async def keys(self) -> set[str]:
        store: Any = self.store
        return sqlite_keys(store._database._db)


def sqlite_keys(db: sqlite3.Connection) -> set[str]:
    """All keys of a database of ours."""
    found = db.execute("SELECT key FROM h UNION SELECT key FROM z")
    return {key.decode() for (key,) in found}


class Queues(Broker):
    """A queue of groups and the one that follows it; both are audited at the end."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.calls = ScriptedQueue(self.store, "calls")
        self.queue = GroupQueue(self.store, "parts", 100, self.calls)

    async def check(self) -> None:
        """Audit both."""
        await self.audit(self.queue)
        await self.audit(self.calls)
