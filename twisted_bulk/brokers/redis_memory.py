"""Room in the queue's server: when batches are refused, and when what is kept has to go.

A server that is full refuses commands in the middle of something. So batches are refused before
that, and what runs has the rest for its progress and results. The server's own limit counts; where
it has none, nothing is known.
"""

from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_bulk.errors import QueueFull, Unavailable

log = Logger()

EVERY = 1.0  # seconds between looks
REFUSED = 0.85  # of the limit in use, from which no batch is taken in
CROWDED = 0.7  # from which the members of batches that have ended go
RETRY_AFTER = 30


class Server(Protocol):
    """What can tell how much memory it uses."""

    async def memory(self) -> tuple[int, int]:
        """Bytes in use, and how many may be; 0: any number."""


class Memory(Service):
    """The memory of the queue's server, as this process knows it."""

    def __init__(self, server: Server, clock: IReactorTime) -> None:
        self._server = server
        self._used = self._most = self._claimed = 0
        self._told = False
        self._looking = LoopingCall(self._look_soundly)
        self._looking.clock = clock

    def startService(self) -> None:
        super().startService()
        self._looking.start(EVERY)

    def stopService(self) -> None:
        super().stopService()
        self._looking.stop()

    def _look_soundly(self) -> Deferred[None]:
        # While the server is away what was known holds.
        looking = Deferred.fromCoroutine(self._look())
        return looking.addErrback(
            lambda f: None if f.check(Unavailable) else log.failure("asking for memory failed", f)
        )

    async def _look(self) -> None:
        self._used, self._most = await self._server.memory()
        self._claimed = 0
        full = bool(self._most) and self._share() >= REFUSED
        if full and not self._told:
            log.warn("{n} % of the queue's memory are in use: batches are refused",
                     n=round(100 * self._share()))  # fmt: skip
        elif self._told and not full:
            log.info("there is room in the queue again")
        self._told = full

    def _share(self, more: int = 0) -> float:
        return (self._used + self._claimed + more) / self._most

    @property
    def crowded(self) -> bool:
        """Whether what nobody waits for has to go."""
        return bool(self._most) and self._share() >= CROWDED

    def claim(self, size: int) -> None:
        """Before ``size`` bytes more are stored.

        :raises QueueFull: there is no room for them
        """
        if self._most and self._share(size) >= REFUSED:
            raise QueueFull(
                f"{round(100 * self._share())} % of the queue's {self._most} bytes of memory are"
                f" in use, and batches are taken in below {100 * REFUSED:.0f} %: it needs more"
                " (--redis-memory, maxmemory), or ended batches have to go (DELETE, --keep)",
                RETRY_AFTER,
            )
        self._claimed += size
