"""A store without a server: an SQLite file that processes of one host share, or memory.

The scripts of ``jobs/lua/`` run here as they do in Redis, in the same Lua (5.1, by lupa), over
:mod:`~twisted_bulk.brokers.sqlite_commands`. Each is one transaction, so a failed one changes
nothing. A file has WAL and synchronous FULL, so that an answered call outlives a power cut.
"""

import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeadlinePassed
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from twisted_bulk.brokers.sqlite_commands import SCHEMA, Commands
from twisted_bulk.brokers.store import DEADLINE, Argument, Capabilities, Script
from twisted_bulk.errors import ConfigError, QueueFull, QueueUnavailable

MEMORY = ":memory:"
BUSY_SECONDS = 8.0  # that a transaction waits for another process's; then QueueUnavailable
VACUUM_EVERY = 256  # transactions, after which free pages are given back to the file system


def _lua() -> Any:
    try:
        from lupa.lua51 import LuaRuntime
    except ImportError:
        raise ConfigError(
            "broker: sqlite: and memory: need the package lupa: pip install 'twisted-bulk[sqlite]'"
        ) from None
    # As Redis does it: strings are bytes, and no way out to Python.
    return LuaRuntime(encoding=None, register_eval=False, register_builtins=False)


class Database:
    """The connection and its Lua, to be used by one thread at a time."""

    def __init__(self, path: str, now: Callable[[], float]) -> None:
        self._db = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(SCHEMA)
        self._heard: set[bytes] = set()
        self._commands = Commands(self._db, now, self._heard.add)
        self._lua = _lua()
        self._globals = self._lua.globals()
        self._globals[b"redis"] = self._lua.table_from({b"call": self._call})
        self._chunks: dict[str, Any] = {}
        self._done = 0

    def _call(self, name: bytes, *words: Any) -> Any:
        return self._for_lua(self._commands(name, *words))

    def _for_lua(self, reply: Any) -> Any:
        if isinstance(reply, list):
            return self._lua.table_from([self._for_lua(item) for item in reply])
        return False if reply is None else reply

    def _from_lua(self, value: Any) -> Any:
        if value is None or value is False:
            return None
        if isinstance(value, bytes):
            return value
        if isinstance(value, int | float):
            return int(value)  # Redis cuts the fraction off, too
        return [self._from_lua(value[n]) for n in range(1, len(value) + 1)]

    def run(self, script: Script, key: bytes, words: list[bytes]) -> Any:
        """One script, as one transaction."""
        chunk = self._chunks.get(script.sha)
        if chunk is None:
            chunk = self._chunks[script.sha] = self._lua.compile(script.source)
        self._globals[b"KEYS"] = self._lua.table_from([key])
        self._globals[b"ARGV"] = self._lua.table_from(words)
        return self._from_lua(self._in_transaction(chunk))

    def command(self, words: list[bytes]) -> Any:
        """One command, as one transaction."""
        return self._in_transaction(lambda: self._commands(words[0], *words[1:]))

    def _in_transaction(self, action: Callable[[], Any]) -> Any:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._commands.purge()
            result = action()
            self._db.execute("COMMIT")
        except BaseException:
            self._heard.clear()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._done += 1
        if self._done % VACUUM_EVERY == 0:
            self._db.execute("PRAGMA incremental_vacuum(500)").fetchall()
        return result

    def heard(self) -> set[bytes]:
        """Channels of what was published since the last call."""
        heard = set(self._heard)
        self._heard.clear()
        return heard

    def close(self) -> None:
        """Close the file; data in memory is gone."""
        self._db.close()


class SqliteStore(Service):
    """A store in the file ``path``, or in :data:`MEMORY` of this process.

    A file is used on a thread of its own, for a commit waits for the disk; memory at once.

    :param now: the time in seconds since 1970; the file's users share the host's clock
    """

    ports: Collection[int] = ()

    def __init__(self, reactor: Any, path: str, now: Callable[[], float] = time.time) -> None:
        self._reactor = reactor
        self._path = path
        self._now = now
        self._database: Database | None = None
        self._pool: ThreadPool | None = None
        self._listeners: dict[bytes, list[Callable[[], object]]] = {}
        shared = path != MEMORY
        self.capabilities = Capabilities(processes=shared, hosts=False, durable=shared)
        self.where = "memory" if path == MEMORY else f"sqlite file {path}"
        _lua()

    @property
    def store(self) -> "SqliteStore":
        """Itself: a StoreService has its store under this name."""
        return self

    def startService(self) -> None:
        super().startService()
        if self._path != MEMORY:
            Path(self._path).parent.mkdir(parents=True, exist_ok=True)
            self._pool = ThreadPool(0, 1, "sqlite")
            self._pool.start()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._database is not None:
            await self._on_thread(self._database.close)
            self._database = None
        if self._pool is not None:
            # Its threads are idle by now, so this does not wait.
            self._pool.stop()
            self._pool = None

    async def _on_thread(self, action: Callable[[], Any], deadline: float = DEADLINE) -> Any:
        if self._pool is None:
            return action()
        running = deferToThreadPool(self._reactor, self._pool, action)
        return await running.addTimeout(deadline, self._reactor)

    def _do(self, action: Callable[[Database], Any]) -> tuple[Any, set[bytes]]:
        if self._database is None:
            self._database = Database(self._path, self._now)
        return action(self._database), self._database.heard()

    async def _transact(self, action: Callable[[Database], Any], deadline: float) -> Any:
        if not self.running:
            raise QueueUnavailable(f"{self.where} is not open")
        try:
            with errors_of(self.where):
                result, heard = await self._on_thread(lambda: self._do(action), deadline)
        except DeadlinePassed:
            raise QueueUnavailable(f"{self.where} did not answer in time") from None
        for channel in heard:
            for tell in self._listeners.get(channel, ()):
                self._reactor.callLater(0, tell)
        return result

    async def run(
        self, script: Script, key: str, *arguments: Argument, deadline: float = DEADLINE
    ) -> Any:
        """Run ``script`` with ``key`` as its only key."""
        words = [word(argument) for argument in arguments]
        return await self._transact(lambda db: db.run(script, key.encode(), words), deadline)

    async def command(self, *arguments: Argument, deadline: float = DEADLINE) -> Any:
        """Run one Redis command."""
        words = [word(argument) for argument in arguments]
        return await self._transact(lambda db: db.command(words), deadline)

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await deferLater(self._reactor, seconds)

    def listen(self, channel: str, heard: Callable[[], object]) -> None:
        """Call ``heard`` after a message of this process; other processes' are not noticed."""
        self._listeners.setdefault(channel.encode(), []).append(heard)

    def attend(self, leave: Callable[[], Deferred[None]]) -> None:
        """Nothing: only its service closes it."""


@contextmanager
def errors_of(where: str) -> Iterator[None]:
    """Turns the database's errors into those of a store.

    :raises QueueFull: there is no room
    :raises QueueUnavailable: it is locked for too long, or cannot be read or written
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            raise QueueFull(f"{where}: {error}") from None
        raise QueueUnavailable(f"{where}: {error}") from None


def word(argument: Argument) -> bytes:
    if isinstance(argument, bytes):
        return argument
    return str(argument).encode()
