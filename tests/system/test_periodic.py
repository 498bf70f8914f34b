"""Work that is repeated."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.errors import QueueUnavailable
from twisted_bulk.system.periodic import Periodic, pause_after


class PeriodicTests(SynchronousTestCase):
    """On a clock of the test."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.calls: list[float] = []
        self.answers: list[Exception | Deferred[None]] = []

    def work(self) -> Deferred[None] | None:
        self.calls.append(self.clock.seconds())
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def start(self, at_once: bool = True) -> Periodic:
        found = Periodic(Logger(), self.clock, 2.0, self.work, name="it", at_once=at_once)
        found.startService()
        return found

    def test_times(self) -> None:
        """At once, or after the first pause; none after the stop."""
        periodic = self.start()
        self.clock.pump([1.0] * 4)
        periodic.stopService()
        periodic.stopService()
        self.clock.pump([1.0] * 4)
        self.assertEqual(self.calls, [0.0, 2.0, 4.0])
        self.start(at_once=False)
        self.assertEqual(len(self.calls), 3)

    def test_error(self) -> None:
        """It is logged, and the next call comes in its time; a queue that is away is not logged."""
        self.answers = [ValueError("x"), QueueUnavailable("away")]
        self.start()
        self.clock.pump([1.0] * 4)
        self.assertEqual(self.calls, [0.0, 2.0, 4.0])
        (logged,) = self.flushLoggedErrors()
        self.assertIsInstance(logged.value, ValueError)

    def test_many_errors(self) -> None:
        """Errors that follow each other are not logged each time."""
        self.answers = [ValueError("x") for _ in range(60)]
        self.start()
        self.clock.pump([1.0] * 119)
        self.assertEqual(len(self.calls), 60)
        self.assertEqual(len(self.flushLoggedErrors()), 2)

    def test_never_two_at_once(self) -> None:
        """A call that takes long is waited for."""
        slow: Deferred[None] = Deferred()
        self.answers = [slow]
        self.start()
        self.clock.pump([1.0] * 5)
        self.assertEqual(self.calls, [0.0])
        slow.callback(None)
        self.clock.pump([1.0])
        self.assertEqual(self.calls, [0.0, 6.0])

    def test_pauses(self) -> None:
        """The last pause is for all further failures."""
        self.assertEqual([pause_after((1.0, 5.0), n) for n in range(4)], [1.0, 5.0, 5.0, 5.0])
