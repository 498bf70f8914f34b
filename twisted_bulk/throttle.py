"""The rate limit per client address. Rooms: files/.

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

Pure arithmetic over ``now``; :class:`timer.ThrottleTimer` lets time pass.
"""

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

SLACK = 0.25  # seconds of lateness that are made up for; never a credit
FIRST = 4096  # bytes that a transfer gets in its first turn, which comes before the others'
LEAST, MOST = 8192, 65536  # bytes in one turn
BULK = 1 << 20  # the same where nothing limits the address
SENDS = 3000  # turns a second that the quantum aims at, over all addresses
ROUND = 1.0  # seconds after which each of an address's transfers has had a turn
SEGMENT = 1448  # bytes of TCP in one Ethernet frame: less is not worth a turn
DEBT = 1.0  # seconds that headers and small answers may run ahead, while nothing else waits
BESIDE = 4096  # bytes of them, else, between two turns

UNLIMITED = ""  # the key of all who have no rate of their own


class Flow(Protocol):
    """One transfer, or what else takes turns."""

    def send(self, most: int) -> int:
        """Send up to ``most`` bytes now; returns how many went.

        A flow that cannot send more for now, or has no more, takes itself out.
        """


@dataclass(slots=True)
class Bucket:
    """One address: its virtual time, its rate (0: none), and its flows that can send, apart from
    them the ``fresh`` ones, which have not sent anything yet."""

    until: float
    rate: float
    ring: OrderedDict[Flow, None] = field(default_factory=OrderedDict)
    fresh: OrderedDict[Flow, None] = field(default_factory=OrderedDict)
    queued: bool = False
    favoured: bool = False  # a fresh one had the last turn
    beside: int = 0  # bytes charged beside the flows since the last turn of an old one

    def size(self) -> int:
        """How many flows can send."""
        return len(self.ring) + len(self.fresh)


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
        self._beside = 0  # as of a bucket
        self._buckets: dict[str, Bucket] = {}
        self._due: list[tuple[float, int, str]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._buckets)

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
        bucket.beside += count
        self._beside += count
        self._count(bucket, count)
        self._queue(key, bucket)

    def allows(self, key: str, now: float) -> bool:
        """Whether an answer may be sent beside any flow; else it has to take its turn as one."""
        if not self.limits(key):
            return True
        if self.total and self._beside >= BESIDE:
            return False
        bucket = self._buckets.get(key)
        if bucket is None:
            return True
        if bucket.size():  # a flood of answers would keep the clock ahead, and the flows waiting
            return bucket.beside < BESIDE
        return bucket.until <= now + DEBT

    def join(self, key: str, flow: Flow, now: float, first: bool = False) -> None:
        """``flow`` can send from now on.

        :param first: it has not sent anything yet: its turn comes next but for one at most
        """
        bucket = self._bucket(key, now)
        (bucket.fresh if first else bucket.ring)[flow] = None
        self._queue(key, bucket)

    def leave(self, key: str, flow: Flow) -> None:
        """``flow`` cannot send (for now): the others get its share."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.ring.pop(flow, None)
            bucket.fresh.pop(flow, None)

    def serve(self, now: float) -> float | None:
        """Let everyone send whose time has come.

        :returns: when the next one's time comes, or None
        """
        self._all_until = max(self._all_until, now - SLACK)
        again: list[tuple[str, Bucket]] = []
        fair = int(max(LEAST, min(MOST, self.rate * len(self._buckets) / SENDS)))
        while self._due and self._due[0][0] <= now and self._allowed(now):
            key = heapq.heappop(self._due)[2]
            bucket = self._buckets[key]  # "queued" until its turn is over: that may charge it, too
            # Who has no rate of its own comes after those who are late.
            bucket.until = max(bucket.until, now - SLACK if bucket.rate else now)
            if bucket.size() and bucket.until <= now:  # it may have been charged meanwhile
                self._turn(bucket, fair)
            if not bucket.size() and bucket.until <= now:
                del self._buckets[key]
            elif bucket.rate or self.total:
                bucket.queued = False
                self._queue(key, bucket)
            else:
                again.append((key, bucket))  # one turn in each round: nothing else would end it
        if not self._due or self._due[0][0] > now:
            self._all_until = max(self._all_until, now)  # nobody was kept waiting by the total
        for key, bucket in again:
            bucket.queued = False
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

    def _turn(self, bucket: Bucket, fair: int) -> None:
        # In turns with the others, so that many short ones do not keep a long one waiting.
        fresh = bool(bucket.fresh) and not (bucket.favoured and bucket.ring)
        bucket.favoured = fresh
        if not fresh:
            bucket.beside = self._beside = 0
        quantum = self._quantum(bucket, fair)
        flow, _ = (bucket.fresh if fresh else bucket.ring).popitem(last=False)
        bucket.ring[flow] = None  # before it sends: it may leave meanwhile
        before = self.sent
        self._count(bucket, flow.send(min(FIRST, quantum) if fresh else quantum))
        if self.sent == before:
            bucket.ring.pop(flow, None)  # it neither sent nor left: it must not spin

    def _count(self, bucket: Bucket, count: int) -> None:
        self.sent += count
        if bucket.rate:
            bucket.until += count / bucket.rate
        if self.total:
            self._all_until += count / self.total

    def _quantum(self, bucket: Bucket, fair: int) -> int:
        if not bucket.rate:
            return MOST if self.total else BULK
        # With many transfers each still has its turn soon enough for its client's patience.
        return max(SEGMENT, min(fair, int(bucket.rate * ROUND / bucket.size())))


def _rescaled(ahead: float, old: float, new: float) -> float:
    return max(0.0, ahead) * old / new if new else 0.0
