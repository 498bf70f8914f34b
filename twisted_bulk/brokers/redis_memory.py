"""Room in the queue's server: when batches are refused, and when kept data has to go.

A server that is full refuses commands in the middle of some work. So batches are refused before
that, and running work has the rest for its progress and its results. The server's own limit
(``maxmemory``) counts; of one without a limit nothing is known, and nothing is refused.
"""

from typing import Protocol

from twisted.application.service import MultiService
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_bulk.errors import QueueFull
from twisted_bulk.system.periodic import Periodic

log = Logger()

LOOK_SECONDS = 1.0  # between two questions to the server
REFUSE_SHARE = 0.85  # of the limit in use, from which no batch is taken in
DROP_SHARE = 0.7  # of the limit in use, from which the members of ended batches are dropped
RETRY_AFTER = 30  # seconds after which the client of a refused batch may try again


class Server(Protocol):
    """A server that tells how much memory it uses."""

    async def memory(self) -> tuple[int, int]:
        """Bytes in use, and its limit in bytes; 0: it has none."""


class RedisMemory(MultiService):
    """The memory of the queue's server, as this process knows it.

    While the server is away the last answer holds.
    """

    def __init__(self, server: Server, clock: IReactorTime) -> None:
        super().__init__()
        self._server = server
        self._used = self._limit = 0
        self._claimed = 0  # bytes that were stored since the last answer
        self._is_full = False
        Periodic(log, clock, LOOK_SECONDS, self._look, name="asking for memory").setServiceParent(
            self
        )

    async def _look(self) -> None:
        self._used, self._limit = await self._server.memory()
        self._claimed = 0
        full = bool(self._limit) and self._share() >= REFUSE_SHARE
        if full and not self._is_full:
            log.warn("{n} % of the queue's memory are in use: batches are refused",
                     n=round(100 * self._share()))  # fmt: skip
        elif self._is_full and not full:
            log.info("there is room in the queue again")
        self._is_full = full

    def _share(self, more: int = 0) -> float:
        """The share of the limit in use, with ``more`` bytes."""
        return (self._used + self._claimed + more) / self._limit

    @property
    def is_short(self) -> bool:
        """Whether the members of batches that have ended have to go."""
        return bool(self._limit) and self._share() >= DROP_SHARE

    def claim(self, size: int) -> None:
        """Ask for room before ``size`` bytes more are stored.

        :raises QueueFull: there is no room for them
        """
        if self._limit and self._share(size) >= REFUSE_SHARE:
            raise QueueFull(
                f"{round(100 * self._share())} % of the queue's {self._limit} bytes of memory are"
                f" in use, and batches are taken in below {100 * REFUSE_SHARE:.0f} %: it needs more"
                " (--redis-memory, maxmemory), or ended batches have to go (DELETE, --keep)",
                RETRY_AFTER,
            )
        self._claimed += size
