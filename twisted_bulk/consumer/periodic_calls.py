"""Queues calls at fixed times when they are due; in all processes together, each once."""

from collections.abc import Sequence
from datetime import UTC, datetime

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from twisted_bulk.calls.arguments import encode
from twisted_bulk.calls.cron import MAX_LATE_SECONDS, Periodic
from twisted_bulk.calls.publisher import work_of
from twisted_bulk.errors import QueueFull, Unavailable
from twisted_bulk.jobs.protocol import JobQueue

log = Logger()

MAX_AT_ONCE = 100  # times of one entry that one look queues; the others follow in the next


class PeriodicCalls:
    """The calls at fixed times of one consumer.

    Each time is queued by whichever process comes first. The queue keeps, for each entry, the last
    time that was queued. So no time is lost or queued twice, however processes start and end.
    """

    def __init__(self, queue: JobQueue, periodic: Sequence[Periodic]) -> None:
        self._queue = queue
        self._periodic = periodic
        self._following: dict[str, tuple[float, int]] = {}  # by name: after which time, and when
        self._is_full = False

    def log_entries(self) -> None:
        """Tell the log what is called when."""
        for one in self._periodic:
            log.info("{name}: at {line}", name=one.name, line=one.key)

    async def look(self) -> None:
        """Queue what is due.

        :raises Unavailable: the queue is away
        """
        if not self._periodic:
            return
        lines = {one.name: one.key for one in self._periodic}
        now, last = await self._queue.last_times(lines)
        for one, before in zip(self._periodic, last, strict=True):
            try:
                await self._queue_due(one, before, now)
            except QueueFull:
                if not self._is_full:
                    log.warn("calls of {name} are due, and the queue is full", name=one.name)
                self._is_full = True
                return
            except Unavailable:
                raise
            except CancelledError:
                raise
            except Exception:  # the other entries have their times, too
                log.failure("calls of {name} cannot be queued", name=one.name)
        self._is_full = False

    async def _queue_due(self, one: Periodic, before: float, now: float) -> None:
        for _ in range(MAX_AT_ONCE):
            begin = max(before, now - MAX_LATE_SECONDS)
            due = self._next(one, begin)
            if due > now:
                return
            if begin > before:
                then = datetime.fromtimestamp(due, UTC).isoformat()
                log.warn("calls of {name} before {then} are left out", name=one.name, then=then)
            payload = encode(one.function, one.call)
            work = work_of(f"cron-{one.name}-{due}", payload, one.options)
            if not await self._queue.enqueue_due(one.name, one.key, before, due, work):
                return  # another process was first
            before = due

    def _next(self, one: Periodic, after: float) -> int:
        known = self._following.get(one.name)
        if known is None or known[0] != after:
            known = self._following[one.name] = after, one.following(after)
        return known[1]
