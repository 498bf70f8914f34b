"""Who is fetched next: fair between owners, bounded for each host. Pure.

An *owner* is a part of a batch; each has a lane for every host it fetches from. Owners take
turns, and within one the hosts do, so a big batch or a slow host holds nobody up. There is
always room for one more owner: none has more than :data:`GREED` times as many places as are
free (dynamic thresholds; Choudhury and Hahne, 1998), and a new one has the first turn.

A *place* is for a download that gets on. One that waits for its host has none: it *cedes* its
place, and others begin. So that hosts which do not answer cannot take all places in turns, a
*new* host is asked by one at first, and new hosts together have a share of the places. A host
that has not answered after a moment, or whose downloads trickle, is *slow*: these never have a
place, and are bounded together.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from enum import Enum
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

ALL = "*"  # the name of the limit over all hosts
GREED = 3
LOOK_AT = 256  # hosts of one owner that are looked at for one that has room
NEW_SHARE = 2  # of the places one in so many is for hosts that have not answered yet
WAITING = 16  # downloads without a place, for each place that there is
CROWDED = 2  # downloads without a place to one host, once half of what is bounded is taken
KNOWN = 10_000  # hosts of which is remembered how they answer


class Speed(Enum):
    """How a host answers, as far as is known."""

    NEW = "new"
    SLOW = "slow"
    FAST = "fast"


class Taken(NamedTuple, Generic[T]):
    """What may begin.

    :param placed: it has a place
    """

    item: T
    placed: bool


def _less(counter: Counter[K], key: K, count: int = 1) -> None:
    counter[key] -= count
    if not counter[key]:
        del counter[key]


class FetchQueue(Generic[T]):
    """Items waiting by owner and host.

    :param allowed: items that may be out at once, of a host or of :data:`ALL`, over all owners; for
        one of them it may be less than for others
    :param most_waiting: items without a place, at most, whatever the number of places
    """

    def __init__(
        self, allowed: Callable[[str, Hashable], int], most_waiting: int = 1 << 30
    ) -> None:
        self._allowed = allowed
        self._most_waiting = most_waiting
        self._out: Counter[str] = Counter()
        self._owned: Counter[Hashable] = Counter()
        self._placed = self._placed_new = self._waiting_out = 0
        self._waiting: Counter[str] = Counter()
        self._queue: dict[Hashable, OrderedDict[str, deque[T]]] = {}
        self._turns: OrderedDict[Hashable, None] = OrderedDict()
        # Owners of whose hosts none has room are not looked at until one has.
        self._blocked: dict[str, set[Hashable]] = {}
        self._vain: Counter[Hashable] = Counter()  # hosts of an owner looked at in vain
        self._speeds: OrderedDict[str, Speed] = OrderedDict()

    def __bool__(self) -> bool:
        """Whether anything waits or is out."""
        return bool(self._queue or self._out)

    def add(self, owner: Hashable, host: str, item: T, first: bool = False) -> None:
        """Put an item at the end of its lane, or at its head."""
        if owner not in self._queue:
            self._queue[owner] = OrderedDict()
            self._turns[owner] = None
            self._turns.move_to_end(owner, last=False)
        lane = self._queue[owner].setdefault(host, deque())
        (lane.appendleft if first else lane.append)(item)
        self._waiting[host] += 1
        self._turns.setdefault(owner)

    def speed(self, host: str) -> Speed:
        """How a host answers."""
        return self._speeds.get(host, Speed.NEW)

    def note(self, host: str, speed: Speed) -> bool:
        """A host has answered, and how.

        :returns: whether that was not known
        """
        news = self._speeds.get(host) is not speed
        if news:
            self._speeds[host] = speed
            self._unblock(host)
            if len(self._speeds) > KNOWN:
                self._speeds.popitem(last=False)
        return news

    def take(self) -> Taken[T] | None:
        """The next item whose host has room, or None. :meth:`release` it later."""
        places = self._allowed(ALL, None)
        free = places - self._placed
        blocked: list[Hashable] = []
        found = None
        for owner in islice(self._turns, LOOK_AT):
            found, may_come = self._look(owner, places, free)
            if found is not None:
                break
            if not may_come:
                blocked.append(owner)
        for owner in blocked:
            del self._turns[owner]
            for host in self._queue[owner]:
                self._blocked.setdefault(host, set()).add(owner)
        return self._pop(*found) if found is not None else None

    def _look(
        self, owner: Hashable, places: int, free: int
    ) -> tuple[tuple[Hashable, str, Speed] | None, bool]:
        """What of an owner may begin; and whether something may, once there is a place."""
        hosts, may_come = self._queue[owner], False
        many = len(hosts) > LOOK_AT
        greedy = self._owned[owner] >= GREED * free
        for host in islice(hosts, LOOK_AT):
            speed = self.speed(host)
            if self._out[host] >= self._limit(owner, host, speed, places):
                continue
            may_come = True
            if speed is Speed.SLOW:
                room = self._waiting_out < self._most(places)
            elif speed is Speed.NEW:
                room = not greedy and self._placed_new < max(1, places // NEW_SHARE)
            else:
                room = not greedy
            if room and (free > 0 or speed is Speed.SLOW):
                return (owner, host, speed), True
        if many and not may_come:
            return None, self._turn(owner, hosts)
        return None, may_come

    def _turn(self, owner: Hashable, hosts: OrderedDict[str, deque[T]]) -> bool:
        """Others of its many hosts come to the head.

        :returns: whether not all have been looked at in vain by now
        """
        for host in list(islice(hosts, LOOK_AT)):
            hosts.move_to_end(host)
        self._vain[owner] += LOOK_AT
        if self._vain[owner] < len(hosts):
            return True
        del self._vain[owner]
        return False

    def _limit(self, owner: Hashable, host: str, speed: Speed, places: int) -> int:
        """How many may be out to a host."""
        allowed = self._allowed(host, owner)
        if speed is Speed.NEW:
            return min(allowed, 1)
        if speed is Speed.SLOW and self._waiting_out * 2 >= self._most(places):
            return min(allowed, CROWDED)
        return allowed

    def _most(self, places: int) -> int:
        """How many may be out without a place."""
        return min(WAITING * places, self._most_waiting)

    def gets_on(self, owner: Hashable) -> bool:
        """Whether something of it has a place, or may have one soon."""
        return bool(self._owned[owner]) or owner in self._turns

    def demand(self) -> dict[str, tuple[int, int]]:
        """By host, and of :data:`ALL`: how many are out, and how many wait."""
        shown = {host: (out, self._waiting[host]) for host, out in self._out.items()}
        shown |= {host: (self._out[host], waiting) for host, waiting in self._waiting.items()}
        return shown | {ALL: (self._placed, self._waiting.total())}

    def hosts(self, owner: Hashable) -> list[str]:
        """For which hosts something of it waits, :data:`LOOK_AT` at most."""
        return list(islice(self._queue.get(owner, ()), LOOK_AT))

    def _pop(self, owner: Hashable, host: str, speed: Speed) -> Taken[T]:
        hosts = self._queue[owner]
        self._vain.pop(owner, None)
        item = hosts[host].popleft()
        self._out[host] += 1
        placed = speed is not Speed.SLOW
        if placed:
            self._place(owner, speed is Speed.NEW, 1)
        else:
            self._waiting_out += 1
        _less(self._waiting, host)
        hosts.move_to_end(host)
        self._turns.move_to_end(owner)
        if not hosts[host]:
            del hosts[host]
        self._forget_if_empty(owner)
        return Taken(item, placed)

    def _place(self, owner: Hashable, new: bool, change: int) -> None:
        self._placed += change
        self._placed_new += change * new
        self._owned[owner] += change
        if not self._owned[owner]:
            del self._owned[owner]

    def cede(self, owner: Hashable, new: bool) -> None:
        """An item that is out waits for its host: others have its place.

        :param new: its host was new when it was taken
        """
        self._place(owner, new, -1)
        self._waiting_out += 1

    def known(self) -> None:
        """The host of an item that has a place is new no more."""
        self._placed_new -= 1

    def resume(self, owner: Hashable) -> None:
        """It gets on again, and has a place, though there may be none free."""
        self._place(owner, False, 1)
        self._waiting_out -= 1

    def release(self, owner: Hashable, host: str, placed: bool, new: bool) -> None:
        """An item is not out any more."""
        if placed:
            self._place(owner, new, -1)
        else:
            self._waiting_out -= 1
        _less(self._out, host)
        self._unblock(host)

    def _unblock(self, host: str) -> None:
        for owner in self._blocked.pop(host, ()):
            if owner in self._queue:
                self._turns.setdefault(owner)

    def look_at(self, host: str) -> None:
        """The limits of one host have changed."""
        self._unblock(host)

    def look_again(self) -> None:
        """Limits have changed."""
        for host in list(self._blocked):
            self._unblock(host)

    def drop(self, owner: Hashable) -> list[T]:
        """Take away everything of ``owner`` that still waits."""
        hosts = self._queue.pop(owner, OrderedDict())
        self._turns.pop(owner, None)
        self._vain.pop(owner, None)
        for host, lane in hosts.items():
            _less(self._waiting, host, len(lane))
        return [item for lane in hosts.values() for item in lane]

    def drop_host(self, host: str, wanted: Callable[[Hashable], bool]) -> list[T]:
        """Take away everything for ``host`` that still waits, of the owners that are wanted."""
        dropped: list[T] = []
        for owner in [owner for owner, hosts in self._queue.items() if host in hosts]:
            if wanted(owner):
                lane = self._queue[owner].pop(host)
                _less(self._waiting, host, len(lane))
                dropped += lane
                self._forget_if_empty(owner)
        return dropped

    def _forget_if_empty(self, owner: Hashable) -> None:
        if not self._queue[owner]:
            del self._queue[owner]
            self._turns.pop(owner, None)
            self._vain.pop(owner, None)
