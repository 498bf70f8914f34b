"""Names into addresses, for names that strangers chose.

Look-ups have threads of their own, because getaddrinfo may take a minute and cannot be
stopped. One that has not ended after a moment *hangs*: it keeps its thread, and no place, so
others begin. An owner (a part of a batch) has one look-up at a time until one of its names has
been answered, and then half of the places.
"""

import ipaddress
import re
import socket
from collections import OrderedDict, deque
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
    """Names that somebody waits for: in line, and how many of them are being looked up."""

    names: deque[str] = field(default_factory=deque)
    going: int = 0
    answered: bool = False

    @property
    def may_ask(self) -> bool:
        """Whether one more may be looked up."""
        return bool(self.names) and self.going < (EACH if self.answered else 1)


class Resolver:
    """Answers kept for a while, one look-up for all who ask at once.

    :param deadline: seconds that a caller waits
    :param find: all addresses of a name; blocks
    """

    def __init__(self, reactor: Any, deadline: float, find: Callable[[str], list[str]]) -> None:
        self._reactor = reactor
        self._clock: IReactorTime = reactor
        self._deadline = deadline
        self._find = find
        self._threads = _Threads(0, THREADS, name="dns")
        self._kept: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()
        self._asking: dict[str, list[Deferred[list[str]]]] = {}
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
            answer: Deferred[list[str]] = Deferred()
            self._ask(host, answer)
            late = MemberError("dns_timeout", f"{host} was not resolved in {self._deadline:g} s")
            answer.addTimeout(self._deadline, self._clock, lambda *_: Failure(late))
            addresses = await answer
        if not addresses:
            raise MemberError("dns_failed", f"{host} cannot be resolved")
        return addresses

    def _ask(self, host: str, answer: Deferred[list[str]]) -> None:
        waiting = self._asking.get(host)
        if waiting is not None:
            waiting.append(answer)
            return
        self._asking[host] = [answer]
        owner = OWNER.get()
        if owner not in self._owners:
            self._owners[owner] = _Owner()
            self._owners.move_to_end(owner, last=False)  # a new one has the first turn
        self._owners[owner].names.append(host)
        self._next()

    def _next(self) -> None:
        """Look up what there are places for; owners take turns."""
        while self._going - self._hanging < PLACES and self._going < THREADS:
            found = next((key for key, owner in self._owners.items() if owner.may_ask), _NOBODY)
            if found is _NOBODY:
                return
            owner = self._owners[found]
            self._owners.move_to_end(found)
            host = owner.names.popleft()
            if all(answer.called for answer in self._asking[host]):
                del self._asking[host]  # nobody waits for it any more
                self._forget(found)
            else:
                self._look_up(host, found)

    def _look_up(self, host: str, owner: Hashable) -> None:
        self._owners[owner].going += 1
        self._going += 1

        def hangs() -> None:
            self._hanging += 1
            self._next()

        alarm = self._clock.callLater(HANGS, hangs)
        asked = deferToThreadPool(self._reactor, self._threads, self._find, host)
        asked.addBoth(self._answered, host, owner, alarm)

    def _forget(self, owner: Hashable) -> None:
        if not self._owners[owner].names and not self._owners[owner].going:
            del self._owners[owner]

    def _answered(
        self, result: list[str] | Failure, host: str, owner: Hashable, alarm: IDelayedCall
    ) -> None:
        self._going -= 1
        if alarm.active():
            alarm.cancel()
        else:
            self._hanging -= 1
        self._owners[owner].going -= 1
        self._owners[owner].answered = True
        self._forget(owner)
        # Also what getaddrinfo cannot encode is a name without an address.
        failed = isinstance(result, Failure)
        addresses = [] if isinstance(result, Failure) else result[:MOST]
        expires = self._clock.seconds() + (KEEP_FAILURE if failed else KEEP)
        self._kept[host] = (expires, addresses)
        self._kept.move_to_end(host)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        waiting = self._asking.pop(host)
        for answer in waiting:
            if answer.called:
                continue
            if isinstance(result, Failure) and _says_not_now(result):
                answer.errback(MemberError("dns_timeout", f"no server could say where {host} is"))
            else:
                answer.callback(addresses)
        self._next()


def _says_not_now(failure: Failure) -> bool:
    """Whether no server could be asked, which says nothing about the name."""
    return bool(failure.check(socket.gaierror)) and failure.value.errno == socket.EAI_AGAIN  # type: ignore[union-attr]
