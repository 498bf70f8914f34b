"""The throttle's time: rounds, and lines of answers."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.flows import RATE, Endless
from twisted_bulk.files.timer import SPACING_SECONDS, ThrottleTimer
from twisted_bulk.throttle import (
    FIRST_TURN_BYTES,
    MAX_DEBT_SECONDS,
    MAX_TURN_BYTES,
    UNLIMITED,
    UNLIMITED_TURN_BYTES,
    Throttle,
)


class TickerTests(SynchronousTestCase):
    """The same with a clock that is not asked all the time."""

    def test_rate(self) -> None:
        """The timer wakes up when something is due, and only then."""
        clock = Clock()
        timer, flow = ThrottleTimer(Throttle(RATE), clock), Endless()
        timer.join("a", flow)
        for _ in range(10_000):
            clock.advance(0.001)
        self.assertApproximates(flow.sent / 10, RATE, RATE * 0.005)
        timer.leave("a", flow)
        clock.advance(1)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_behind_a_head(self) -> None:
        """What a head has to wait for is its own charge, and no round."""
        clock = Clock()
        timer, flow = ThrottleTimer(Throttle(RATE), clock), Endless()
        timer.charge("a", 400)
        clock.advance(0)
        timer.join("a", flow, first=True)
        clock.advance(0)
        self.assertEqual(flow.sent, 0)
        clock.advance(400 / RATE)
        self.assertEqual(flow.sent, FIRST_TURN_BYTES)

    def test_no_limit(self) -> None:
        """Who has none waits for no round."""
        for rate, key in ((0, "a"), (RATE, UNLIMITED)):
            clock = Clock()
            timer, flow = ThrottleTimer(Throttle(rate), clock), Endless(UNLIMITED_TURN_BYTES)
            timer.join(key, flow)
            clock.advance(0.001)
            clock.advance(SPACING_SECONDS / 2)
            flow.left = UNLIMITED_TURN_BYTES  # its client has taken what it was sent
            timer.join(key, flow)
            clock.advance(0)
            self.assertEqual(flow.sent, 2 * UNLIMITED_TURN_BYTES)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**32), st.integers(1, 20), st.sampled_from([10_000, RATE, 5_000_000]))
    def test_bound_on_time(self, seed: int, count: int, rate: int) -> None:
        """Asked in time, an address gets rate x time and one quantum, whatever its transfers do."""
        dice, clock = random.Random(seed), Clock()
        throttle = Throttle(rate)
        timer = ThrottleTimer(throttle, clock)
        flows = [Endless() for _ in range(count)]
        marks, inside = [(0.0, 0)], [False] * count
        for _ in range(300):
            clock.pump([0.001] * dice.choice((0, 1, 9, 50)))
            which = dice.randrange(count)
            if dice.random() < 0.2:
                timer.charge("a", size := dice.randrange(500))
                flows[0].sent += size
            elif inside[which]:
                timer.leave("a", flows[which])
                inside[which] = False
            else:
                timer.join("a", flows[which], first=dice.random() < 0.5)
                inside[which] = True
            marks.append((clock.seconds(), sum(flow.sent for flow in flows)))
        debt = 500 * 300
        for then, before in dice.sample(marks, 40):
            for later, after in marks:
                if later >= then:
                    # The clock of this test goes in steps of a millisecond; small answers are debt.
                    bound = (
                        rate * (later - then + 0.001)
                        + MAX_TURN_BYTES
                        + min(debt, rate * MAX_DEBT_SECONDS + 500)
                    )
                    self.assertLessEqual(after - before, bound)


class WaitingAnswersTests(SynchronousTestCase):
    """Answers of an address that is ahead of its rate."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.timer = ThrottleTimer(Throttle(RATE), self.clock)
        self.admitted: list[int] = []

    def ask(self, number: int, key: str = "a", size: int = RATE // 10) -> Deferred[None]:
        def answer(_: None) -> None:
            self.admitted.append(number)
            self.timer.charge(key, size)

        return self.timer.admit(key).addCallback(answer)

    def flood(self, key: str, size: int = 400) -> None:
        """A client that asks again as soon as it has its answer."""
        asking = self.timer.admit(key)

        def answer(_: None) -> None:
            self.timer.charge(key, size)
            self.clock.callLater(0.0001, self.flood, key, size)

        asking.addCallback(answer)

    def run_for(self, seconds: float, step: float = 0.01) -> None:
        self.clock.pump([step] * round(seconds / step))

    def test_line(self) -> None:
        """At once up to the debt; then one after the other, with one timer for all of them."""
        for number in range(100):
            self.ask(number)
        free = len(self.admitted)
        self.assertEqual(free, round(MAX_DEBT_SECONDS * 10) + 1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.run_for(2)
        self.assertApproximates(len(self.admitted), 20, 1)
        self.run_for(20)
        self.assertEqual(self.admitted, list(range(100)))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_overtaking(self) -> None:
        """Who asks while another is let in comes last."""

        def ask_again(_: None) -> None:
            self.ask(99)

        for number in range(11):
            self.ask(number)
        self.timer.admit("a").addCallback(ask_again)
        self.ask(11)
        self.run_for(5)
        self.assertEqual(self.admitted, [*range(12), 99])

    def test_in_order(self) -> None:
        """Nor does a body's turn, after which some are let in at once, change their order."""
        self.timer.join("a", Endless())
        for number in range(3000):
            self.ask(number, size=400)
            self.clock.advance(0.0005)
        self.assertGreater(len(self.admitted), 30)
        self.assertEqual(self.admitted, list(range(len(self.admitted))))

    def test_others(self) -> None:
        """Another address waits for nothing."""
        for number in range(20):
            self.ask(number)
        self.assertTrue(self.timer.admit("b").called)

    def test_gone(self) -> None:
        """Who leaves is not waited for, and leaves nothing."""
        asked = [self.ask(number) for number in range(14)]
        for deferred in asked[11:13]:
            deferred.addErrback(lambda _: None).cancel()
        self.run_for(5)
        self.assertEqual(self.admitted, [*range(11), 13])
        for number in range(1000):
            self.ask(number).addErrback(lambda _: None).cancel()
        self.assertLess(len(self.admitted), 30)
        self.assertEqual([len(line.waiting) for line in self.timer._lines.values()], [0])

    def test_new_rate(self) -> None:
        """Nobody goes on waiting by the old one."""
        self.timer.set_rate(10, 0)
        for number in range(3):
            self.ask(number)
        self.assertEqual(self.admitted, [0])
        self.timer.set_rate(RATE * 1000, 0)
        self.run_for(2)
        self.assertEqual(self.admitted, [0, 1, 2])

    def test_flood_beside_a_body(self) -> None:
        """However many answers an address asks for, its bodies have a share."""
        for clients in (1, 8):
            body = Endless()
            self.timer.join("a", body)
            for _ in range(clients):
                self.flood("a")
            self.run_for(20, 0.002)
            sent, before = body.sent, self.timer.throttle.sent
            self.run_for(20, 0.002)
            self.assertGreater(body.sent - sent, 20 * RATE * 0.4)
            total = self.timer.throttle.sent - before
            self.assertApproximates(total, 20 * RATE, RATE * 0.2)
            self.setUp()

    def test_flood_within_the_total(self) -> None:
        """Nor can those without a rate stop everybody else's by it."""
        self.timer.set_rate(RATE, 4 * RATE)
        bodies = [Endless() for _ in range(2)]
        for number, body in enumerate(bodies):
            self.timer.join(f"{number}", body)
        for _ in range(8):
            self.flood(UNLIMITED, 4000)
        self.run_for(20, 0.002)
        for body in bodies:
            self.assertApproximates(body.sent / 20, RATE, RATE * 0.02)
        self.assertApproximates(self.timer.throttle.sent / 20, 4 * RATE, RATE * 0.1)
