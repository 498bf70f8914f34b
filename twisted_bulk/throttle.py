"""The rate limit of each client address: who may send how much, and when. Rooms: files/.

Each address has a virtual time: the moment at which everything that it was sent would have ended
at exactly its rate (the theoretical arrival time of GCRA, ITU-T I.371). An address may send when
its virtual time is not in the future. Sending ``n`` bytes moves the virtual time on by ``n / rate``
seconds. The transfers of one address take turns, and each turn sends one quantum (deficit round
robin, Shreedhar and Varghese 1995). Only transfers whose clients take data have turns: a stalled
client costs the others nothing. The state is kept until the virtual time is past, also when all
connections have ended. A second virtual time, over all addresses, keeps the total rate; the
address that is furthest behind comes first.

Over any time of ``T`` seconds an address is sent at most ``rate * T`` bytes, and on top of that

- one quantum, see :data:`MAX_TURN_BYTES`;
- ``rate * MAX_LATENESS`` bytes, when the process was late;
- ``rate * MAX_DEBT_SECONDS`` bytes of heads and small answers, which the address pays back.

This module is arithmetic over ``now`` in seconds; :class:`files.timer.ThrottleTimer` calls it when
something is due.
"""

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

#: Seconds by which the process may be late and still make up for it; what is later is lost.
MAX_LATENESS = 0.25
#: Bytes of a transfer's first turn. It is small, because it comes before the turns of others.
FIRST_TURN_BYTES = 4096
MIN_TURN_BYTES, MAX_TURN_BYTES = 8192, 65536  # of a later turn
UNLIMITED_TURN_BYTES = 1 << 20  # of a turn of an address that nothing limits
TURNS_PER_SECOND = 3000  # of all addresses together; the size of a turn is chosen for that number
ROUND_SECONDS = 1.0  # within which each transfer of an address has a turn
SEGMENT_BYTES = 1448  # of TCP in one Ethernet frame; a turn is never smaller
#: Seconds by which heads and small answers may run ahead of the rate, when no transfer waits.
#: More wait for their turn.
MAX_DEBT_SECONDS = 1.0
#: Bytes of heads and small answers between two turns, when a transfer waits. More wait.
MAX_BESIDE_BYTES = 4096

UNLIMITED = ""  # the key of all addresses that have no rate of their own


class Flow(Protocol):
    """Something that takes turns: a transfer, or the small answers of an address."""

    def send(self, most: int) -> int:
        """Send up to ``most`` bytes now; returns how many bytes were sent.

        A flow that cannot send more for now, or has no more, calls :meth:`Throttle.leave`.
        """


@dataclass(slots=True)
class Bucket:
    """The state of one address.

    ``until``: its virtual time. ``rate``: bytes a second, 0 is no limit. ``ring``: its flows that
    can send. ``fresh``: its flows that can send and have not sent anything yet.
    """

    until: float
    rate: float
    ring: OrderedDict[Flow, None] = field(default_factory=OrderedDict)
    fresh: OrderedDict[Flow, None] = field(default_factory=OrderedDict)
    queued: bool = False  # it waits for its time in the throttle's heap
    favoured: bool = False  # a fresh flow had the last turn
    beside: int = 0  # bytes charged beside the flows since the last turn of a flow of the ring

    def size(self) -> int:
        """How many flows can send."""
        return len(self.ring) + len(self.fresh)


