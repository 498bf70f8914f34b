"""Time: whose the reactor's is, and deadlines."""

import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

T = TypeVar("T")


def use_monotonic_clock(reactor: Any) -> None:
    """Make every timer of ``reactor`` follow ``time.monotonic``.

    Twisted's reactors count in ``time.time``, so a step of the wall clock stops
    or hurries all timers (twisted#2424). Calls that are already pending keep
    the delay they have left.
    """
    if reactor.seconds is time.monotonic:
        return
    shift = time.monotonic() - reactor.seconds()
    for call in reactor.getDelayedCalls():
        call.time += shift
        call.seconds = time.monotonic
    reactor.seconds = time.monotonic


async def within(
    clock: IReactorTime,
    seconds: float,
    work: Coroutine[Any, Any, T],
    late: Exception,
    unless: Callable[[], bool] = lambda: False,
) -> T:
    """What ``work`` returns.

    :param unless: where it says so when the time has passed, there is no hurry any more
    :raises late: ``work`` was not done in time, and was cancelled
    """
    passed = False

    def stop() -> None:
        nonlocal passed
        if not unless():
            passed = True
            working.cancel()

    working = Deferred.fromCoroutine(work)
    timer = clock.callLater(seconds, stop)
    try:
        return await working
    except CancelledError:
        if passed:
            raise late from None
        raise  # somebody else's wish
    finally:
        if timer.active():
            timer.cancel()
