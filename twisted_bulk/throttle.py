"""The rate limit per client address.

Each address has a virtual clock: the time at which all that it was sent so far would
have ended at exactly the allowed rate (GCRA's theoretical arrival time). It may send
whenever that time has come, and what it sends moves the time on. Among the address's
transfers a ring gives one quantum to each in turn (deficit round robin), and only to
those whose client takes data, so a stalled one costs the others nothing. The state
outlives connections and requests until the virtual time has been reached.

:class:`Throttle` is pure arithmetic over ``now``; :class:`Ticker` lets time pass.
"""

import heapq
import ipaddress
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

SLACK = 0.25  # seconds of lateness that are made up for; never a credit
LEAST, MOST = 4096, 32768  # bytes in one turn
SENDS = 8000  # turns a second that the quantum aims at, over all addresses
DEBT = 1.0  # seconds that headers and small answers may run ahead
SPACING = 0.01  # seconds between two rounds, at most


class Flow(Protocol):
    """One transfer."""

    def send(self, most: int) -> int:
        """Send up to ``most`` bytes now; returns how many went. It may take itself out."""


def key_of(address: str) -> str:
    """Whom an address stands for: an IPv4 address, or an IPv6 /64."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return str(ip.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
    return str(ip)


@dataclass
class Bucket:
    """One address: its virtual time and its flows that can send."""

    until: float
    ring: deque[Flow] = field(default_factory=deque)
    queued: bool = False


class Throttle:
    """Who may send how much, and when.

    :param rate: bytes a second per address, or 0 for no limit
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._buckets: dict[str, Bucket] = {}
        self._due: list[tuple[float, int, str]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._buckets)

    def _bucket(self, key: str, now: float) -> Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(now)
        return bucket

    def charge(self, key: str, count: int, now: float) -> None:
        """Count bytes that were sent beside any flow, such as headers."""
        if self.rate:
            bucket = self._bucket(key, now)
            bucket.until = max(bucket.until, now) + count / self.rate
            self._queue(key, bucket)

    def wait(self, key: str, now: float) -> float:
        """Seconds until the debt of ``key`` is small enough for another answer."""
        bucket = self._buckets.get(key)
        return max(0.0, bucket.until - now - DEBT) if bucket else 0.0

    def join(self, key: str, flow: Flow, now: float) -> None:
        """``flow`` can send from now on."""
        bucket = self._bucket(key, now)
        bucket.ring.append(flow)
        self._queue(key, bucket)

    def leave(self, key: str, flow: Flow) -> None:
        """``flow`` cannot send (for now): the others get its share."""
        bucket = self._buckets.get(key)
        if bucket is not None and flow in bucket.ring:
            bucket.ring.remove(flow)

    def _queue(self, key: str, bucket: Bucket) -> None:
        if not bucket.queued:
            bucket.queued = True
            self._serial += 1
            heapq.heappush(self._due, (bucket.until, self._serial, key))

    def serve(self, now: float) -> float | None:
        """Let everyone send whose time has come.

        :returns: when the next one's time comes, or None
        """
        while self._due and self._due[0][0] <= now:
            key = heapq.heappop(self._due)[2]
            bucket = self._buckets[key]
            bucket.queued = False
            self._turn(key, bucket, now)
            if bucket.ring or bucket.until > now:
                self._queue(key, bucket)
            else:
                del self._buckets[key]
        return self._due[0][0] if self._due else None

    def _turn(self, key: str, bucket: Bucket, now: float) -> None:
        bucket.until = max(bucket.until, now - SLACK)
        while bucket.ring and bucket.until <= now:
            flow = bucket.ring.popleft()
            bucket.ring.append(flow)  # before it sends: it may leave meanwhile
            sent = flow.send(self._quantum(bucket))
            if self.rate:
                bucket.until += sent / self.rate
            if not sent and flow in bucket.ring:
                bucket.ring.remove(flow)  # it neither sent nor left: it must not spin

    def _quantum(self, bucket: Bucket) -> int:
        if not self.rate:
            return MOST
        fair = max(LEAST, min(MOST, self.rate * len(self._buckets) / SENDS))
        # With many transfers each is still served about once a second.
        return int(max(1448, min(fair, self.rate / len(bucket.ring))))


class Ticker:
    """Serve a throttle whenever something is due."""

    def __init__(self, throttle: Throttle, clock: IReactorTime) -> None:
        self.throttle = throttle
        self.clock = clock
        self._call: IDelayedCall | None = None
        self._last = 0.0
        # A round gives a flow no more than its transport buffers.
        self._spacing = min(SPACING, 2 * MOST / throttle.rate) if throttle.rate else 0.0

    def now(self) -> float:
        return self.clock.seconds()

    def join(self, key: str, flow: Flow) -> None:
        """``flow`` can send from now on."""
        self.throttle.join(key, flow, self.now())
        self._plan(self.now())

    def leave(self, key: str, flow: Flow) -> None:
        """``flow`` cannot send (for now)."""
        self.throttle.leave(key, flow)

    def charge(self, key: str, count: int) -> None:
        """Count bytes that were sent beside any flow."""
        self.throttle.charge(key, count, self.now())
        self._plan(self.now())

    def _plan(self, due: float) -> None:
        at = max(due, self._last + self._spacing)
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
