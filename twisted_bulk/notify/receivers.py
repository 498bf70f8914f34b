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
TROUBLED = 100  # callbacks on their way to hosts that fail, all together: others have the rest
KNOWN = 10_000  # hosts of which failures are remembered


@dataclass(slots=True)
class Receiver:
    """One host: callbacks on their way, and of these those that were begun while it failed;
    failures in a row, since when, and until when progress waits."""

    going: int = 0
    doubtful: int = 0
    failures: int = 0
    since: float = 0.0
    until: float = 0.0


class Receivers:
    """All hosts that callbacks go to.

    :param processes: how many of the node send callbacks
    """

    def __init__(self, processes: int = 1) -> None:
        self.most = max(LEAST, MOST // processes)
        self._known: dict[str, Receiver] = {}
        self._doubtful = 0

    def __len__(self) -> int:
        return len(self._known)

    def allows_last(self, host: str) -> bool:
        """Whether a last callback may be sent now."""
        found = self._known.get(host)
        if found is None:
            return True
        return found.going < self.most and not (found.failures and self._doubtful >= TROUBLED)

    def away(self, host: str, now: float) -> float:
        """Seconds since it has begun to fail."""
        found = self._known.get(host)
        return now - found.since if found is not None and found.failures else 0.0

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
        found = self._known.setdefault(host, Receiver())
        found.going += 1
        if found.failures:
            found.doubtful += 1
            self._doubtful += 1

    def end(self, host: str, now: float, answered: bool | None) -> None:
        """It has ended.

        :param answered: the host did not fail, whatever it thinks of the callback; None: it was
            not asked
        """
        found = self._known[host]
        found.going -= 1
        if found.doubtful:
            found.doubtful -= 1
            self._doubtful -= 1
        if answered:
            found.failures = 0
        elif answered is not None:
            found.since = found.since if found.failures else now
            found.failures += 1
            vain = found.failures - FAILURES
            if vain >= 0:
                found.until = now + min(PAUSE * 2.0 ** min(vain, 10), LONGEST)
        if not found.going and (not found.failures or len(self._known) > KNOWN):
            del self._known[host]
