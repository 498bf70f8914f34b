"""How many callbacks each host gets at once, and when one that fails is asked again. Pure.

A host that does not answer shall cost a few sockets, and delay no other. Progress stops after some
failures in a row. Then one callback at a time, after growing pauses, finds out whether the host is
back (a circuit breaker, as in M. Nygard, Release It!). Last callbacks have a schedule of their own;
here only their number at once is bounded.
"""

from dataclasses import dataclass

#: Callbacks at once from one node to one host; further ones wait.
MAX_PER_HOST = 4
#: Callbacks at once from one process to one host, at least, also where `--workers` shares
#: MAX_PER_HOST between several processes: one of these is for last callbacks alone.
MIN_PER_PROCESS = 2
MAX_FAILURES = 5  # in a row; then progress callbacks pause
FIRST_PAUSE, LAST_PAUSE = 10.0, 300.0  # seconds of the pause, doubled with each further failure
#: Callbacks at once to all hosts that fail together, so that the others have the rest.
MAX_TO_FAILING = 100
#: Hosts whose failures are remembered; beyond it those without a callback on its way are dropped.
MAX_HOSTS = 10_000


@dataclass(slots=True)
class Receiver:
    """One host.

    :param going: callbacks under way
    :param begun_failing: those of them that began while the host failed
    :param failures: failures in a row
    :param since: when the first of these was
    :param until: progress waits until then
    """

    going: int = 0
    begun_failing: int = 0
    failures: int = 0
    since: float = 0.0
    until: float = 0.0


class Receivers:
    """All hosts that callbacks go to.

    :param processes: processes of this node that send callbacks
    """

    def __init__(self, processes: int = 1) -> None:
        self.most = max(MIN_PER_PROCESS, MAX_PER_HOST // processes)
        self._known: dict[str, Receiver] = {}
        self._begun_failing = 0

    def __len__(self) -> int:
        return len(self._known)

    def allows_last(self, host: str) -> bool:
        """Whether a last callback may be sent now."""
        found = self._known.get(host)
        if found is None:
            return True
        too_many = found.failures and self._begun_failing >= MAX_TO_FAILING
        return found.going < self.most and not too_many

    def away(self, host: str, now: float) -> float:
        """Seconds since the host began to fail; 0: it does not."""
        found = self._known.get(host)
        return now - found.since if found is not None and found.failures else 0.0

    def fails(self, host: str) -> bool:
        """Whether its last callback failed."""
        found = self._known.get(host)
        return found is not None and found.failures > 0

    def allows_progress(self, host: str, now: float) -> bool:
        """Whether a progress callback may be sent now."""
        found = self._known.get(host)
        if found is None:
            return True
        if found.failures >= MAX_FAILURES:
            return found.going == 0 and now >= found.until
        return found.going < self.most - 1

    def begin(self, host: str) -> None:
        """A callback begins."""
        found = self._known.setdefault(host, Receiver())
        found.going += 1
        if found.failures:
            found.begun_failing += 1
            self._begun_failing += 1

    def end(self, host: str, now: float, answered: bool | None) -> None:
        """A callback has ended.

        :param answered: True: the host works, also when it refused the callback; False: it failed;
            None: it was not asked
        """
        found = self._known[host]
        found.going -= 1
        if found.begun_failing:
            found.begun_failing -= 1
            self._begun_failing -= 1
        if answered:
            found.failures = 0
        elif answered is not None:
            found.since = found.since if found.failures else now
            found.failures += 1
            beyond = found.failures - MAX_FAILURES
            if beyond >= 0:
                found.until = now + min(FIRST_PAUSE * 2.0 ** min(beyond, 10), LAST_PAUSE)
        if not found.going and (not found.failures or len(self._known) > MAX_HOSTS):
            del self._known[host]
