"""The rate limit per client address.

Each address has a virtual clock: the time at which all that it was sent so far would
have ended at exactly the allowed rate (GCRA's theoretical arrival time). It may send
whenever that time has come, and what it sends moves the time on. Among the address's
transfers a ring gives one quantum to each in turn (deficit round robin, Shreedhar and
Varghese 1995), and only to those whose client takes data, so a stalled one costs the
others nothing. The state outlives connections and requests until the virtual time has
been reached. A second clock, over all addresses, keeps the total; whoever is furthest
behind comes first.

Over any time T an address is sent at most ``rate * T`` bytes, one quantum, and what it
may make up for after the process was late (``SLACK``); over time exactly the rate.

:class:`Throttle` is pure arithmetic over ``now``; :class:`Ticker` lets time pass.
"""

import heapq
import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

SLACK = 0.25  # seconds of lateness that are made up for; never a credit
FIRST = 4096  # bytes that a transfer gets in its first turn, which comes before the others'
LEAST, MOST = 8192, 65536  # bytes in one turn
BULK = 1 << 20  # the same where nothing limits the address
SENDS = 3000  # turns a second that the quantum aims at, over all addresses
ROUND = 1.0  # seconds after which each of an address's transfers has had a turn
SEGMENT = 1448  # bytes of TCP in one Ethernet frame: less is not worth a turn
DEBT = 1.0  # seconds that headers and small answers may run ahead
SPACING = 0.02  # seconds between two rounds, at least
MEMORY = 5.0  # seconds over which an address's current rate is an average

UNLIMITED = ""  # the key of all who have no rate of their own


class Flow(Protocol):
    """One transfer."""

    def send(self, most: int) -> int:
        """Send up to ``most`` bytes now; returns how many went.

        A flow that cannot send more for now, or has no more, takes itself out.
        """


@dataclass(slots=True)
class Bucket:
    """One address: its virtual time, its rate (0: none), and its flows that can send (and whether
    it is their first turn)."""

    until: float
    rate: float
    ring: OrderedDict[Flow, bool] = field(default_factory=OrderedDict)
    queued: bool = False
    average: float = 0.0  # bytes a second, decaying, as of ``noted``
    noted: float = 0.0

    def note(self, count: int, now: float) -> None:
        """Count what was sent."""
        self.average = self.speed(now) + count / MEMORY
        self.noted = now

    def speed(self, now: float) -> float:
        """Bytes a second, lately."""
        return self.average * math.exp((self.noted - now) / MEMORY)


