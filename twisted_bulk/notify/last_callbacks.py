"""Last callbacks: each is a job that follows its batch, and is tried until it arrives.

The queue adds the job in the step that ends the batch.
"""

import random
from collections.abc import Callable

import msgspec
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_bulk.batch.model import Spec
from twisted_bulk.batch.report import callback, report
from twisted_bulk.consumer.task import Fatal, GiveBack, Result, Retry, Task
from twisted_bulk.errors import Unavailable
from twisted_bulk.http_client.response import retry_after
from twisted_bulk.jobs.group_model import GroupRecord, split_after_id
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.notify.receivers import Receivers
from twisted_bulk.notify.replies import brief, is_final, is_working, refusal
from twisted_bulk.notify.sender import Sender
from twisted_bulk.system.urls import host_of

log = Logger()

#: Seconds after each failed try, +- 20 %. After the last one the callback is undelivered.
SCHEDULE = (5, 300, 1800, 7200, 18000, 36000, 36000)
MAX_TRIES = len(SCHEDULE) + 1
TIMEOUT = 15.0  # seconds for the receiver's reply; then the try has failed
#: Seconds that a callback waits here for its receiver to have a place; then the queue keeps it.
PLACE_SECONDS = 10.0
MAX_WAITING = 8  # callbacks that wait here for one receiver; the queue keeps further ones
SLOT_SECONDS = 0.25  # after which a callback that waits for its receiver takes no slot
FIRST_GIVE_BACK, LAST_GIVE_BACK = 10.0, 240.0  # seconds that the queue keeps one, +- 50 %


class LastCallbacks:
    """Sends the last callbacks of all batches; :meth:`deliver` is the function of their jobs.

    :param receivers: the hosts, shared with the progress callbacks
    :param reporter: id of this process
    :param link_base: returns the beginning of links
    :param progress_of: the progress callback of a batch that is under way here, or None
    """

    def __init__(
        self,
        queue: GroupQueue,
        sender: Sender,
        clock: IReactorTime,
        receivers: Receivers,
        *,
        reporter: str,
        link_base: Callable[[], str],
        progress_of: Callable[[str], Deferred[None] | None],
    ) -> None:
        self._queue = queue
        self._sender = sender
        self._clock = clock
        self._receivers = receivers
        self._reporter = reporter
        self._link_base = link_base
        self._progress_of = progress_of
        # The callbacks that wait for a place, by host, in their order.
        self._places: dict[str, dict[Deferred[None], None]] = {}

    async def deliver(self, task: Task) -> Result:
        """Send the last callback of a batch.

        :raises Retry: it has not arrived; with the schedule's next pause
        :raises Fatal: it may not be sent
        :raises GiveBack: the receiver has too many at once, or another node's progress callback of
            the batch is under way
        """
        began = self._clock.seconds()
        task.waits = lambda: began if self._clock.seconds() - began >= SLOT_SECONDS else None
        try:
            host = await self._wait(task)
        except Unavailable as problem:
            raise _queue_away(problem) from None
        if host is None:
            return Result()
        self._receivers.begin(host)
        answered: bool | None = None
        try:
            record = await self._batch(task)  # once more: time may have passed
            if record is None:
                return Result()
            body = callback(report(record, self._link_base()), record.seq)
            response, begin = await self._sender.post(record, body, "last", TIMEOUT)
            answered = is_working(response)
        except CancelledError:
            raise
        except Unavailable as problem:
            raise _queue_away(problem) from None
        except Exception as problem:
            if task.cancelled:  # the HTTP client reports that as a missing response
                raise CancelledError from problem
            if is_final(problem):
                raise self._refused(task, brief(problem)) from problem
            answered = False
            raise self._again(task, brief(problem)) from problem
        finally:
            self.end(host, answered)
        if 200 <= response.code < 300 or response.code == 410:
            return Result(data=b"HTTP %d" % response.code)
        raise self._again(task, refusal(response, begin), retry_after(response) or 0.0)

    def end(self, host: str, answered: bool | None) -> None:
        """A callback to ``host`` has ended, see :meth:`Receivers.end`: the next one may begin."""
        self._receivers.end(host, self._clock.seconds(), answered)
        if host in self._places:
            next(iter(self._places[host])).callback(None)

    async def _wait(self, task: Task) -> str | None:
        """Wait until this callback may be sent; returns its host, or None: nothing is to be sent.

        :raises GiveBack: that would take long
        """
        record = await self._batch(task)
        if record is None:
            return None
        # No progress may be sent after the last callback, by any node.
        while (sending := self._progress_of(record.id)) is not None:
            await _end_of(sending)
        if await self._queue.is_reported(record.id, self._reporter):
            raise GiveBack("another node's progress is on its way", random.uniform(0.5, 1))
        host = host_of(msgspec.json.decode(record.spec, type=Spec).url)
        await self._place(host)
        return host

    async def _place(self, host: str) -> None:
        """Wait until a last callback may be sent to ``host``.

        :raises GiveBack: that would take long
        """
        while not self._receivers.allows_last(host):
            waiting = self._places.get(host, {})
            if self._receivers.fails(host) or len(waiting) >= MAX_WAITING:
                raise self._give_back(host, "its receiver is in trouble, or has many to come")
            place: Deferred[None] = Deferred()
            self._places.setdefault(host, {})[place] = None
            try:
                await place.addTimeout(PLACE_SECONDS, self._clock)
            except TimeoutError:
                raise self._give_back(host, "its receiver is slow") from None
            finally:
                del self._places[host][place]
                if not self._places[host]:
                    del self._places[host]

    async def _batch(self, task: Task) -> GroupRecord | None:
        """The batch; None: it was deleted, or was retried and has another last callback."""
        batch, run = split_after_id(task.job.id)
        record = await self._queue.group(batch)
        return record if record is not None and record.run == run else None

    def _give_back(self, host: str, why: str) -> GiveBack:
        # A receiver that has been away for minutes is asked less often.
        away = self._receivers.away(host, self._clock.seconds())
        delay = min(max(FIRST_GIVE_BACK, away), LAST_GIVE_BACK)
        return GiveBack(why, random.uniform(0.5, 1.5) * delay)

    def _refused(self, task: Task, trouble: str) -> Fatal:
        log.error("last callback of {batch} is not sent: {trouble}",
                  batch=split_after_id(task.job.id)[0], trouble=trouble)  # fmt: skip
        return Fatal(trouble)

    def _again(self, task: Task, trouble: str, wait: float = 0.0) -> Retry:
        attempt = task.job.attempt
        step = SCHEDULE[min(attempt, len(SCHEDULE)) - 1] * random.uniform(0.8, 1.2)
        log.warn("last callback of {batch}, try {n}: {trouble}",
                 batch=split_after_id(task.job.id)[0], n=attempt, trouble=trouble)  # fmt: skip
        return Retry(trouble, max(step, min(wait, 2 * step)))


def _end_of(sending: Deferred[None]) -> Deferred[None]:
    """Fires when a callback has ended; cancelling it does not cancel the callback."""
    ended: Deferred[None] = Deferred()
    sending.addBoth(lambda _: ended.callback(None))
    return ended


def _queue_away(problem: Unavailable) -> GiveBack:
    """The queue is away: that is no failure of the receiver, and uses up no try."""
    return GiveBack(str(problem), random.uniform(0.5, 5))
