"""How much is asked of each host that callbacks go to. Pure, over ``now``.

One that does not answer shall cost a few sockets, and the others nothing. Progress stops for a
while after some failures in a row, and then one callback at a time finds out whether the host is
back (a circuit breaker, as in M. Nygard, Release It!); last callbacks have a schedule of their
own, and are only kept from being too many at once.
"""

from dataclasses import dataclass

#: Callbacks on their way from one node to one host; of a process's one place is for last
#: callbacks alone, so that it has two at least.
MOST, LEAST = 4, 2
FAILURES = 5  # in a row, after which progress is not sent for a while
PAUSE, LONGEST = 10.0, 300.0  # seconds of that, doubled each time it was in vain
KNOWN = 10_000  # hosts of which failures are remembered


@dataclass(slots=True)
class Receiver:
    """One host: callbacks on their way, failures in a row, and until when progress waits."""

    going: int = 0
    failures: int = 0
    until: float = 0.0


class Receivers:
    """All hosts that callbacks go to.

    :param processes: how many of the node send callbacks
    """

    def __init__(self, processes: int = 1) -> None:
        self.most = max(LEAST, MOST // processes)
        self._known: dict[str, Receiver] = {}

    def __len__(self) -> int:
        return len(self._known)

    def allows_last(self, host: str) -> bool:
        """Whether a last callback may be sent now."""
        found = self._known.get(host)
        return found is None or found.going < self.most

    def fails(self, host: str) -> bool:
        """Whether the last that is known of it is a failure."""
        found = self._known.get(host)
        return found is not None and found.failures > 0

    def allows_progress(self, host: str, now: float) -> bool:
        """Whether progress may be sent now."""
        found = self._known.get(host)
        if found is None:
            return True
        if found.failures >= FAILURES:
            return found.going == 0 and now >= found.until
        return found.going < self.most - 1

    def begin(self, host: str) -> None:
        """A callback is on its way."""
        self._known.setdefault(host, Receiver()).going += 1

    def end(self, host: str, now: float, answered: bool | None) -> None:
        """It has ended.

        :param answered: the host did not fail, whatever it thinks of the callback; None: it was
            not asked
        """
        found = self._known[host]
        found.going -= 1
        if answered:
            found.failures = 0
        elif answered is not None:
            found.failures += 1
            vain = found.failures - FAILURES
            if vain >= 0:
                found.until = now + min(PAUSE * 2.0 ** min(vain, 10), LONGEST)
        if not found.going and (not found.failures or len(self._known) > KNOWN):
            del self._known[host]
