"""Work on threads, a bounded number of them at once."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.threads import deferToThread

from twisted_bulk.errors import Unavailable

RETRY_AFTER = 5  # seconds for a client whose work was refused

_T = TypeVar("_T")


class BoundedThreads:
    """Calls functions on the reactor's threads.

    :param most: that run at once; further ones wait
    :param most_waiting: that wait; further ones are refused
    :param what: how a refusal names the work
    """

    def __init__(self, most: int, most_waiting: int, what: str) -> None:
        self._free = DeferredSemaphore(most)
        self._most_waiting = most_waiting
        self._what = what

    async def run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call a function on a thread. A thread whose caller is cancelled counts until it is done.

        :raises Unavailable: too many wait
        """
        if len(self._free.waiting) >= self._most_waiting:
            raise Unavailable(f"too many {self._what} at once", RETRY_AFTER)
        await self._free.acquire()
        done = deferToThread(function, *arguments)
        done.addBoth(self._release)
        heard: Deferred[Any] = Deferred()  # the caller may cancel this one
        done.chainDeferred(heard)
        return cast(_T, await heard)

    def _release(self, result: Any) -> Any:
        self._free.release()
        return result
