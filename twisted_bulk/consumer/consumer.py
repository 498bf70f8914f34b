"""A consumer: a worker that calls any Python function, for users of the library."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater
from twisted.logger import Logger

from twisted_bulk.calls.declarations import Declarations, declare_all
from twisted_bulk.calls.publisher import Publisher
from twisted_bulk.consumer.acks import adopt
from twisted_bulk.consumer.functions import FunctionCaller
from twisted_bulk.consumer.periodic_calls import PeriodicCalls
from twisted_bulk.consumer.registry import Functions, functions_of
from twisted_bulk.consumer.runner import Runner
from twisted_bulk.consumer.slots import Slots
from twisted_bulk.consumer.task import Backoff, Policy
from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs import quiet_hours as hours
from twisted_bulk.jobs.model import Alone
from twisted_bulk.jobs.protocol import JobQueue
from twisted_bulk.system.periodic import Periodic
from twisted_bulk.system.process import new_worker_id

log = Logger()

DEFAULT_BACKOFF = Backoff()
DECLARE_SECONDS = 3600.0  # between two declarations, so that others know that they still hold
MAINTAIN_SECONDS = 1.0  # between rounds of housekeeping in the queue


class Consumer(Runner):
    """Calls a function with the arguments of each job.

    A coroutine function, or one whose annotation says that it returns a Deferred, runs in the
    reactor's thread; any other function runs in a thread, or with ``processes`` in a child process.

    :param functions: one function, or several with their names and options
    :param slots: calls at once in this process
    :param threads: of one function: True: in threads; False: in the reactor's thread; None: as its
        kind says
    :param processes: of one function: run it in child processes
    :param timeout: seconds that a call may take; 0: any time; a function may have its own
    :param no_run: when nothing is begun, as :mod:`twisted_bulk.jobs.quiet_hours` reads it
    :param backoff: the pause before a failed call is tried again; a function may have its own
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
        functions: Callable[..., Any] | Functions,
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
        if isinstance(functions, Functions) and (threads is not None or processes):
            raise ValueError("threads and processes stand beside each function")
        found = functions_of(functions, threads=threads, processes=processes)
        self._declared = {name: one.declaration for name, one in found.by_name.items()}
        self._declared_at = -DECLARE_SECONDS
        self._periodic = PeriodicCalls(queue, found.periodic)
        policy = Policy(timeout, backoff)
        self._calls = FunctionCaller(
            found, Declarations(queue), reactor, slots=slots, policy=policy, freed=self.wake
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
            policy=self._calls.policy,
            hours=hours.parse_hours(no_run),
            spool=self._folder,
        )
        self._maintaining = Periodic(
            log, reactor, MAINTAIN_SECONDS, self._maintain, name="housekeeping"
        )

    @property
    def queue(self) -> JobQueue:
        """The queue that it works on."""
        return self._queue

    @cached_property
    def publisher(self) -> Publisher:
        """Queues calls of the functions."""
        return Publisher(self._queue)

    def startService(self) -> None:
        names = ", ".join(name for name in self._declared if name) or "one function"
        log.info("{queue}: runs {names}", queue=self._queue.name, names=names)
        self._periodic.log_entries()
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
        await self._declare()
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
        await self._periodic.look()
        if self._clock.seconds() - self._declared_at >= DECLARE_SECONDS:
            await self._declare()

    async def _declare(self) -> None:
        await declare_all(self._queue, self._declared)
        self._declared_at = self._clock.seconds()
