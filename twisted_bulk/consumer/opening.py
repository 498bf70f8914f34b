"""Whether jobs may be begun on this node now."""

import time
from collections.abc import Callable

from twisted_bulk.jobs.quiet_hours import Hours

LOOK_AGAIN_SECONDS = 1.0  # until it is asked again, where ``able`` says why nothing can be begun


class Opening:
    """The quiet hours, and what else keeps a node from beginning jobs.

    ``reason`` is why nothing may be begun, as of the last :meth:`look`; empty: jobs may be begun.

    :param hours: when nothing is begun
    :param able: the reason why nothing can be begun now, or empty
    """

    def __init__(self, hours: Hours, able: Callable[[], str]) -> None:
        self._hours = hours
        self._able = able
        self.reason = ""

    def look(self) -> float:
        """Find out; returns the seconds until the answer may be another one."""
        self.reason = self._able()
        if self.reason:
            return LOOK_AGAIN_SECONDS
        now = time.time()
        closed = self._hours.closed_for(now)
        if closed:
            self.reason = f"hours until {self._hours.text(now + closed, now)}"
        return closed
