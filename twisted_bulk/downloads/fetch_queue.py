"""Which download begins next: fair between owners, bounded for each host. Pure.

An *owner* is a part of a batch. It has a line for each host that it fetches from. Owners take
turns, and within one owner its hosts do, so a large batch or a slow host delays no other. A new
owner has the first turn. An owner may have at most :data:`FREE_FACTOR` times as many places as
are free, so there is always room for one more owner (dynamic thresholds; Choudhury and Hahne,
1998).

A *place* is for a download that makes progress. A download that waits for its host has none: it
gives its place back, and another begins. Three rules keep hosts that do not answer from taking all
places in turns:

1. A *new* host, which has not answered yet, is asked by one download at first.
2. Downloads from new hosts together may have 1/:data:`NEW_DIVISOR` of the places, at most.
3. Downloads from a *slow* host never have a place. There may be :data:`MAX_PLACELESS` of them for
   each place, in all; once half of these are taken, :data:`MAX_PLACELESS_OF_HOST` for each host.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from twisted_bulk.downloads.queue_state import HostSpeeds, Places, Speed, subtract

T = TypeVar("T")

ALL = "*"  # the name of the limit over all hosts
FREE_FACTOR = 3  # the places of one owner, as a multiple of the free places
MAX_LOOKED_AT = 256  # owners, and hosts of one, in a look; the others have a later turn
NEW_DIVISOR = 2  # places of which downloads from new hosts may have one
MAX_PLACELESS = 16  # downloads without a place, for each place; others wait
MAX_PLACELESS_OF_HOST = 2  # of these for one host, once half of them are taken


class Taken(NamedTuple, Generic[T]):
    """A download that may begin, and whether it has a place."""

    item: T
    placed: bool


class FetchQueue(Generic[T]):
    """Items that wait, by owner and host, and the count of those that are under way.

    :param allowed: how many items may be under way from a host, or in :data:`ALL`, over all owners,
        as one owner sees it
    :param most_waiting: items without a place, at most, whatever the number of places
    """

    def __init__(
        self, allowed: Callable[[str, Hashable], int], most_waiting: int = 1 << 30
    ) -> None:
        self._allowed = allowed
        self._most_waiting = most_waiting
        self._speeds = HostSpeeds()
        self._places = Places()
        self._out: Counter[str] = Counter()  # items under way, by host
        self._waiting: Counter[str] = Counter()  # items that wait, by host
        self._lines: dict[Hashable, OrderedDict[str, deque[T]]] = {}
        self._turns: OrderedDict[Hashable, None] = OrderedDict()
        # Owners whose hosts are all at their limits, by host: they have no turn until one has room.
        self._blocked: dict[str, set[Hashable]] = {}
        self._looked: Counter[Hashable] = Counter()  # hosts of an owner that had no room in a row

    def __bool__(self) -> bool:
        """Whether an item waits or is under way."""
        return bool(self._lines or self._out)

    def add(self, owner: Hashable, host: str, item: T, first: bool = False) -> None:
        """Put an item at the end of its line, or at its head."""
        if owner not in self._lines:
            self._lines[owner] = OrderedDict()
            self._turns[owner] = None
            self._turns.move_to_end(owner, last=False)
        line = self._lines[owner].setdefault(host, deque())
        (line.appendleft if first else line.append)(item)
        self._waiting[host] += 1
        self._turns.setdefault(owner)

    def speed(self, host: str) -> Speed:
        """How a host answers."""
        return self._speeds.of(host)

    def note(self, host: str, speed: Speed) -> bool:
        """A host has answered; returns whether its speed was another one before."""
        news = self._speeds.note(host, speed)
        if news:
            self.look_at(host)
        return news

    def take(self) -> Taken[T] | None:
        """The next item whose host has room; None: no item may begin. :meth:`release` it later."""
        places = self._allowed(ALL, None)
        free = places - self._places.taken
        blocked: list[Hashable] = []
        found = None
        for owner in islice(self._turns, MAX_LOOKED_AT):
            found, may_come = self._look(owner, places, free)
            if found is not None:
                break
            if not may_come:
                blocked.append(owner)
        for owner in blocked:
            del self._turns[owner]
            for host in self._lines[owner]:
                self._blocked.setdefault(host, set()).add(owner)
        return self._pop(*found) if found is not None else None

    def _look(
        self, owner: Hashable, places: int, free: int
    ) -> tuple[tuple[Hashable, str, Speed] | None, bool]:
        """The owner's host whose item may begin; and whether one may once a place is free."""
        hosts, may_come = self._lines[owner], False
        many = len(hosts) > MAX_LOOKED_AT
        has_many = self._places.of(owner) >= FREE_FACTOR * free
        for host in islice(hosts, MAX_LOOKED_AT):
            speed = self.speed(host)
            if self._out[host] >= self._limit(owner, host, speed, places):
                continue
            may_come = True
            if speed is Speed.SLOW:
                room = self._places.without < self._most_without(places)
            elif speed is Speed.NEW:
                room = not has_many and self._places.new < max(1, places // NEW_DIVISOR)
            else:
                room = not has_many
            if room and (free > 0 or speed is Speed.SLOW):
                return (owner, host, speed), True
        if many and not may_come:
            return None, self._rotate(owner, hosts)
        return None, may_come

    def _rotate(self, owner: Hashable, hosts: OrderedDict[str, deque[T]]) -> bool:
        """Bring others of an owner's many hosts to the head; returns whether some are unseen."""
        for host in list(islice(hosts, MAX_LOOKED_AT)):
            hosts.move_to_end(host)
        self._looked[owner] += MAX_LOOKED_AT
        if self._looked[owner] < len(hosts):
            return True
        del self._looked[owner]
        return False

    def _limit(self, owner: Hashable, host: str, speed: Speed, places: int) -> int:
        """How many items may be under way from a host."""
        allowed = self._allowed(host, owner)
        if speed is Speed.NEW:
            return min(allowed, 1)
        if speed is Speed.SLOW and self._places.without * 2 >= self._most_without(places):
            return min(allowed, MAX_PLACELESS_OF_HOST)
        return allowed

    def _most_without(self, places: int) -> int:
        """How many items may be under way without a place."""
        return min(MAX_PLACELESS * places, self._most_waiting)

    def gets_on(self, owner: Hashable) -> bool:
        """Whether an item of the owner has a place, or may have one soon."""
        return bool(self._places.of(owner)) or owner in self._turns

    def demand(self) -> dict[str, tuple[int, int]]:
        """By host, and of :data:`ALL`: how many items are under way, and how many wait."""
        shown = {host: (out, self._waiting[host]) for host, out in self._out.items()}
        shown |= {host: (self._out[host], waiting) for host, waiting in self._waiting.items()}
        return shown | {ALL: (self._places.taken, self._waiting.total())}

    def hosts(self, owner: Hashable) -> list[str]:
        """The hosts for which items of the owner wait, :data:`MAX_LOOKED_AT` at most."""
        return list(islice(self._lines.get(owner, ()), MAX_LOOKED_AT))

    def _pop(self, owner: Hashable, host: str, speed: Speed) -> Taken[T]:
        hosts = self._lines[owner]
        self._looked.pop(owner, None)
        item = hosts[host].popleft()
        self._out[host] += 1
        placed = speed is not Speed.SLOW
        if placed:
            self._places.change(owner, speed is Speed.NEW, 1)
        else:
            self._places.without += 1
        subtract(self._waiting, host)
        hosts.move_to_end(host)
        self._turns.move_to_end(owner)
        if not hosts[host]:
            del hosts[host]
        self._forget_if_empty(owner)
        return Taken(item, placed)

    def cede(self, owner: Hashable, new: bool) -> None:
        """An item that is under way waits for its host: it gives its place back.

        :param new: its host was new when it began
        """
        self._places.change(owner, new, -1)
        self._places.without += 1

    def host_answered(self) -> None:
        """The host of an item that has a place is not new any more."""
        self._places.new -= 1

    def resume(self, owner: Hashable) -> None:
        """An item without a place makes progress: it has one, even if none was free."""
        self._places.change(owner, False, 1)
        self._places.without -= 1

    def release(self, owner: Hashable, host: str, placed: bool, new: bool) -> None:
        """An item is not under way any more."""
        if placed:
            self._places.change(owner, new, -1)
        else:
            self._places.without -= 1
        subtract(self._out, host)
        self.look_at(host)

    def look_at(self, host: str) -> None:
        """The limit of a host may be another one: owners that were blocked have a turn again."""
        for owner in self._blocked.pop(host, ()):
            if owner in self._lines:
                self._turns.setdefault(owner)

    def look_again(self) -> None:
        """All limits may be other ones."""
        for host in list(self._blocked):
            self.look_at(host)

    def drop(self, owner: Hashable) -> list[T]:
        """Take away all items of ``owner`` that wait."""
        hosts = self._lines.pop(owner, OrderedDict())
        self._turns.pop(owner, None)
        self._looked.pop(owner, None)
        for host, line in hosts.items():
            subtract(self._waiting, host, len(line))
        return [item for line in hosts.values() for item in line]

    def drop_host(self, host: str, wanted: Callable[[Hashable], bool]) -> list[T]:
        """Take away all items for ``host`` that wait, of the owners that are wanted."""
        dropped: list[T] = []
        for owner in [owner for owner, hosts in self._lines.items() if host in hosts]:
            if wanted(owner):
                line = self._lines[owner].pop(host)
                subtract(self._waiting, host, len(line))
                dropped += line
                self._forget_if_empty(owner)
        return dropped

    def _forget_if_empty(self, owner: Hashable) -> None:
        if not self._lines[owner]:
            del self._lines[owner]
            self._turns.pop(owner, None)
            self._looked.pop(owner, None)
