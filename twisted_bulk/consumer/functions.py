"""Calls any Python function for a job: as a coroutine, in a thread, or in a child process."""

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from threading import Event, Thread
from typing import Any, get_type_hints

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from twisted_bulk.calls.arguments import Call, Payload, decode, encode_value
from twisted_bulk.calls.declarations import BadArguments, Declarations
from twisted_bulk.consumer.child_processes import ChildPool
from twisted_bulk.consumer.registry import Functions, Registered
from twisted_bulk.consumer.task import Fatal, GiveBack, Policy, Result, Task
from twisted_bulk.errors import Unavailable
from twisted_bulk.jobs.model import Job

log = Logger()

MIN_GIVE_BACK_SECONDS = 1.0  # before a call that its function gave back is taken again
UNKNOWN_SECONDS = 5.0  # at least, before a call whose function is not here is looked at again
MAX_UNKNOWN_SECONDS = 600.0
UNKNOWN_RATE = 20.0  # of these calls that come back in a second


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


class _DaemonThread(Thread):
    """A thread that ends with the process, whatever it does."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, daemon=True)


class _Threads(ThreadPool):
    """Threads that do not keep the process from ending."""

    threadFactory = _DaemonThread  # type: ignore[assignment]


def _later(back: GiveBack) -> GiveBack:
    """What a function raised, with a pause: it would be called again at once."""
    return GiveBack(str(back), max(back.delay, MIN_GIVE_BACK_SECONDS))


def _policy(one: Registered, default: Policy) -> Policy:
    timeout = default.timeout if one.timeout is None else one.timeout
    # A child has its own clock: its start is no part of a call.
    return Policy(timeout, one.backoff or default.backoff, has_own_clock=one.processes)


class FunctionCaller(Service):
    """Calls the function that a job names, with the arguments that it has.

    It runs in the reactor's thread if :func:`is_async`, else in one of ``slots`` threads, or in
    child processes. Cancelling stops a coroutine and kills a process. A thread cannot be stopped:
    its value is dropped, and its slot is taken until it ends (``left`` counts these).

    A job whose arguments do not fit fails for good, unless they fit what a consumer of another
    version has declared: then it is given back, and so is one whose function is not here.

    :param declarations: of all consumers of the queue
    :param policy: of the functions that have none of their own
    :param freed: called when a slot of a thread that was left is free again
    """

    def __init__(
        self,
        functions: Functions,
        declarations: Declarations,
        reactor: Any,
        *,
        slots: int,
        policy: Policy,
        freed: Callable[[], object] = lambda: None,
    ) -> None:
        self._functions = functions.by_name
        self._declarations = declarations
        self._threaded = {
            one.name
            for one in self._functions.values()
            if (not is_async(one.function) if one.threads is None else one.threads)
        }
        self._policies = {one.name: _policy(one, policy) for one in self._functions.values()}
        self._default = policy
        self._freed = freed
        self.left = 0
        self._reactor = reactor
        self._pools = {
            one.name: ChildPool(reactor, one.function)
            for one in self._functions.values()
            if one.processes
        }
        self._threads = _Threads(0, slots, "calls")
        self._unknown: set[str] = set()
        self._next_unknown = 0.0

    def startService(self) -> None:
        super().startService()
        self._threads.start()

    def stopService(self) -> Deferred[None]:
        """Kill the processes; threads that still run are not waited for."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        # A thread that hangs must not keep the reactor, or the process, from ending.
        Thread(target=self._threads.stop, daemon=True).start()
        for pool in self._pools.values():
            await pool.stopService()

    def policy(self, job: Job) -> Policy:
        """Of the attempts at a job."""
        if len(self._policies) == 1:
            return next(iter(self._policies.values()))
        try:
            return self._policies.get(decode(job.payload).function, self._default)
        except ValueError:
            return self._default

    async def __call__(self, task: Task) -> Result:
        try:
            asked = decode(task.job.payload)
        except ValueError as error:
            raise Fatal(f"not a call: {error}") from None
        found = self._find(asked.function)
        await self._check(found, Call(tuple(asked.args), asked.kwargs))
        try:
            return Result(data=await self._run(found, asked, task.job.payload))
        except GiveBack as back:
            raise _later(back) from None
        except Exception:
            raise
        except BaseException as error:  # sys.exit() in a function ends the call, not the worker
            raise RuntimeError(f"{type(error).__name__}: {error}") from None

    async def _run(self, found: Registered, asked: Payload, payload: bytes) -> bytes:
        """Call the function; returns its value as bytes."""
        if found.name in self._pools:
            return await self._pools[found.name].call(payload, self._policies[found.name].timeout)
        call = partial(found.function, *asked.args, **asked.kwargs)
        if found.name in self._threaded:
            return encode_value(await self._in_thread(self._threads, call))
        return encode_value(await maybeDeferred(call))

    async def _check(self, found: Registered, asked: Call) -> None:
        """See that the arguments of a call fit its function.

        :raises Fatal: they fit neither it nor what another version of it has declared
        :raises GiveBack: they fit another version
        """
        try:
            found.declaration.check(found.name, asked)
        except BadArguments as error:
            try:
                await self._declarations.find(found.name, [asked])
            except BadArguments:
                raise Fatal(f"bad_arguments: {error}") from None
            except Unavailable:
                raise GiveBack("the queue is away", UNKNOWN_SECONDS) from None
            raise GiveBack(f"for another version: {error}", self._spread()) from None

    def _spread(self) -> float:
        """Seconds before a call that is for others is looked at again.

        Many of these must not keep the calls of this consumer waiting: they come back one after the
        other, ``UNKNOWN_RATE`` a second.
        """
        now = self._reactor.seconds()
        self._next_unknown = max(now + UNKNOWN_SECONDS, self._next_unknown + 1 / UNKNOWN_RATE)
        self._next_unknown = min(self._next_unknown, now + MAX_UNKNOWN_SECONDS)
        return float(self._next_unknown - now)

    def _find(self, name: str) -> Registered:
        """The function of a job; without a name it is the only one.

        :raises GiveBack: it is not here
        """
        found = self._functions.get(name)
        if found is None and not name and len(self._functions) == 1:
            (found,) = self._functions.values()
        if found is None:
            if name not in self._unknown:
                self._unknown.add(name)
                log.warn("calls of {name!r} are given back: there is no such function", name=name)
            raise GiveBack(f"there is no function {name!r} here", self._spread())
        return found

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