class Throttle:
    """Who may send how much, and when.

    :param rate: bytes a second per address, or 0 for no limit
    :param total: the same for all addresses together
    """

    def __init__(self, rate: float, total: float = 0) -> None:
        self.rate = rate
        self.total = total
        self.sent = 0
        self._all_until = 0.0
        self._buckets: dict[str, Bucket] = {}
        self._due: list[tuple[float, int, str]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._buckets)

    def speeds(self, now: float) -> dict[str, float]:
        """Bytes a second of each address that is being served."""
        return {key: bucket.speed(now) for key, bucket in self._buckets.items()}

    def change(self, rate: float, total: float, now: float) -> None:
        """Other limits from now on; who is ahead stays so by as many bytes."""
        for key, bucket in self._buckets.items():
            bucket.rate = rate if key != UNLIMITED else 0
            bucket.until = now + _rescaled(bucket.until - now, self.rate, rate)
        self._all_until = now + _rescaled(self._all_until - now, self.total, total)
        self.rate, self.total = rate, total
        self._due = [
            (self._buckets[key].until, number, key) for number, (_, _, key) in enumerate(self._due)
        ]
        self._serial = len(self._due)
        heapq.heapify(self._due)

    def charge(self, key: str, count: int, now: float) -> None:
        """Count bytes that were sent beside any flow, such as headers."""
        bucket = self._bucket(key, now)
        bucket.until = max(bucket.until, now - SLACK)
        self._all_until = max(self._all_until, now - SLACK)
        self._count(bucket, count, now)
        self._queue(key, bucket)

    def wait(self, key: str, now: float) -> float:
        """Seconds until the debt of ``key`` is small enough for another answer."""
        bucket = self._buckets.get(key)
        until = max(self._all_until, bucket.until if bucket else 0.0)
        return max(0.0, until - now - DEBT)

    def join(self, key: str, flow: Flow, now: float, first: bool = False) -> None:
        """``flow`` can send from now on.

        :param first: it has not sent anything yet: it comes before the address's others
        """
        bucket = self._bucket(key, now)
        bucket.ring[flow] = first
        bucket.ring.move_to_end(flow, last=not first)
        self._queue(key, bucket)

    def leave(self, key: str, flow: Flow) -> None:
        """``flow`` cannot send (for now): the others get its share."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.ring.pop(flow, None)

    def serve(self, now: float) -> float | None:
        """Let everyone send whose time has come.

        :returns: when the next one's time comes, or None
        """
        self._all_until = max(self._all_until, now - SLACK)
        again: list[tuple[str, Bucket]] = []
        fair = int(max(LEAST, min(MOST, self.rate * len(self._buckets) / SENDS)))
        while self._due and self._due[0][0] <= now and self._allowed(now):
            key = heapq.heappop(self._due)[2]
            bucket = self._buckets[key]
            bucket.queued = False
            # Who has no rate of its own comes after those who are late.
            bucket.until = max(bucket.until, now - SLACK if bucket.rate else now)
            if bucket.ring and bucket.until <= now:  # it may have been charged meanwhile
                self._turn(bucket, fair, now)
            if not bucket.ring and bucket.until <= now:
                del self._buckets[key]
            elif bucket.rate or self.total:
                self._queue(key, bucket)
            else:
                again.append((key, bucket))  # one turn in each round: nothing else would end it
        for key, bucket in again:
            self._queue(key, bucket)
        if not self._due:
            return None
        return self._due[0][0] if self._allowed(now) else max(self._due[0][0], self._all_until)

    def _allowed(self, now: float) -> bool:
        return not self.total or self._all_until <= now

    def limits(self, key: str) -> bool:
        """Whether anything limits what ``key`` is sent."""
        return bool(self.total or (self.rate and key != UNLIMITED))

    def _bucket(self, key: str, now: float) -> Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            if not self._buckets:
                self._all_until = max(self._all_until, now)  # nobody was late while nobody asked
            bucket = self._buckets[key] = Bucket(now, self.rate if key != UNLIMITED else 0)
        return bucket

    def _queue(self, key: str, bucket: Bucket) -> None:
        if not bucket.queued:
            bucket.queued = True
            self._serial += 1
            heapq.heappush(self._due, (bucket.until, self._serial, key))

    def _turn(self, bucket: Bucket, fair: int, now: float) -> None:
        flow, first = bucket.ring.popitem(last=False)
        bucket.ring[flow] = False  # before it sends: it may leave meanwhile
        quantum = self._quantum(bucket, fair)
        sent = flow.send(min(FIRST, quantum) if first else quantum)
        self._count(bucket, sent, now)
        if not sent:
            bucket.ring.pop(flow, None)  # it neither sent nor left: it must not spin

    def _count(self, bucket: Bucket, count: int, now: float) -> None:
        self.sent += count
        bucket.note(count, now)
        if bucket.rate:
            bucket.until += count / bucket.rate
        if self.total:
            self._all_until += count / self.total

    def _quantum(self, bucket: Bucket, fair: int) -> int:
        if not bucket.rate:
            return MOST if self.total else BULK
        # With many transfers each still has its turn soon enough for its client's patience.
        return max(SEGMENT, min(fair, int(bucket.rate * ROUND / len(bucket.ring))))


def _rescaled(ahead: float, old: float, new: float) -> float:
    return max(0.0, ahead) * old / new if new else 0.0


class Ticker:
    """Serve a throttle whenever something is due."""

    def __init__(self, throttle: Throttle, clock: IReactorTime) -> None:
        self.throttle = throttle
        self.clock = clock
        self._call: IDelayedCall | None = None
        self._last = -SPACING

    def now(self) -> float:
        return self.clock.seconds()

    def set_rate(self, rate: float, total: float) -> None:
        """Change the limits, from now on."""
        self.throttle.change(rate, total, self.now())
        if len(self.throttle):
            self._plan(self.now())

    def join(self, key: str, flow: Flow, first: bool = False) -> None:
        """``flow`` can send from now on."""
        self.throttle.join(key, flow, self.now(), first)
        self._plan(self.now(), at_once=first or not self.throttle.limits(key))

    def leave(self, key: str, flow: Flow) -> None:
        """``flow`` cannot send (for now)."""
        self.throttle.leave(key, flow)

    def charge(self, key: str, count: int) -> None:
        """Count bytes that were sent beside any flow."""
        self.throttle.charge(key, count, self.now())
        self._plan(self.now())

    def _plan(self, due: float, at_once: bool = False) -> None:
        # What is due right after a round has no limit, and waits for nothing.
        at = due if at_once or due <= self._last else max(due, self._last + SPACING)
        if self._call is not None and self._call.active():
            if self._call.getTime() <= at:
                return
            self._call.cancel()
        self._call = self.clock.callLater(max(0.0, at - self.now()), self._tick)

    def _tick(self) -> None:
        self._call = None
        self._last = self.now()
        due = self.throttle.serve(self._last)
        if due is not None:
            self._plan(due)
