"""Puts function calls into a queue, and waits for what they return."""

import hashlib
import re
import secrets
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from twisted_bulk.calls.arguments import Call, decode, decode_value, encode
from twisted_bulk.calls.declarations import OPTIONS, Declaration, Declarations, checked_options
from twisted_bulk.jobs.model import JobRecord, Queued, Work
from twisted_bulk.jobs.protocol import JobQueue

MAX_NAME = 50  # characters of a function's name in the ids of its calls
FIRST_PAUSE, MAX_PAUSE = 0.02, 1.0  # seconds between two looks for a result; doubled each time


class CallFailed(Exception):
    """A call has failed and is not tried again.

    :param why: retries, fatal, poison, expired or cancelled
    """

    def __init__(self, job: str, why: str, error: str) -> None:
        super().__init__(f"{job}: {why}" + (f": {error}" if error else ""))
        self.job = job
        self.why = why
        self.error = error


class NoSuchCall(LookupError):
    """There is no call with this id, or not any more."""


@dataclass(frozen=True)
class FailedCall:
    """A call that is dead: it has failed, and is not tried again by itself.

    :param why: retries, fatal, poison, expired or cancelled
    :param ended: seconds since 1970
    """

    id: str
    function: str
    args: list[Any]
    kwargs: dict[str, Any]
    tries: int
    why: str
    error: str
    ended: float


@dataclass(frozen=True)
class Publisher:
    """Queues calls of a consumer's function. The options are those of ``Work``.

    An option that is None is as the consumer declares it beside the function, else as in ``Work``.

    :param function: its name; empty: the only one of the queue
    :param unique: a call is dropped while a call with equal arguments waits or runs
    :param window: seconds; a call is also dropped when an equal call was done in that time
    :param check: refuse arguments that do not fit what the consumers of the queue have declared
    :raises ValueError: an option has a value of another kind
    """

    queue: JobQueue
    function: str = ""
    priority: int | None = None
    first: bool | None = None
    delay: float | None = None
    expires: float | None = None
    tries: int | None = None
    losses: int | None = None
    unique: bool | None = None
    window: float | None = None
    check: bool = True
    _declarations: Declarations | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        checked_options({name: getattr(self, name) for name in OPTIONS})
        if self._declarations is None:
            object.__setattr__(self, "_declarations", Declarations(self.queue))

    def options(self, **options: Any) -> "Publisher":
        """A publisher with other options: ``publisher.options(priority=5).push(url)``."""
        return replace(self, **options)

    async def push(self, *args: Any, **kwargs: Any) -> Queued:
        """Queue one call; returns when it is stored.

        When the broker's answer is lost, the call may be queued although this raises. With
        ``unique`` a second push of the call is dropped then.

        :raises BadArguments: the function cannot be called so
        :raises TypeError: an argument is a value that JSON does not have
        """
        (queued,) = await self.push_many([Call(args, kwargs)])
        return queued

    async def push_many(self, calls: Iterable[Any]) -> list[Queued]:
        """Queue many calls: an entry is ``call(...)``, or the one argument that push would get.

        :raises QueueFull: not all have room; its ``queued`` has those that were queued
        """
        asked = [one if isinstance(one, Call) else Call((one,)) for one in calls]
        declared = Declaration()
        if self.check:
            assert self._declarations is not None
            declared = await self._declarations.find(self.function, asked)
        work = [self._work(one, declared) for one in asked]
        found = await self.queue.enqueue(work)
        # Ids are random: one that is known is a push whose answer was lost.
        return [
            Queued(one.id, one.new or one.id == its.id)
            for one, its in zip(found, work, strict=True)
        ]

    def _work(self, asked: Call, declared: Declaration) -> Work:
        payload = encode(self.function, asked)
        given = {name: getattr(self, name) for name in OPTIONS}
        chosen = declared.options | {k: v for k, v in given.items() if v is not None}
        name = re.sub(r"[^\w.-]", "_", self.function)[:MAX_NAME]
        return work_of(f"{name}-{secrets.token_hex(8)}".lstrip("-"), payload, chosen)

    async def result(self, job: Queued | str, timeout: float | None = None) -> Any:
        """Wait for a call; returns what its function returned, as JSON has it.

        :param timeout: seconds; None: however long it takes
        :raises CallFailed: it has failed, and is not tried again
        :raises NoSuchCall: there is no such call, or its record is gone
        :raises TimeoutError: it has not ended in time
        """
        job_id = job if isinstance(job, str) else job.id
        pause, end = FIRST_PAUSE, None if timeout is None else monotonic() + timeout
        while True:
            record = await self.queue.job(job_id)
            if record is None:
                raise NoSuchCall(f"there is no call {job_id}")
            if record.state in ("done", "dead"):
                return value_of(record)
            if end is not None:
                left = end - monotonic()
                if left <= 0:
                    raise TimeoutError(f"{job_id} has not ended within {timeout:g} s")
                pause = min(pause, left)
            await self.queue.pause(pause)
            pause = min(MAX_PAUSE, 2 * pause)

    async def failed(self) -> AsyncGenerator[FailedCall, None]:
        """The calls that are dead, the latest first; of ``function``, if it is not empty."""
        cursor = ""
        while True:
            found, cursor = await self.queue.dead(cursor)
            for job_id in found:
                record, payload = await self.queue.job(job_id), await self.queue.payload(job_id)
                if record is not None and payload is not None and record.state == "dead":
                    with suppress(ValueError):  # it is no call
                        one = failed_call(record, payload)
                        if self.function in ("", one.function):
                            yield one
            if not cursor:
                return

    async def revive(self, job: str) -> bool:
        """Queue a dead call again, with all its tries.

        :returns: False: it is not dead, or an equal unique call waits or runs
        """
        return await self.queue.revive(job)


def failed_call(record: JobRecord, payload: bytes) -> FailedCall:
    """A dead call, by its record and its payload."""
    asked = decode(payload)
    return FailedCall(
        record.id, asked.function, asked.args, asked.kwargs, record.tries, record.why,
        record.error, record.ended or 0.0,
    )  # fmt: skip


def value_of(record: JobRecord) -> Any:
    """What the function of an ended call returned.

    :raises CallFailed: it has failed
    """
    if record.state == "dead":
        raise CallFailed(record.id, record.why, record.error)
    return decode_value(record.result)


def work_of(job_id: str, payload: bytes, options: dict[str, Any]) -> Work:
    """The job of a call.

    :param options: of :data:`~twisted_bulk.calls.declarations.OPTIONS`
    """
    given = dict(options)
    unique = given.pop("unique", False) or given.get("window", 0) > 0
    digest = hashlib.sha256(payload).hexdigest() if unique else ""
    return Work(id=job_id, payload=payload, digest=digest, **given)
