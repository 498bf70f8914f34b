"""Names into addresses, for names that strangers chose.

Look-ups have threads of their own, because getaddrinfo may take a minute and cannot be
stopped: slow DNS must not hold up anything else. Nobody has more than half of the threads.
"""

import ipaddress
import re
import socket
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from functools import partial
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from twisted_bulk.errors import MemberError

THREADS = 16
EACH = 8  # of these for one owner
KEEP = 30.0  # seconds that an answer is used again, and a failure
KEEP_FAILURE = 2.0
KEPT = 10_000  # answers in memory
MOST = 16  # addresses that are tried
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
        self._busy: Counter[Hashable] = Counter()
        self._queues: dict[Hashable, deque[str]] = {}

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
        self._queues.setdefault(owner, deque()).append(host)
        self._next(owner)

    def _next(self, owner: Hashable) -> None:
        queue = self._queues.get(owner)
        while queue and self._busy[owner] < EACH:
            host = queue.popleft()
            if all(answer.called for answer in self._asking[host]):
                del self._asking[host]  # nobody waits for it any more
                continue
            self._busy[owner] += 1
            asked = deferToThreadPool(self._reactor, self._threads, self._find, host)
            asked.addBoth(self._answered, host, owner)
        if not queue:
            self._queues.pop(owner, None)

    def _answered(self, result: list[str] | Failure, host: str, owner: Hashable) -> None:
        self._busy[owner] -= 1
        if not self._busy[owner]:
            del self._busy[owner]
        # Also what getaddrinfo cannot encode is a name without an address.
        failed = isinstance(result, Failure)
        addresses = [] if isinstance(result, Failure) else result[:MOST]
        expires = self._clock.seconds() + (KEEP_FAILURE if failed else KEEP)
        self._kept[host] = (expires, addresses)
        self._kept.move_to_end(host)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        for answer in self._asking.pop(host):
            if not answer.called:
                answer.callback(addresses)
        self._next(owner)