class Throttle:
    """The virtual times of all addresses, and the order of their turns.

    ``sent``: bytes sent so far.

    :param rate: bytes a second of each address; 0 is no limit
    :param total: bytes a second of all addresses together; 0 is no limit
    """

    def __init__(self, rate: float, total: float = 0) -> None:
        self.rate = rate
        self.total = total
        self.sent = 0
        self._all_until = 0.0
        self._beside = 0  # as Bucket.beside, of all addresses
        self._buckets: dict[str, Bucket] = {}
        self._due: list[tuple[float, int, str]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._buckets)

    def change(self, rate: float, total: float, now: float) -> None:
        """Set other limits. An address that is ahead of its rate stays ahead by as many bytes."""
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
        """Count bytes that no flow has sent, such as a head."""
        bucket = self._bucket(key, now)
        bucket.until = max(bucket.until, now - MAX_LATENESS)
        self._all_until = max(self._all_until, now - MAX_LATENESS)
        bucket.beside += count
        self._beside += count
        self._count(bucket, count)
        self._queue(key, bucket)

    def allows(self, key: str, now: float) -> bool:
        """Whether an answer may be sent without a turn."""
        if not self.limits(key):
            return True
        if self.total and self._beside >= MAX_BESIDE_BYTES:
            return False
        bucket = self._buckets.get(key)
        if bucket is None:
            return True
        if bucket.size():  # a flood of answers would keep the clock ahead, and the flows waiting
            return bucket.beside < MAX_BESIDE_BYTES
        return bucket.until <= now + MAX_DEBT_SECONDS

    def join(self, key: str, flow: Flow, now: float, first: bool = False) -> None:
        """Give ``flow`` turns from now on.

        :param first: it has not sent anything yet; at most one other turn comes before its first
        """
        bucket = self._bucket(key, now)
        (bucket.fresh if first else bucket.ring)[flow] = None
        self._queue(key, bucket)

    def leave(self, key: str, flow: Flow) -> None:
        """Give ``flow`` no turns from now on; the others get its share."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.ring.pop(flow, None)
            bucket.fresh.pop(flow, None)

    def serve(self, now: float) -> float | None:
        """Give a turn to each address whose time has come.

        :returns: the time at which the next turn is due; None: nobody waits
        """
        self._all_until = max(self._all_until, now - MAX_LATENESS)
        again: list[tuple[str, Bucket]] = []
        fair = int(
            max(
                MIN_TURN_BYTES,
                min(MAX_TURN_BYTES, self.rate * len(self._buckets) / TURNS_PER_SECOND),
            )
        )
        while self._due and self._due[0][0] <= now and self._allowed(now):
            key = heapq.heappop(self._due)[2]
            # It stays "queued" until its turn is over, because the turn may charge it.
            bucket = self._buckets[key]
            # An address without a rate of its own comes after those that are late.
            bucket.until = max(bucket.until, now - MAX_LATENESS if bucket.rate else now)
            if (
                bucket.size() and bucket.until <= now
            ):  # it may have been charged since it was queued
                self._turn(bucket, fair)
            if not bucket.size() and bucket.until <= now:
                del self._buckets[key]
            elif bucket.rate or self.total:
                bucket.queued = False
                self._queue(key, bucket)
            else:
                again.append((key, bucket))  # one turn a call: its time would always have come
        if not self._due or self._due[0][0] > now:
            self._all_until = max(self._all_until, now)  # the total rate kept nobody waiting
        for key, bucket in again:
            bucket.queued = False
            self._queue(key, bucket)
        if not self._due:
            return None
        return self._due[0][0] if self._allowed(now) else max(self._due[0][0], self._all_until)

    def _allowed(self, now: float) -> bool:
        return not self.total or self._all_until <= now

    def limits(self, key: str) -> bool:
        """Whether any rate limits what ``key`` is sent."""
        return bool(self.total or (self.rate and key != UNLIMITED))

    def _bucket(self, key: str, now: float) -> Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            if not self._buckets:
                # Nobody waited before, so nothing is made up for.
                self._all_until = max(self._all_until, now)
            bucket = self._buckets[key] = Bucket(now, self.rate if key != UNLIMITED else 0)
        return bucket

    def _queue(self, key: str, bucket: Bucket) -> None:
        if not bucket.queued:
            bucket.queued = True
            self._serial += 1
            heapq.heappush(self._due, (bucket.until, self._serial, key))

    def _turn(self, bucket: Bucket, fair: int) -> None:
        # Fresh flows and others alternate: many short transfers do not stop a long one.
        fresh = bool(bucket.fresh) and not (bucket.favoured and bucket.ring)
        bucket.favoured = fresh
        if not fresh:
            bucket.beside = self._beside = 0
        quantum = self._quantum(bucket, fair)
        flow, _ = (bucket.fresh if fresh else bucket.ring).popitem(last=False)
        bucket.ring[flow] = None  # before it sends, because sending may make it leave
        before = self.sent
        self._count(bucket, flow.send(min(FIRST_TURN_BYTES, quantum) if fresh else quantum))
        if self.sent == before:
            bucket.ring.pop(flow, None)  # it neither sent nor left, and would be asked for ever

    def _count(self, bucket: Bucket, count: int) -> None:
        self.sent += count
        if bucket.rate:
            bucket.until += count / bucket.rate
        if self.total:
            self._all_until += count / self.total

    def _quantum(self, bucket: Bucket, fair: int) -> int:
        if not bucket.rate:
            return MAX_TURN_BYTES if self.total else UNLIMITED_TURN_BYTES
        # With many transfers the turns are small, so that no client waits until it gives up.
        return max(SEGMENT_BYTES, min(fair, int(bucket.rate * ROUND_SECONDS / bucket.size())))


def _rescaled(ahead: float, old: float, new: float) -> float:
    return max(0.0, ahead) * old / new if new else 0.0
