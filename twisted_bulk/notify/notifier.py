"""Callbacks: progress while a batch runs, and the last one until it arrives.

Progress is best effort: a LoopingCall posts it every few seconds, one at a time for
each batch; a tick that finds one on its way is merged into the next. The last
callback is a job of its own, queued in the step that ended the batch.
"""

import random
from collections.abc import Callable, Iterable

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IResponse

from twisted_bulk.batch.model import Spec, host_of
from twisted_bulk.batch.report import callback, report
from twisted_bulk.consumer.task import Fatal, GiveBack, Result, Retry, Task
from twisted_bulk.errors import MemberError, Unavailable
from twisted_bulk.http_client.pool import StaleConnection
from twisted_bulk.http_client.response import explain, retry_after
from twisted_bulk.jobs.group_model import ENDED, GroupRecord, split_after_id
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.notify.receivers import Receivers
from twisted_bulk.notify.sender import Sender

log = Logger()

#: Seconds after each failed try of a last callback, +- 20 %; then it stays undelivered.
SCHEDULE = (5, 300, 1800, 7200, 18000, 36000, 36000)
TRIES = len(SCHEDULE) + 1
PROGRESS_TIMEOUT, LAST_TIMEOUT = 10.0, 15.0
MARGIN = 1.0  # seconds that clocks and timers may be late
LEASE = 15.0  # seconds that a progress callback may take, with what Redis takes before it
PATIENCE = 10.0  # seconds that a last callback waits here for its receiver to have a place
#: What refuses a callback before anybody was asked: a further try would end in the same way.
FINAL = frozenset(("address_refused", "port_refused", "bad_url"))
WAITS = 0.25  # seconds after which a last callback waits for its receiver, and holds no slot
LINE = 8  # last callbacks that wait here for one receiver; others wait in the queue


