"""Calls any Python function for a job: as a coroutine, in a thread, or in a child process."""

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from threading import Event
from typing import Any, get_type_hints

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from twisted_bulk.consumer.child_processes import ChildPool
from twisted_bulk.consumer.task import Result, Task
from twisted_bulk.jobs.publisher import decode, encode_value


def is_async(function: Callable[..., Any]) -> bool:
    """Whether it is a coroutine function, or its annotation names a Deferred or an awaitable."""
    call = function if inspect.isroutine(function) else type(function).__call__
    if inspect.iscoroutinefunction(call):
        return True
    try:
        returned = get_type_hints(call).get("return")
    except Exception:  # an annotation that cannot be resolved tells nothing
        return False
    origin = getattr(returned, "__origin__", returned)
    return isinstance(origin, type) and issubclass(origin, Deferred | Awaitable)


class FunctionCaller(Service):
    """Decodes a job's parameters and calls ``function`` with them.

    It runs in the reactor's thread if :func:`is_async`, else in one of ``slots`` threads, or in
    child processes. Cancelling stops a coroutine and kills a process. A thread cannot be stopped:
    its value is dropped, and its slot is taken until it ends (``left`` counts these).

    :param threads: True: in threads; False: not; None: as :func:`is_async` says
    :param processes: in child processes
    :param freed: called when a slot of a thread that was left is free again
    """

    def __init__(
        self,
        function: Callable[..., Any],
        reactor: Any,
        *,
        slots: int,
        threads: bool | None = None,
        processes: bool = False,
        freed: Callable[[], object] = lambda: None,
    ) -> None:
        self._function = function
        self._freed = freed
        self.left = 0
        self._reactor = reactor
        self._pool: ChildPool | None = None
        self._threads: ThreadPool | None = None
        if processes:
            self._pool = ChildPool(reactor, function)
        elif threads or (threads is None and not is_async(function)):
            self._threads = ThreadPool(0, slots, "calls")

    def startService(self) -> None:
        super().startService()
        if self._threads is not None:
            self._threads.start()

    def stopService(self) -> Deferred[None]:
        """Kill the processes; threads that still run are not waited for."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._threads is not None:
            self._reactor.callInThread(self._threads.stop)
        if self._pool is not None:
            await self._pool.stopService()

    async def __call__(self, task: Task) -> Result:
        payload = task.job.payload
        if self._pool is not None:
            return Result(data=await self._pool.call(payload))
        one, many = decode(payload)
        if self._threads is not None:
            value = await self._in_thread(self._threads, partial(self._function, *one, **many))
        else:
            value = await maybeDeferred(self._function, *one, **many)
        return Result(data=encode_value(value))

    async def _in_thread(self, threads: ThreadPool, call: Callable[[], Any]) -> Any:
        cancelled, over = Event(), False

        def work() -> Any:
            try:
                return None if cancelled.is_set() else call()
            finally:
                self._reactor.callFromThread(ended)

        def ended() -> None:
            nonlocal over
            over = True
            if cancelled.is_set():
                self.left -= 1
                self._freed()

        try:
            return await deferToThreadPool(self._reactor, threads, work)
        except CancelledError:
            if not over and not cancelled.is_set():
                cancelled.set()
                self.left += 1
            raise
