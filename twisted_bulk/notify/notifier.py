"""Progress callbacks while a batch runs.

They are best effort: each batch that runs on this node is told every few seconds, one callback at a
time. What is due while a callback of its batch is under way is merged into the next one.
"""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_bulk.batch.report import callback, report
from twisted_bulk.errors import MemberError, Unavailable
from twisted_bulk.http_client.connection import StaleConnection
from twisted_bulk.jobs.group_model import ENDED
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.notify.last_callbacks import LastCallbacks
from twisted_bulk.notify.receivers import Receivers
from twisted_bulk.notify.replies import brief, is_final, is_working
from twisted_bulk.notify.sender import Sender
from twisted_bulk.system.periodic import Periodic

log = Logger()

TIMEOUT = 10.0  # seconds for the receiver's reply; then the callback has failed
#: Seconds for which this process has the right to report on a batch: for one callback, and for the
#: queue's answers before it.
LEASE_SECONDS = 15.0
MARGIN = 1.0  # seconds by which clocks and timers may be late


class Notifier(MultiService):
    """Sends the progress callbacks of the batches that run on this node.

    ``last`` sends the last callbacks of all batches.

    :param reporter: id of this process: of several nodes one reports on a batch
    :param every: seconds between two progress callbacks of a batch
    :param link_base: returns the beginning of links
    :param reporting: running batches that have a callback, each with the host that it goes to
    :param processes: processes of this node that send callbacks
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
        super().__init__()
        self._queue = queue
        self._sender = sender
        self._clock = clock
        self._reporter = reporter
        self._every = every
        self._link_base = link_base
        self._reporting = reporting
        self._receivers = Receivers(processes)
        self._sending: dict[str, Deferred[None]] = {}
        self._waiting: dict[str, dict[str, None]] = {}  # batches by host, in their order
        self._unwanted: set[str] = set()  # batches whose receiver wants no progress (410)
        self.last = LastCallbacks(
            queue, sender, clock, self._receivers,
            reporter=reporter, link_base=link_base, progress_of=self._sending.get,
        )  # fmt: skip
        self._looks = Periodic(log, clock, every, self._look, name="progress", at_once=False)
        self._looks.setServiceParent(self)

    def stopService(self) -> Deferred[Any]:
        stopped: Deferred[Any] = super().stopService()
        for sending in list(self._sending.values()):
            sending.cancel()
        return stopped

    def _look(self) -> None:
        """Find the batches whose progress is due, and send as much as may be sent now."""
        wanted: dict[str, dict[str, None]] = {}
        self._unwanted.intersection_update(batch for batch, _ in self._reporting)
        for batch, host in self._reporting:
            if batch not in self._unwanted:
                wanted.setdefault(host, {})[batch] = None
        # Batches that wait keep their place; of those under way the next callback tells more.
        self._waiting = {
            host: {batch: None for batch in self._waiting.get(host, ()) if batch in batches}
            | {batch: None for batch in batches if batch not in self._sending}
            for host, batches in wanted.items()
        }
        for host in list(self._waiting):
            self._send_waiting(host)

    def _send_waiting(self, host: str) -> None:
        """Begin callbacks to ``host`` of batches that wait, as many as it may have now."""
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
        sending = Deferred.fromCoroutine(self._progress(batch, host))
        self._sending[batch] = sending

        def ended(failure: Failure | None) -> None:
            del self._sending[batch]
            if failure is not None and not failure.check(CancelledError, Unavailable):
                say = log.warn if batch in self._unwanted else log.info
                say("progress of {batch}: {error}", batch=batch, error=brief(failure.value))
            self._clock.callLater(0, self._send_waiting, host)

        sending.addBoth(ended)

    async def _progress(self, batch: str, host: str) -> None:
        answered: bool | None = None
        claimed = False
        try:
            for again in (True, False):
                until = self._clock.seconds() + LEASE_SECONDS
                seq = await self._queue.claim_report(batch, self._reporter, LEASE_SECONDS)
                claimed = claimed or seq > 0
                record = await self._queue.group(batch) if seq else None
                # Later than `until` another process may report.
                left = min(TIMEOUT, until - MARGIN - self._clock.seconds())
                if record is None or record.state in ENDED or left <= 0:
                    return
                body, answered = callback(report(record, self._link_base()), seq), False
                try:
                    response, _ = await self._sender.post(record, body, f"{seq}", left)
                    break
                except StaleConnection:
                    # The receiver may have this one: the next one has another number.
                    if not again:
                        raise
            answered = is_working(response)
            if response.code == 410:
                self._unwanted.add(batch)
        except CancelledError:
            answered = None
            raise
        except MemberError as problem:
            if is_final(problem):
                answered = None
                self._unwanted.add(batch)
            raise
        finally:
            self.last.end(host, answered)
            # This process goes on to report on the batch, unless it has no part of it any more.
            if claimed:
                keep = 2 * self._every if (batch, host) in self._reporting else 0
                await self._queue.release_report(batch, self._reporter, keep)
