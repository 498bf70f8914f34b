"""Calls that may fail for a while."""

from typing import Any

from twisted.internet.task import deferLater

from tests.support.reactor import reactor
from twisted_bulk.errors import QueueUnavailable


async def eventually(call: Any, seconds: float = 10) -> Any:
    """The result of ``call`` once it does not say "unavailable" any more."""
    clock: Any = reactor
    end = clock.seconds() + seconds
    while True:
        try:
            return await call()
        except QueueUnavailable:
            if clock.seconds() > end:
                raise
            await deferLater(clock, 0.02)
