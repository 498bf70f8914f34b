"""Time: whose the reactor's is."""

import time
from typing import Any


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
