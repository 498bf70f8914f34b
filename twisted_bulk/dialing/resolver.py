"""Looks up the addresses of host names, fairly between those who ask.

The names come from clients, so some are slow on purpose. ``getaddrinfo`` may take a minute and
cannot be stopped, therefore look-ups have threads of their own. A look-up that has not ended after
:data:`HANGING_SECONDS` *hangs*: it keeps its thread, and another look-up may begin. Each owner (a
part of a batch) has one look-up at a time until one of its names was answered, and
:data:`MAX_LOOKUPS_OF_OWNER` after that, hanging ones included.
"""

import ipaddress
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from twisted_bulk.dialing.lookup import LookupThreads, is_no_answer
from twisted_bulk.errors import MemberError

MAX_LOOKUPS = 16  # at once, hanging ones not counted; other names wait
MAX_LOOKUPS_OF_OWNER = 8  # at once, hanging ones counted; its other names wait
HANGING_SECONDS = 0.5  # after which a look-up hangs
MAX_THREADS = 256  # look-ups at once, hanging ones counted; other names wait
SCARCE_THREADS = MAX_THREADS // 2  # in use; then an owner with a hanging look-up must wait
MAX_WAIT_DEADLINES = 4  # that a name may wait before its look-up begins; then it fails
KEEP_SECONDS = 30.0  # for which an answer is used again
KEEP_FAILURE_SECONDS = 2.0  # for which the answer is used again that a name has no address
MAX_KEPT = 10_000  # answers in memory; beyond it the oldest one is dropped
MAX_ADDRESSES = 16  # of a name that are tried; others are left out
_NO_OWNER = object()
_NAME = re.compile(r"(?=.{1,254}$)[^.]{1,63}(?:\.[^.]{1,63})*\.?")  # RFC 1035, 2.3.4

#: The owner of the look-ups that are made in this context.
OWNER: ContextVar[Hashable] = ContextVar("OWNER", default=None)


@dataclass
class _Owner:
    """The look-ups of one owner.

    ``names``: those that wait, in order. ``going``: look-ups under way. ``hanging``: of these, how
    many hang. ``answered``: one of its names was answered.
    """

    names: dict[str, None] = field(default_factory=dict)
    going: int = 0
    hanging: int = 0
    answered: bool = False

    def may_ask(self, scarce: bool) -> bool:
        """Whether one more look-up may begin.

        :param scarce: few threads are left
        """
        if not self.names or self.going >= MAX_LOOKUPS_OF_OWNER or (scarce and self.hanging):
            return False
        return self.answered or self.going == self.hanging


