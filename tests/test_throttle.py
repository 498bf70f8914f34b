"""The rate per address, with time as an argument."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.throttle import DEBT, LEAST, MOST, Throttle, Ticker, key_of

RATE = 200_000


class Endless:
    """A transfer whose client takes everything, or nothing while it is stuck."""

    def __init__(self, left: int = 1 << 60) -> None:
        self.sent = 0
        self.left = left

    def send(self, most: int) -> int:
        count = min(most, self.left)
        self.sent += count
        self.left -= count
        return count


def run(throttle: Throttle, start: float, seconds: float, step: float = 0.01) -> None:
    """Serve for a while, every ``step``."""
    ticks = round(seconds / step)
    for tick in range(ticks + 1):
        throttle.serve(start + tick * step)


class RateTests(SynchronousTestCase):
    """How much goes out."""

    def test_one(self) -> None:
        """One transfer gets the rate, from the first second on."""
        throttle, flow = Throttle(RATE), Endless()
        throttle.join("a", flow, 0)
        run(throttle, 0, 1)
        self.assertApproximates(flow.sent, RATE, MOST)
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
        self.assertLessEqual(max(sent) - min(sent), 2 * LEAST)

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
            now += throttle.wait("a", now) + 0.0001
            throttle.charge("a", 500, now)
            throttle.serve(now)
            total += 500
        self.assertLessEqual(total, RATE * (30 + DEBT) + 500)
        self.assertGreater(total, RATE * 29)

    def test_lateness(self) -> None:
        """A reactor that is held up makes up for it and gives no credit."""
        throttle, flow = Throttle(RATE), Endless()
        throttle.join("a", flow, 0)
        run(throttle, 0, 30, step=0.15)
        self.assertApproximates(flow.sent / 30, RATE, RATE * 0.005)
        before = flow.sent
        run(throttle, 100, 1)
        self.assertLessEqual(flow.sent - before, RATE * 1.3 + MOST)

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
        """Rate 0: everything at once, until the client is full."""
        throttle = Throttle(0)

        class Full(Endless):
            def send(self, most: int) -> int:
                if self.sent > 100_000:
                    throttle.leave("a", self)
                    return 0
                return super().send(most)

        flow = Full()
        throttle.join("a", flow, 0)
        throttle.serve(0)
        self.assertGreater(flow.sent, 100_000)
        throttle.charge("a", 10**9, 0)
        self.assertEqual(throttle.wait("a", 0), 0)

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
                    self.assertLessEqual(after - before, rate * (later - then + 0.25) + MOST)


class TickerTests(SynchronousTestCase):
    """The same with a clock that is not asked all the time."""

    def test_rate(self) -> None:
        """The ticker wakes up when something is due, and only then."""
        clock = Clock()
        ticker, flow = Ticker(Throttle(RATE), clock), Endless()
        ticker.join("a", flow)
        for _ in range(10_000):
            clock.advance(0.001)
        self.assertApproximates(flow.sent / 10, RATE, RATE * 0.005)
        ticker.leave("a", flow)
        clock.advance(1)
        self.assertEqual(clock.getDelayedCalls(), [])


class KeyTests(SynchronousTestCase):
    """Whom an address stands for."""

    def test_keys(self) -> None:
        """IPv4 alone, IPv6 by /64, one client whatever the spelling."""
        self.assertEqual(key_of("1.2.3.4"), key_of("::ffff:1.2.3.4"))
        self.assertEqual(key_of("2001:db8::1"), key_of("2001:db8:0:0:ffff::2"))
        self.assertNotEqual(key_of("2001:db8::1"), key_of("2001:db8:0:1::1"))
        self.assertEqual(key_of("fe80::1%eth0"), key_of("fe80::2"))
        self.assertEqual(key_of(""), "")
