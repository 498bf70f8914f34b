"""Brokers that are called at once: nothing is waited for but their servers."""

import socket
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import hiredis
from twisted.internet.defer import Deferred

from tests.support.redis_servers import shared_redis
from twisted_bulk.brokers.sqlite import MEMORY, Database, word
from twisted_bulk.brokers.store import Capabilities, Script

T = TypeVar("T")


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of something that does not wait."""
    try:
        coroutine.send(None)
    except StopIteration as result:
        value: T = result.value
        return value
    raise AssertionError("it waits")


class Direct:
    """A store that answers at once."""

    where = "here"
    capabilities = Capabilities(processes=False, hosts=False, durable=False)

    def send(self, words: list[bytes]) -> Any:
        """One command."""
        raise NotImplementedError

    async def command(self, *arguments: Any, deadline: float = 0) -> Any:
        return self.send([word(one) for one in arguments])

    async def run(self, script: Script, key: str, *arguments: Any, deadline: float = 0) -> Any:
        return self.send([b"EVAL", script.source, b"1", *map(word, (key, *arguments))])

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def listen(self, channel: str, heard: Callable[[], object]) -> None:
        pass

    def attend(self, leave: Callable[[], Deferred[None]]) -> None:
        pass

    def close(self) -> None:
        pass


class DirectRedis(Direct):
    """A blocking connection."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(shared_redis().socket))
        self._reader = hiredis.Reader()
        self.send([b"FLUSHALL"])

    def send(self, words: list[bytes]) -> Any:
        self._socket.sendall(hiredis.pack_command(tuple(words)))  # type: ignore[arg-type]
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(65536))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        self._socket.close()


class DirectSqlite(Direct):
    """A database on the caller's thread."""

    def __init__(self, path: str = MEMORY) -> None:
        self._database = Database(path, time.time)

    def send(self, words: list[bytes]) -> Any:
        return self._database.command(words)

    async def run(self, script: Script, key: str, *arguments: Any, deadline: float = 0) -> Any:
        return self._database.run(script, key.encode(), [word(one) for one in arguments])

    def close(self) -> None:
        self._database.close()


class DirectFile(DirectSqlite):
    """A file; each step is done by another connection than the one before."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        path = str(Path(self._folder.name) / "queue.db")
        super().__init__(path)
        self._other = Database(path, time.time)

    def _swap(self) -> None:
        self._database, self._other = self._other, self._database

    def send(self, words: list[bytes]) -> Any:
        self._swap()
        return super().send(words)

    async def run(self, script: Script, key: str, *arguments: Any, deadline: float = 0) -> Any:
        self._swap()
        return await super().run(script, key, *arguments)

    def close(self) -> None:
        super().close()
        self._other.close()
        self._folder.cleanup()