class _Waiter:
    """One call that waits for the addresses of a name, up to a deadline."""

    def __init__(self, clock: IReactorTime) -> None:
        self.answer: Deferred[list[str]] = Deferred(lambda _: self._stop())
        self._clock = clock
        self._timer: IDelayedCall | None = None

    def wait(self, seconds: float, late: MemberError) -> None:
        """Fail with ``late`` after ``seconds``, in place of the deadline before."""
        self._stop()
        self._timer = self._clock.callLater(seconds, self.end, Failure(late))

    def end(self, result: list[str] | Failure) -> None:
        """End the wait with the addresses, or with an error."""
        self._stop()
        if not self.answer.called:
            self.answer.callback(result)  # Deferred fails when it is given a Failure

    def _stop(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


@dataclass
class _Name:
    """A name that waits for its look-up; ``going``: its look-up has begun."""

    waiters: list[_Waiter] = field(default_factory=list)
    going: bool = False


class Resolver:
    """Looks names up and keeps the answers; calls for one name share one look-up.

    :param deadline: seconds that a call waits for a look-up, once that has begun; until then it
        waits up to :data:`MAX_WAIT_DEADLINES` times as long
    :param find: returns all addresses of a name; blocks, and is called on a thread
    """

    def __init__(self, reactor: Any, deadline: float, find: Callable[[str], list[str]]) -> None:
        self._reactor = reactor
        self._clock: IReactorTime = reactor
        self._deadline = deadline
        self._find = find
        self._threads = LookupThreads(0, MAX_THREADS, name="dns")
        self._kept: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()
        self._waiting: dict[str, _Name] = {}
        self._owners: OrderedDict[Hashable, _Owner] = OrderedDict()
        self._going = self._hanging = 0

    def start(self) -> None:
        """Start the threads."""
        self._threads.start()

    def stop(self) -> None:
        """End the threads; a hanging one ends with the process."""
        self._threads.stop()

    async def resolve(self, host: str) -> list[str]:
        """The addresses of ``host``, at most :data:`MAX_ADDRESSES`.

        :raises MemberError: it has none, or none was found in time
        """
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        if not _NAME.fullmatch(host):
            raise MemberError("bad_url", "the host's name is not one that DNS can hold")
        expires, addresses = self._kept.get(host, (0.0, []))
        if expires <= self._clock.seconds():
            addresses = await self._wait_for(host)
        if not addresses:
            raise MemberError("dns_failed", f"{host} cannot be resolved")
        return addresses

    def _wait_for(self, host: str) -> Deferred[list[str]]:
        waiter, key = _Waiter(self._clock), OWNER.get()
        name = self._waiting.setdefault(host, _Name())
        name.waiters = [one for one in name.waiters if not one.answer.called]
        name.waiters.append(waiter)
        if name.going:
            waiter.wait(self._deadline, self._late(host))
            return waiter.answer
        detail = f"{host} waited for its turn to be resolved"
        waiter.wait(
            MAX_WAIT_DEADLINES * self._deadline, MemberError("dns_timeout", detail, ours=True)
        )
        if key not in self._owners:
            self._owners[key] = _Owner()
            self._owners.move_to_end(key, last=False)  # a new owner has the first turn
        # Other owners may wait for it, too. The owner with the first turn looks it up for all.
        self._owners[key].names[host] = None
        self._next()
        return waiter.answer

    def _late(self, host: str) -> MemberError:
        return MemberError("dns_timeout", f"{host} was not resolved in {self._deadline:g} s")

    def _next(self) -> None:
        """Begin look-ups up to the limits; owners take turns."""
        while self._going - self._hanging < MAX_LOOKUPS and self._going < MAX_THREADS:
            scarce = self._going >= SCARCE_THREADS
            found = next(
                (key for key, owner in self._owners.items() if owner.may_ask(scarce)),
                _NO_OWNER,
            )
            if found is _NO_OWNER:
                return
            self._owners.move_to_end(found)
            host = next(iter(self._owners[found].names))
            del self._owners[found].names[host]
            name = self._waiting.get(host)
            if name is None or name.going:
                self._forget(found)
            elif all(waiter.answer.called for waiter in name.waiters):
                del self._waiting[host]  # no call waits for it any more
                self._forget(found)
            else:
                self._look_up(host, name, found)

    def _look_up(self, host: str, name: _Name, key: Hashable) -> None:
        owner = self._owners[key]
        owner.going, self._going, name.going = owner.going + 1, self._going + 1, True
        for waiter in name.waiters:
            if not waiter.answer.called:
                waiter.wait(self._deadline, self._late(host))

        def hangs() -> None:
            owner.hanging, self._hanging = owner.hanging + 1, self._hanging + 1
            self._next()

        alarm = self._clock.callLater(HANGING_SECONDS, hangs)
        asked = deferToThreadPool(self._reactor, self._threads, self._find, host)
        asked.addBoth(self._answered, host, key, alarm)

    def _forget(self, owner: Hashable) -> None:
        if not self._owners[owner].names and not self._owners[owner].going:
            del self._owners[owner]

    def _answered(
        self, result: list[str] | Failure, host: str, owner: Hashable, alarm: IDelayedCall
    ) -> None:
        looking = self._owners[owner]
        self._going, looking.going = self._going - 1, looking.going - 1
        looking.answered = True
        if alarm.active():
            alarm.cancel()
        else:
            self._hanging, looking.hanging = self._hanging - 1, looking.hanging - 1
        self._forget(owner)
        # A name that getaddrinfo cannot encode has no address, either.
        failed = isinstance(result, Failure)
        addresses = [] if isinstance(result, Failure) else result[:MAX_ADDRESSES]
        expires = self._clock.seconds() + (KEEP_FAILURE_SECONDS if failed else KEEP_SECONDS)
        self._kept[host] = (expires, addresses)
        self._kept.move_to_end(host)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        answer: list[str] | Failure = addresses
        if isinstance(result, Failure) and is_no_answer(result):
            answer = Failure(MemberError("dns_timeout", f"no server could say where {host} is"))
        for waiter in self._waiting.pop(host).waiters:
            waiter.end(answer)
        self._next()
