"""Deadlines of connections, on a clock of the test."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.http_server.deadline import (
    HEADER_SECONDS,
    MAX_LEAD_SECONDS,
    MIN_BODY_SPEED,
    BodySpeed,
    Deadline,
)


class MovedDeadlineTests(SynchronousTestCase):
    """One deadline that is moved."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.deadline = Deadline(self.clock)
        self.due: list[str] = []

    def set(self, name: str, seconds: float) -> None:
        self.deadline.set(lambda: self.due.append(f"{name} {self.clock.seconds():g}"), seconds)

    def test_moved(self) -> None:
        """The last one counts, whether it is earlier or later; and it is called once."""
        self.set("a", 5)
        self.clock.advance(4)
        self.set("b", 5)
        self.clock.pump([1.0] * 4)
        self.assertEqual(self.due, [])
        self.clock.pump([1.0] * 5)
        self.set("c", 9)
        self.set("d", 2)
        self.clock.pump([1.0] * 20)
        self.assertEqual(self.due, ["b 9", "d 15"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_moved_often(self) -> None:
        """There is one timer, however often it is moved."""
        for _ in range(1000):
            self.set("a", 5)
            self.clock.advance(0.001)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_cleared_and_stopped(self) -> None:
        """Nothing is called then."""
        self.set("a", 5)
        self.assertTrue(self.deadline.is_set)
        self.deadline.clear()
        self.assertFalse(self.deadline.is_set)
        self.clock.advance(6)
        self.set("b", 5)
        self.deadline.stop()
        self.assertEqual((self.due, self.clock.getDelayedCalls()), ([], []))


class BodySpeedTests(SynchronousTestCase):
    """How long a body may take."""

    def life(self, speed: float, seconds: float = 1000.0) -> float:
        """The seconds after which a body of this speed is refused."""
        body, now, received = BodySpeed(0.0), 0.0, 0.0
        left = HEADER_SECONDS
        while left > 0.01 and now < seconds:
            now += left
            received += left * speed
            left = body.look(round(received), now)
        return now

    def test_speeds(self) -> None:
        """No byte: the first lead; half the speed: twice that; the least speed: any time."""
        self.assertAlmostEqual(self.life(0), HEADER_SECONDS)
        self.assertApproximates(self.life(MIN_BODY_SPEED / 2), 2 * HEADER_SECONDS, 1.0)
        self.assertGreaterEqual(self.life(MIN_BODY_SPEED), 1000)

    def test_lead(self) -> None:
        """A fast begin is saved for a slow stretch, up to a limit."""
        body = BodySpeed(0.0)
        body.look(1 << 30, 1.0)
        now, left = 1.0, HEADER_SECONDS
        while left > 0.01:
            now += left
            left = body.look(1 << 30, now)
        self.assertApproximates(now, 1.0 + MAX_LEAD_SECONDS, 1.0)

    def test_late_process(self) -> None:
        """Time in which this process did not run is not held against the client."""
        body = BodySpeed(0.0)
        self.assertGreater(body.look(0, 100.0), 0)
