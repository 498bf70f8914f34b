"""A consumer: a worker that calls any Python function, for users of the library."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater
from twisted.logger import Logger

from twisted_bulk.consumer.acks import adopt
from twisted_bulk.consumer.functions import FunctionCaller
from twisted_bulk.consumer.runner import DEFAULT_BACKOFF, Runner
from twisted_bulk.consumer.slots import Slots
from twisted_bulk.consumer.task import Backoff
from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs import quiet_hours as hours
from twisted_bulk.jobs.model import Alone
from twisted_bulk.jobs.protocol import JobQueue
from twisted_bulk.jobs.publisher import Publisher
from twisted_bulk.system.periodic import Periodic
from twisted_bulk.system.process import new_worker_id

log = Logger()

MAINTAIN_SECONDS = 1.0  # between rounds of housekeeping in the queue


class Consumer(Runner):
    """Calls ``function`` with the parameters of each job: one, or several by name.

    A coroutine function, or one whose annotation says that it returns a Deferred, runs in the
    reactor's thread; any other function runs in a thread, or with ``processes`` in a child process.

    :param slots: calls at once in this process
    :param threads: True: in threads; False: in the reactor's thread; None: as its kind says
    :param processes: run it in child processes
    :param timeout: seconds that a call may take; 0: any time
    :param no_run: when nothing is begun, as :mod:`twisted_bulk.jobs.quiet_hours` reads it
    :param backoff: the pause before a failed call is tried again
    :param max_doing: calls at once in all processes; set for all when this one starts, and changed
        by ``queue.control`` at any time
    :param qps: calls that begin a second in all processes; set in the same way
    :param spool: folder for results that come while the queue is away; None: memory
    :param keep: seconds that the record of a call stays
    :param keep_count: records that stay at most, the latest ones
    :param drain: seconds that a stop waits for calls before it gives them back
    """

    def __init__(
        self,
        queue: JobQueue,
        function: Callable[..., Any],
        reactor: Any,
        *,
        slots: int = 8,
        threads: bool | None = None,
        processes: bool = False,
        timeout: float = 0,
        no_run: str = "",
        backoff: Backoff = DEFAULT_BACKOFF,
        max_doing: int | None = None,
        qps: float | None = None,
        spool: str | Path | None = None,
        keep: float = 86400,
        keep_count: int = 100_000,
        drain: float = 30,
    ) -> None:
        self._calls = FunctionCaller(
            function, reactor, slots=slots, threads=threads, processes=processes, freed=self.wake
        )
        given = {"max_doing": max_doing, "qps": qps}
        self._shared = {name: value for name, value in given.items() if value is not None}
        self._folder = Path(spool) if spool else None
        self._kept = (keep, keep_count)
        super().__init__(
            queue,
            self._calls,
            reactor,
            worker=new_worker_id(),
            slots=Slots(slots),
            alone=Alone.YES,
            drain=drain,
            timeout=timeout,
            hours=hours.parse_hours(no_run),
            backoff=backoff,
            spool=self._folder,
        )
        self._maintaining = Periodic(
            log, reactor, MAINTAIN_SECONDS, self._maintain, name="housekeeping"
        )

    @property
    def publisher(self) -> Publisher:
        """Queues calls of the function."""
        return self._queue.publisher

    def startService(self) -> None:
        self._calls.startService()
        super().startService()
        self._maintaining.startService()

    async def _stop(self) -> None:
        self._maintaining.stopService()
        await super()._stop()
        await self._calls.stopService()

    def occupied(self) -> int:
        return self._calls.left

    async def prepare(self) -> None:
        if self._folder is not None:
            try:
                await adopt(self._queue, self._folder)
            except OSError as error:  # the jobs of these results are done again
                log.error("results of earlier processes cannot be read: {error}", error=error)
        await self._queue.control(self._shared)

    async def empty(self, seconds: float = 0) -> None:
        """Wait until no call has waited or run for so many seconds, in any process."""
        while True:
            try:
                since = (await self._queue.stats()).empty
            except Unavailable:
                since = None
            if since is not None and since >= seconds:
                return
            pause = 0.1 if since is None else min(max(seconds - since, 0.01), 1.0)
            await deferLater(self._clock, pause)

    async def _maintain(self) -> None:
        await self._queue.maintain(*self._kept)
