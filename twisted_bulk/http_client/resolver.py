"""Names into addresses, for names that strangers chose.

Look-ups have threads of their own, because getaddrinfo may take a minute and cannot be
stopped. One that has not ended after a moment *hangs*: it keeps its thread, and no place, so
others begin. An owner (a part of a batch) has one look-up at a time until one of its names has
been answered, and then half of the places; those of its look-ups that hang are bounded as well.
"""

import ipaddress
import re
import socket
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from twisted_bulk.errors import MemberError

PLACES = 16  # look-ups at once that do not hang
EACH = 8  # look-ups at once of one owner, those that hang included
HANGS = 0.5  # seconds after which a look-up hangs
THREADS = 256  # look-ups at once, those that hang included
SCARCE = THREADS // 2  # from which an owner whose look-ups hang gets no more
LINE = 4  # deadlines that a name may wait in line, before it is looked up
KEEP = 30.0  # seconds that an answer is used again, and a failure
KEEP_FAILURE = 2.0
KEPT = 10_000  # answers in memory
MOST = 16  # addresses that are tried
_NOBODY = object()
_NAME = re.compile(r"(?=.{1,254}$)[^.]{1,63}(?:\.[^.]{1,63})*\.?")  # what DNS can hold (RFC 1035)

#: For whom names are looked up in this context.
OWNER: ContextVar[Hashable] = ContextVar("OWNER", default=None)


class _Threads(ThreadPool):
    """Threads that nobody waits for."""

    threadFactory = staticmethod(partial(Thread, daemon=True))  # type: ignore[assignment]

    def stop(self) -> None:
        self.threads.clear()
        super().stop()


