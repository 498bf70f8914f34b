"""The reactor's timers and the wall clock."""

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.support.daemon import environment

# A reactor in a process whose wall clock goes back an hour after three ticks.
STEPPED = """
import sys, threading, time
real, shift = time.time, [0.0]
time.time = lambda: real() + shift[0]
from twisted.internet import reactor, task
from twisted_bulk.system.process import use_monotonic_clock
early = []
reactor.callLater(0.05, early.append, 1)
if sys.argv[1] == "on":
    use_monotonic_clock(reactor)
ticks = []
def tick():
    ticks.append(1)
    if len(ticks) == 3:
        # From a thread, while the next tick is already planned.
        threading.Timer(0.005, shift.__setitem__, (0, -3600.0)).start()
    if len(ticks) == 10:
        reactor.stop()
task.LoopingCall(tick).start(0.02)
if sys.argv[1] == "off":
    threading.Timer(1, reactor.callFromThread, (reactor.stop,)).start()
reactor.run()
print(len(ticks), len(early))
"""


class ClockTests(SynchronousTestCase):
    """A step of the wall clock."""

    def ticks(self, defence: str) -> list[int]:
        done = subprocess.run(
            [sys.executable, "-c", STEPPED, defence],
            capture_output=True, text=True, env=environment(), timeout=30, check=True,
        )  # fmt: skip
        return [int(word) for word in done.stdout.split()]

    def test_step_back(self) -> None:
        """Timers go on, also one that was pending when the clock was set."""
        self.assertEqual(self.ticks("on"), [10, 1])

    def test_without_it(self) -> None:
        """The test sees the fault: with Twisted's own clock the ticks stop."""
        self.assertLess(self.ticks("off")[0], 10)