class Notifier(Service):
    """Progress callbacks of the batches that run on this node, and all last callbacks.

    :param reporter: this process's id: of several nodes one reports a batch
    :param reporting: running batches that have a callback, each with the host that it goes to
    :param processes: how many of this node send callbacks
    """

    def __init__(
        self,
        queue: GroupQueue,
        sender: Sender,
        clock: IReactorTime,
        *,
        reporter: str,
        every: float,
        link_base: Callable[[], str],
        reporting: Iterable[tuple[str, str]],
        processes: int = 1,
    ) -> None:
        self._queue = queue
        self._sender = sender
        self._clock = clock
        self._reporter = reporter
        self._every = every
        self._link_base = link_base
        self._reporting = reporting
        self._receivers = Receivers(processes)
        self._posting: dict[str, Deferred[None]] = {}
        self._waiting: dict[str, dict[str, None]] = {}  # batches by host, in order
        self._unwanted: set[str] = set()  # batches of which the receiver wants no progress: 410
        self._places: dict[str, dict[Deferred[None], None]] = {}  # last ones that wait, the same
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock

    def startService(self) -> None:
        super().startService()
        self._ticking.start(self._every, now=False)

    def stopService(self) -> None:
        super().stopService()
        self._ticking.stop()
        for posting in list(self._posting.values()):
            posting.cancel()

    def _tick(self) -> None:
        wanted: dict[str, dict[str, None]] = {}
        self._unwanted.intersection_update(batch for batch, _ in self._reporting)
        for batch, host in self._reporting:
            if batch not in self._unwanted:
                wanted.setdefault(host, {})[batch] = None
        # Who waits keeps its place; what is on its way now is merged into the next tick.
        self._waiting = {
            host: {batch: None for batch in self._waiting.get(host, ()) if batch in batches}
            | {batch: None for batch in batches if batch not in self._posting}
            for host, batches in wanted.items()
        }
        for host in list(self._waiting):
            self._pump(host)

    def _pump(self, host: str) -> None:
        """Tell ``host`` of the batches that wait, as far as it can be asked now."""
        waiting = self._waiting.get(host)
        while (
            self.running and waiting
            and self._receivers.allows_progress(host, self._clock.seconds())
        ):  # fmt: skip
            batch = next(iter(waiting))
            del waiting[batch]
            self._begin(batch, host)

    def _begin(self, batch: str, host: str) -> None:
        self._receivers.begin(host)
        posting = Deferred.fromCoroutine(self._progress(batch, host))
        self._posting[batch] = posting

        def ended(failure: Failure | None) -> None:
            del self._posting[batch]
            if failure is not None and not failure.check(CancelledError, Unavailable):
                say = log.warn if batch in self._unwanted else log.info
                say("progress of {batch}: {error}", batch=batch, error=_brief(failure.value))
            self._clock.callLater(0, self._pump, host)

        posting.addBoth(ended)

    async def _progress(self, batch: str, host: str) -> None:
        answered, spoke = None, False
        try:
            response = None
            for again in (True, False):
                until = self._clock.seconds() + LEASE
                seq = await self._queue.claim_report(batch, self._reporter, LEASE)
                spoke = spoke or seq > 0
                record = await self._queue.group(batch) if seq else None
                # Later than this, another node may already send something.
                left = min(PROGRESS_TIMEOUT, until - MARGIN - self._clock.seconds())
                if record is None or record.state in ENDED or left <= 0:
                    return
                body, answered = callback(report(record, self._link_base()), seq), False
                try:
                    response = await self._sender.post(record, body, f"{seq}", left)
                    break
                except StaleConnection:
                    # The receiver may have it: the next one has another number.
                    if not again:
                        raise
            assert response is not None
            answered = _works(response)
            if response.code == 410:
                self._unwanted.add(batch)
        except CancelledError:
            answered = None
            raise
        except MemberError as problem:
            if problem.code in FINAL:
                answered = None
                self._unwanted.add(batch)
            raise
        finally:
            self._end(host, answered)
            # Who reports goes on with it, unless this node no longer has a part of the batch.
            if spoke:
                keep = 2 * self._every if (batch, host) in self._reporting else 0
                await self._queue.release_report(batch, self._reporter, keep)

    def _end(self, host: str, answered: bool | None) -> None:
        self._receivers.end(host, self._clock.seconds(), answered)
        if host in self._places:
            next(iter(self._places[host])).callback(None)

    async def _place(self, host: str) -> None:
        """Wait until a last callback may be sent to ``host``.

        :raises GiveBack: that would take long: others may have its place here
        """
        while not self._receivers.allows_last(host):
            line = self._places.get(host, {})
            if self._receivers.fails(host) or len(line) >= LINE:
                raise self._give_back(host, "its receiver is in trouble, or has many to come")
            place: Deferred[None] = Deferred()
            self._places.setdefault(host, {})[place] = None
            try:
                await place.addTimeout(PATIENCE, self._clock)
            except TimeoutError:
                raise self._give_back(host, "its receiver is slow") from None
            finally:
                del self._places[host][place]
                if not self._places[host]:
                    del self._places[host]

    def _give_back(self, host: str, why: str) -> GiveBack:
        # Who has been away for minutes is asked less often about each of what waits for him.
        away = self._receivers.away(host, self._clock.seconds())
        return GiveBack(why, random.uniform(0.5, 1.5) * min(max(10.0, away), 240.0))

    def _ended(self, batch: str) -> Deferred[None]:
        """Fires once the progress callback that is on its way has ended."""
        waiting: Deferred[None] = Deferred()
        self._posting[batch].addBoth(lambda _: waiting.callback(None))
        return waiting

    async def deliver(self, task: Task) -> Result:
        """The job that follows a batch: its last callback.

        :raises Retry: it has not arrived; with the schedule's next pause
        :raises Fatal: it may not be sent
        :raises GiveBack: as many are on their way to its receiver as may, or another node's
            progress of the batch is
        """
        began = self._clock.seconds()
        task.waits = lambda: began if self._clock.seconds() - began >= WAITS else None
        try:
            host = await self._turn(task)
        except Unavailable as problem:
            raise _away(problem) from None
        if host is None:
            return Result()
        self._receivers.begin(host)
        answered: bool | None = None
        try:
            record = await self._last_of(task)  # once more: it may have waited
            if record is None:
                return Result()
            body = callback(report(record, self._link_base()), record.seq)
            response = await self._sender.post(record, body, "last", LAST_TIMEOUT)
            answered = _works(response)
        except CancelledError:
            raise
        except Unavailable as problem:
            raise _away(problem) from None
        except Exception as problem:
            if task.cancelled:  # HTTP clients make of that that there was no answer
                raise CancelledError from problem
            answered = False
            if isinstance(problem, MemberError) and problem.code in FINAL:
                answered = None  # nobody was asked
                raise self._never(task, _brief(problem)) from problem
            raise self._again(task, _brief(problem)) from problem
        finally:
            self._end(host, answered)
        if 200 <= response.code < 300 or response.code == 410:
            return Result(data=b"HTTP %d" % response.code)
        raise self._again(task, f"HTTP {response.code}", retry_after(response) or 0.0)

    async def _turn(self, task: Task) -> str | None:
        """The host that may be sent this last callback now; None: there is nothing to send.

        :raises GiveBack: that would take long
        """
        record = await self._last_of(task)
        if record is None:
            return None
        # Nothing may be sent after the last one, by whomever.
        while record.id in self._posting:
            await self._ended(record.id)
        if await self._queue.is_reported(record.id, self._reporter):
            raise GiveBack("another node's progress is on its way", random.uniform(0.5, 1))
        host = host_of(msgspec.json.decode(record.spec, type=Spec).url)
        await self._place(host)
        return host

    async def _last_of(self, task: Task) -> GroupRecord | None:
        """The batch, unless it was deleted, or tried again: that has a last one of its own."""
        batch, run = split_after_id(task.job.id)
        record = await self._queue.group(batch)
        return record if record is not None and record.run == run else None

    def _never(self, task: Task, trouble: str) -> Fatal:
        log.error("last callback of {batch} is not sent: {trouble}",
                  batch=split_after_id(task.job.id)[0], trouble=trouble)  # fmt: skip
        return Fatal(trouble)

    def _again(self, task: Task, trouble: str, wait: float = 0.0) -> Retry:
        attempt = task.job.attempt
        step = SCHEDULE[min(attempt, len(SCHEDULE)) - 1] * random.uniform(0.8, 1.2)
        log.warn("last callback of {batch}, try {n}: {trouble}",
                 batch=split_after_id(task.job.id)[0], n=attempt, trouble=trouble)  # fmt: skip
        return Retry(trouble, max(step, min(wait, 2 * step)))


def _away(problem: Unavailable) -> GiveBack:
    """The queue's trouble is not the receiver's, and costs no try."""
    return GiveBack(str(problem), random.uniform(0.5, 5))


def _works(response: IResponse) -> bool:
    """Whether the receiver is in order, whatever it thinks of this callback."""
    code: int = response.code
    return code < 500 and code != 429


def _brief(problem: BaseException | None) -> str:
    if isinstance(problem, Exception) and not isinstance(problem, MemberError):
        problem = explain(Failure(problem))
    return f"{problem.code}: {problem.detail}" if isinstance(problem, MemberError) else ""
