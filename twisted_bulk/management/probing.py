"""Asks some members of a batch for their sizes before it is queued, and estimates the rest."""

import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime

from twisted_bulk.batch.masks import show
from twisted_bulk.batch.model import Member
from twisted_bulk.errors import InvalidRequest, MemberError, Unavailable
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.jobs.stats import per_second
from twisted_bulk.orders.order import Order

MAX_PROBES = 1000  # members of one batch that are asked
MAX_AT_ONCE = 16  # of one batch
MAX_OF_HOST = 4  # of these at one host
SECONDS = 20.0  # in all; members that were not asked by then are not counted
MAX_CHECKS = 4  # batches whose members are asked at once; more are 503
MAX_SHOWN = 300  # characters of a URL

#: The bytes of a member's file, None if they are unknown; raises MemberError. With the batch's
#: headers.
AskSize = Callable[[Member, dict[str, str]], Awaitable[int | None]]


@dataclass
class _Told:
    """What members have told."""

    sizes: list[int] = field(default_factory=list)
    silent: int = 0
    failures: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """How many there are."""
        failed: int = sum(found[0] for found in self.failures.values())
        return len(self.sizes) + self.silent + failed

    def bytes(self, total: int) -> int | None:
        """The bytes of all ``total`` members, if they are as these; None: that is unknown."""
        if not self.sizes:
            return None
        good = (len(self.sizes) + self.silent) / self.asked
        return round(sum(self.sizes) / len(self.sizes) * total * good)


class Probing:
    """Asks for sizes.

    :param ask_size: asks one member
    :param rate: returns bytes a second at which this node serves a client; 0 or None: no number
    """

    def __init__(
        self,
        queue: GroupQueue,
        ask_size: AskSize,
        clock: IReactorTime,
        rate: Callable[[], int | None],
    ) -> None:
        self._queue = queue
        self._ask_size = ask_size
        self._clock = clock
        self._rate = rate
        self._running = 0

    async def probe(self, order: Order, members: list[Member]) -> dict[str, Any]:
        """As ``probe`` of the answer shows it.

        :param members: those that are asked, see :func:`sample`
        :raises Unavailable: as many checks as may ask their sources do so already
        """
        if self._running >= MAX_CHECKS:
            raise Unavailable("other checks ask their sources now")
        self._running += 1
        try:
            told = await self._ask(order, members)
        finally:
            self._running -= 1
        size, rate = told.bytes(len(order)), self._rate()
        stats = await self._queue.stats()
        speed = per_second(stats, "units")
        return {
            "asked": told.asked,
            "sized": len(told.sizes),
            "failures": [
                {"code": code, "members": members, "example": example}
                for code, (members, example) in told.failures.items()
            ],
            "bytes": size,
            "fetch_seconds": round((len(order) + stats.backlog) / speed, 1) if speed else None,
            "download_seconds": round(size / rate, 1) if size is not None and rate else None,
        }

    async def _ask(self, order: Order, members: list[Member]) -> _Told:
        told = _Told()
        by_host: dict[str, deque[Member]] = {}
        for member in members:
            by_host.setdefault(_host(member), deque()).append(member)
        lanes = deque(lane for lane in by_host.values() for _ in range(MAX_OF_HOST))

        async def work() -> None:
            while lanes:
                lane = lanes.popleft()
                while lane:
                    await self._ask_one(lane.popleft(), order, told)

        workers = [Deferred.fromCoroutine(work()) for _ in range(MAX_AT_ONCE)]

        def stop() -> None:
            for worker in workers:
                worker.cancel()

        timer = self._clock.callLater(SECONDS, stop)
        try:
            await gatherResults(workers, consumeErrors=True)
        except FirstError as error:
            # Members that are asked when the time is over do not count.
            if timer.active() or not error.subFailure.check(CancelledError):
                error.subFailure.raiseException()
        finally:
            if timer.active():
                timer.cancel()
            stop()
        return told

    async def _ask_one(self, member: Member, order: Order, told: _Told) -> None:
        try:
            size = await self._ask_size(member, dict(order.submission.headers))
        except MemberError as error:
            shown = show(member.url, order.submission.show_urls)[:MAX_SHOWN]
            told.failures.setdefault(error.code, [0, f"{shown}: {error.detail}"])[0] += 1
            return
        if size is None:
            told.silent += 1
        else:
            told.sizes.append(size)


def _host(member: Member) -> str:
    return member.url.partition("//")[2].partition("/")[0].lower()


def sample(order: Order, count: int) -> list[Member]:
    """Some members, evenly over the whole batch. Blocks."""
    step = max(1.0, len(order) / count)
    wanted = {int(number * step) for number in range(min(count, len(order)))}
    return [member for number, member in enumerate(_all(order)) if number in wanted]


def _all(order: Order) -> Iterator[Member]:
    for some in order.members(0, len(order)):
        yield from some


def probes(text: str) -> int:
    """How many members are to be asked, by the query.

    :raises InvalidRequest: it is no number of these
    """
    if not text:
        return 0
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= MAX_PROBES:
        raise InvalidRequest(f"probe: expected 1 to {MAX_PROBES}")
    return int(text)