def look_up(host: str) -> list[str]:
    """All addresses of ``host``, as the system knows them. Blocks."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@dataclass
class _Owner:
    """Names that somebody waits for: in line, and how many are being looked up, or hang."""

    names: dict[str, None] = field(default_factory=dict)
    going: int = 0
    hanging: int = 0
    answered: bool = False

    def may_ask(self, scarce: bool) -> bool:
        """Whether one more may be looked up."""
        if not self.names or self.going >= EACH or (scarce and self.hanging):
            return False
        return self.answered or self.going == self.hanging


class _Asker:
    """Somebody who waits for a name, up to a deadline."""

    def __init__(self, clock: IReactorTime) -> None:
        self.answer: Deferred[list[str]] = Deferred(lambda _: self._stop())
        self._clock = clock
        self._timer: IDelayedCall | None = None

    def wait(self, seconds: float, late: MemberError) -> None:
        """Fail with ``late`` then."""
        self._stop()
        self._timer = self._clock.callLater(seconds, self.end, Failure(late))

    def end(self, result: list[str] | Failure) -> None:
        """The addresses, or why there are none."""
        self._stop()
        if not self.answer.called:
            self.answer.callback(result)  # a Failure is taken for one

    def _stop(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


@dataclass
class _Name:
    """A name that is in line, or being looked up."""

    askers: list[_Asker] = field(default_factory=list)
    going: bool = False


class Resolver:
    """Answers kept for a while, one look-up for all who ask at once.

    :param deadline: seconds that a caller waits for a look-up; before it, a caller waits up to
        ``LINE`` times as long in line
    :param find: all addresses of a name; blocks
    """

    def __init__(self, reactor: Any, deadline: float, find: Callable[[str], list[str]]) -> None:
        self._reactor = reactor
        self._clock: IReactorTime = reactor
        self._deadline = deadline
        self._find = find
        self._threads = _Threads(0, THREADS, name="dns")
        self._kept: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()
        self._asking: dict[str, _Name] = {}
        self._owners: OrderedDict[Hashable, _Owner] = OrderedDict()
        self._going = self._hanging = 0

    def start(self) -> None:
        """Start the threads."""
        self._threads.start()

    def stop(self) -> None:
        """End the threads, or forget them."""
        self._threads.stop()

    async def resolve(self, host: str) -> list[str]:
        """:raises MemberError: it has no address, or none in time"""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        if not _NAME.fullmatch(host):
            raise MemberError("bad_url", "the host's name is not one that DNS can hold")
        expires, addresses = self._kept.get(host, (0.0, []))
        if expires <= self._clock.seconds():
            addresses = await self._ask(host)
        if not addresses:
            raise MemberError("dns_failed", f"{host} cannot be resolved")
        return addresses

    def _ask(self, host: str) -> Deferred[list[str]]:
        asker, key = _Asker(self._clock), OWNER.get()
        name = self._asking.setdefault(host, _Name())
        name.askers = [one for one in name.askers if not one.answer.called]
        name.askers.append(asker)
        if name.going:
            asker.wait(self._deadline, self._late(host))
            return asker.answer
        what = f"{host} waited for its turn to be resolved"
        asker.wait(LINE * self._deadline, MemberError("dns_timeout", what, ours=True))
        if key not in self._owners:
            self._owners[key] = _Owner()
            self._owners.move_to_end(key, last=False)  # a new one has the first turn
        # It may be in others' lines as well: whose turn comes first looks it up for all.
        self._owners[key].names[host] = None
        self._next()
        return asker.answer

    def _late(self, host: str) -> MemberError:
        return MemberError("dns_timeout", f"{host} was not resolved in {self._deadline:g} s")

    def _next(self) -> None:
        """Look up what there are places for; owners take turns."""
        while self._going - self._hanging < PLACES and self._going < THREADS:
            scarce = self._going >= SCARCE
            found = next(
                (key for key, owner in self._owners.items() if owner.may_ask(scarce)), _NOBODY
            )
            if found is _NOBODY:
                return
            self._owners.move_to_end(found)
            host = next(iter(self._owners[found].names))
            del self._owners[found].names[host]
            name = self._asking.get(host)
            if name is None or name.going:
                self._forget(found)
            elif all(asker.answer.called for asker in name.askers):
                del self._asking[host]  # nobody waits for it any more
                self._forget(found)
            else:
                self._look_up(host, name, found)

    def _look_up(self, host: str, name: _Name, key: Hashable) -> None:
        owner = self._owners[key]
        owner.going, self._going, name.going = owner.going + 1, self._going + 1, True
        for asker in name.askers:
            if not asker.answer.called:
                asker.wait(self._deadline, self._late(host))

        def hangs() -> None:
            owner.hanging, self._hanging = owner.hanging + 1, self._hanging + 1
            self._next()

        alarm = self._clock.callLater(HANGS, hangs)
        asked = deferToThreadPool(self._reactor, self._threads, self._find, host)
        asked.addBoth(self._answered, host, key, alarm)

    def _forget(self, owner: Hashable) -> None:
        if not self._owners[owner].names and not self._owners[owner].going:
            del self._owners[owner]

    def _answered(
        self, result: list[str] | Failure, host: str, owner: Hashable, alarm: IDelayedCall
    ) -> None:
        asked_for = self._owners[owner]
        self._going, asked_for.going = self._going - 1, asked_for.going - 1
        asked_for.answered = True
        if alarm.active():
            alarm.cancel()
        else:
            self._hanging, asked_for.hanging = self._hanging - 1, asked_for.hanging - 1
        self._forget(owner)
        # Also what getaddrinfo cannot encode is a name without an address.
        failed = isinstance(result, Failure)
        addresses = [] if isinstance(result, Failure) else result[:MOST]
        expires = self._clock.seconds() + (KEEP_FAILURE if failed else KEEP)
        self._kept[host] = (expires, addresses)
        self._kept.move_to_end(host)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        said: list[str] | Failure = addresses
        if isinstance(result, Failure) and _says_not_now(result):
            said = Failure(MemberError("dns_timeout", f"no server could say where {host} is"))
        for asker in self._asking.pop(host).askers:
            asker.end(said)
        self._next()


def _says_not_now(failure: Failure) -> bool:
    """Whether no server could be asked, which says nothing about the name."""
    return bool(failure.check(socket.gaierror)) and failure.value.errno == socket.EAI_AGAIN  # type: ignore[union-attr]
