"""The rate per address, with time as an argument."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.flows import RATE, Endless
from twisted_bulk.throttle import (
    FIRST_TURN_BYTES,
    MAX_DEBT_SECONDS,
    MAX_TURN_BYTES,
    MIN_TURN_BYTES,
    ROUND_SECONDS,
    UNLIMITED,
    UNLIMITED_TURN_BYTES,
    Throttle,
)


class Last(Endless):
    """One byte, and with it its client's next request is answered."""

    def __init__(self, throttle: Throttle) -> None:
        super().__init__(1)
        self.throttle = throttle

    def send(self, most: int) -> int:
        sent = super().send(most)
        self.throttle.leave("a", self)
        self.throttle.charge("a", 400, 0)
        return sent


def run(throttle: Throttle, start: float, seconds: float, step: float = 0.01) -> None:
    """Serve for a while, every ``step``."""
    ticks = round(seconds / step)
    for tick in range(ticks + 1):
        throttle.serve(start + tick * step)


class AddressRateTests(SynchronousTestCase):
    """How much goes out."""

    def test_one(self) -> None:
        """One transfer gets the rate, from the first second on."""
        throttle, flow = Throttle(RATE), Endless()
        throttle.join("a", flow, 0)
        run(throttle, 0, 1)
        self.assertApproximates(flow.sent, RATE, MAX_TURN_BYTES)
        run(throttle, 1, 29)
        self.assertApproximates(flow.sent / 30, RATE, RATE * 0.005)

    def test_many_of_one_address(self) -> None:
        """Sixteen transfers share the rate evenly."""
        throttle, flows = Throttle(RATE), [Endless() for _ in range(16)]
        for flow in flows:
            throttle.join("a", flow, 0)
        run(throttle, 0, 30)
        sent = [flow.sent for flow in flows]
        self.assertApproximates(sum(sent) / 30, RATE, RATE * 0.005)
        self.assertLessEqual(max(sent) - min(sent), 2 * MIN_TURN_BYTES)

    def test_addresses_are_apart(self) -> None:
        """What one address does is nothing to another."""
        throttle, one = Throttle(RATE), Endless()
        throttle.join("a", one, 0)
        for _ in range(64):
            throttle.join("b", Endless(), 0)
        run(throttle, 0, 30)
        self.assertApproximates(one.sent / 30, RATE, RATE * 0.005)

    def test_stalled(self) -> None:
        """Who does not take data has no share; the others have all of it."""
        throttle, flows = Throttle(RATE), [Endless() for _ in range(8)]
        for flow in flows:
            throttle.join("a", flow, 0)
        for flow in flows[:4]:
            throttle.leave("a", flow)
        run(throttle, 0, 30)
        self.assertEqual([flow.sent for flow in flows[:4]], [0] * 4)
        self.assertApproximates(sum(flow.sent for flow in flows) / 30, RATE, RATE * 0.005)

    def test_one_after_the_other(self) -> None:
        """New transfers, one at a time, get no more than one long one."""
        throttle, total, now = Throttle(RATE), 0, 0.0
        while now < 30:
            flow = Endless(1000)
            throttle.join("a", flow, now)
            while flow.left:
                throttle.serve(now)
                now += 0.001
            throttle.leave("a", flow)
            total += 1000
        self.assertLessEqual(total / 30, RATE * 1.005)

    def test_headers_are_charged(self) -> None:
        """Small answers run into debt, and then have to wait."""
        throttle, total, now = Throttle(RATE), 0, 0.0
        while now < 30:
            now += 0.0005
            while throttle.allows("a", now):
                throttle.charge("a", 500, now)
                total += 500
            throttle.serve(now)
        self.assertLessEqual(total, RATE * (30 + MAX_DEBT_SECONDS) + 500)
        self.assertGreater(total, RATE * 29)

    def test_lateness(self) -> None:
        """A reactor that is held up makes up for it and gives no credit."""
        throttle, flow = Throttle(RATE), Endless()
        throttle.join("a", flow, 0)
        run(throttle, 0, 30, step=0.15)
        self.assertApproximates(flow.sent / 30, RATE, RATE * 0.005)
        before = flow.sent
        run(throttle, 100, 1)
        self.assertLessEqual(flow.sent - before, RATE * 1.3 + MAX_TURN_BYTES)

    def test_forgotten(self) -> None:
        """An address is kept until its time has come, and not longer."""
        throttle, flow = Throttle(RATE), Endless(10_000)
        throttle.join("a", flow, 0)
        throttle.serve(0.0)
        throttle.leave("a", flow)
        throttle.serve(0.001)
        self.assertEqual(len(throttle), 1)
        run(throttle, 0.001, 1)
        self.assertEqual(len(throttle), 0)

    def test_no_limit(self) -> None:
        """Rate 0: everything at once, a turn in each round, until the client is full."""
        throttle = Throttle(0)

        class Full(Endless):
            def send(self, most: int) -> int:
                if self.sent > 10 * UNLIMITED_TURN_BYTES:
                    throttle.leave("a", self)
                    return 0
                return super().send(most)

        flow = Full()
        throttle.join("a", flow, 0)
        rounds = 0
        while throttle.serve(0) is not None:
            rounds += 1
        self.assertEqual((flow.sent, rounds), (11 * UNLIMITED_TURN_BYTES, 11))
        throttle.charge("a", 10**9, 0)
        self.assertTrue(throttle.allows("a", 0))

    def test_charged_meanwhile(self) -> None:
        """Who was in turn, and has been sent something else since, waits for that, too."""
        throttle, flow = Throttle(RATE), Endless()
        throttle.join("a", flow, 0)
        throttle.serve(0)
        throttle.charge("a", RATE // 10, 0.01)
        had = flow.sent
        throttle.serve(had / RATE + 0.09)
        self.assertEqual(flow.sent, had)
        throttle.serve(had / RATE + 0.11)
        self.assertGreater(flow.sent, had)

    def test_each_in_its_turn(self) -> None:
        """However many an address has: its clients' patience ends after a while."""
        throttle, flows = Throttle(RATE), [Endless() for _ in range(100)]
        for flow in flows:
            throttle.join("a", flow, 0)
        run(throttle, 0, ROUND_SECONDS * 1.05)
        self.assertNotIn(0, [flow.sent for flow in flows])

    def test_exempt(self) -> None:
        """Some have no limit of their own; the others' is the same as ever."""
        throttle, free, bound = Throttle(RATE), Endless(50 * UNLIMITED_TURN_BYTES), Endless()
        throttle.join(UNLIMITED, free, 0)
        throttle.join("a", bound, 0)
        run(throttle, 0, 30)
        self.assertEqual(free.left, 0)
        self.assertApproximates(bound.sent / 30, RATE, RATE * 0.005)

    def test_total(self) -> None:
        """All together get no more than the total, each the same, and none of it is lost."""
        for rate, total in (
            (RATE, 10 * RATE),
            (0, 10 * RATE),
            (0, 1000 * RATE),
            (RATE, 100 * RATE),
        ):
            throttle, flows = Throttle(rate, total), [Endless() for _ in range(40)]
            for number, flow in enumerate(flows):
                throttle.join(f"{number % 20}", flow, 0)
            run(throttle, 0, 30)
            sent = [flow.sent for flow in flows]
            expected = min(total, 20 * rate or total)
            self.assertApproximates(sum(sent) / 30, expected, expected * 0.005)
            self.assertLessEqual(max(sent) - min(sent), 3 * MAX_TURN_BYTES)

    def test_total_to_the_exempt(self) -> None:
        """Who has no rate gets what the others leave of the total, and no more."""
        throttle, free = Throttle(RATE, 10 * RATE), Endless()
        bound = [Endless() for _ in range(4)]
        throttle.join(UNLIMITED, free, 0)
        for number, flow in enumerate(bound):
            throttle.join(f"{number}", flow, 0)
        run(throttle, 0, 30)
        for flow in bound:
            self.assertApproximates(flow.sent / 30, RATE, RATE * 0.005)
        self.assertApproximates(free.sent / 30, 6 * RATE, RATE * 0.05)

    def test_total_gives_no_credit(self) -> None:
        """Time in which nobody asked for anything is not made up for."""
        throttle, flow = Throttle(0, RATE), Endless()
        throttle.serve(1000)
        throttle.join("a", flow, 1000)
        while (due := throttle.serve(1000)) is not None and due <= 1000:
            pass
        self.assertEqual(flow.sent, MAX_TURN_BYTES)

    def test_heads_between(self) -> None:
        """Charging a head forgets nothing that an address was late with."""
        throttle, flow, charged = Throttle(RATE), Endless(), 0
        throttle.join("a", flow, 0)
        for n in range(30 * 50):
            throttle.serve(n * 0.02)
            throttle.charge("a", 100, n * 0.02 + 0.019)
            charged += 100
        self.assertApproximates((flow.sent + charged) / 30, RATE, RATE * 0.005)

    def test_total_after_a_lull(self) -> None:
        """Nor is time in which they asked for less than it."""
        throttle, flows = Throttle(RATE, 10 * RATE), [Endless() for _ in range(40)]
        throttle.join("0", flows[0], 0)
        run(throttle, 0, 10)
        before = flows[0].sent
        for number, flow in enumerate(flows):
            throttle.join(f"{number}", flow, 10)
        run(throttle, 10, 0.1, step=0.001)
        self.assertLess(
            sum(flow.sent for flow in flows) - before, 10 * RATE * 0.11 + MAX_TURN_BYTES
        )

    def test_left_before_its_turn(self) -> None:
        """Who leaves has none, also if it would have been the first."""
        throttle, flow = Throttle(RATE), Endless()
        for first in (True, False):
            throttle.join("a", flow, 0, first)
            throttle.leave("a", flow)
        run(throttle, 0, 1)
        self.assertEqual(flow.sent, 0)

    def test_long_beside_short(self) -> None:
        """Ever new short ones have quick turns, and leave a long one its share."""
        throttle, long = Throttle(RATE), Endless()
        throttle.join("a", long, 0)
        short = [Endless(FIRST_TURN_BYTES) for _ in range(10)]
        done = 0
        for tick in range(3000):
            for number, flow in enumerate(short):
                if not flow.left or not tick:
                    done += not flow.left
                    throttle.leave("a", flow)
                    short[number] = Endless(FIRST_TURN_BYTES)
                    throttle.join("a", short[number], tick / 100, first=True)
            throttle.serve(tick / 100)
        self.assertApproximates((long.sent + done * FIRST_TURN_BYTES) / 30, RATE, RATE * 0.02)
        self.assertGreater(long.sent, done * FIRST_TURN_BYTES)

    def test_in_its_turn(self) -> None:
        """What the end of one sets off, still in its turn, is charged and served as ever."""
        for rate in (0, RATE):
            throttle, other = Throttle(rate), Endless(3 * UNLIMITED_TURN_BYTES)

            throttle.join("b", other, 0)
            for _ in range(3):
                throttle.join("a", Last(throttle), 0, first=True)
            before = throttle.sent
            run(throttle, 0, 30)
            self.assertEqual(
                (other.left, throttle.sent - before), (0, 3 * UNLIMITED_TURN_BYTES + 3 + 1200)
            )
            self.assertEqual(len(throttle), 0)

    def test_rate_changes(self) -> None:
        """From one moment to the next."""
        throttle, flow = Throttle(RATE), Endless()
        throttle.join("a", flow, 0)
        run(throttle, 0, 10)
        now = 10.0
        for rate in (RATE // 10, 10, RATE * 10, RATE):
            before, seconds = flow.sent, 2000.0 if rate < 1000 else 100.0
            throttle.change(rate, 0, now)
            run(throttle, now, seconds)
            now += seconds
            self.assertApproximates(
                flow.sent - before, rate * seconds, rate * seconds * 0.01 + MAX_TURN_BYTES
            )
        throttle.change(0, RATE, now)
        before = flow.sent
        run(throttle, now, 100)
        self.assertApproximates(flow.sent - before, RATE * 100, RATE)

    def test_first_turn(self) -> None:
        """A new transfer does not wait for those that are there."""
        throttle, flows = Throttle(RATE), [Endless() for _ in range(16)]
        for flow in flows:
            throttle.join("a", flow, 0)
        run(throttle, 0, 10)
        new = Endless()
        throttle.join("a", new, 10, first=True)
        run(throttle, 10, 0.1, step=0.001)
        self.assertEqual(new.sent, FIRST_TURN_BYTES)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**32), st.integers(1, 20), st.sampled_from([10_000, RATE, 5_000_000]))
    def test_bound(self, seed: int, count: int, rate: int) -> None:
        """In any window: at most rate x time, one quantum, and the lateness made up."""
        dice, throttle = random.Random(seed), Throttle(rate)
        flows = [Endless() for _ in range(count)]
        now, marks, inside = 0.0, [], [False] * count
        for _ in range(300):
            now += dice.choice((0.0, 0.001, 0.01, 0.1, 0.5))
            which = dice.randrange(count)
            if inside[which]:
                throttle.leave("a", flows[which])
            else:
                throttle.join("a", flows[which], now)
            inside[which] = not inside[which]
            throttle.serve(now)
            marks.append((now, sum(flow.sent for flow in flows)))
        for then, before in dice.sample(marks, 40):
            for later, after in marks:
                if later >= then:
                    self.assertLessEqual(
                        after - before, rate * (later - then + 0.25) + MAX_TURN_BYTES
                    )
