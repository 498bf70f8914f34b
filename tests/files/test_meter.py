"""The speed of an address."""

from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.files.meter import AVERAGE_SECONDS, Meter


class MeterTests(SynchronousTestCase):
    """Bytes that are noted in a time of the test."""

    def test_steady(self) -> None:
        """At a steady rate it tells that rate, after a while."""
        meter = Meter(0.0)
        for n in range(1000):
            meter.note(2000, n * 0.01)
        self.assertApproximates(meter.speed(10.0), 200_000 * 0.865, 1000)
        for n in range(1000, 6000):
            meter.note(2000, n * 0.01)
        self.assertApproximates(meter.speed(60.0), 200_000, 500)

    def test_forgets(self) -> None:
        """Without bytes it falls to nothing, whether it is asked often or once."""
        often, once = Meter(0.0), Meter(0.0)
        for meter in (often, once):
            meter.note(1_000_000, 0.0)
        for n in range(100):
            often.note(0, n * 0.5)
        self.assertAlmostEqual(often.speed(50.0), once.speed(50.0))
        self.assertLess(once.speed(10 * AVERAGE_SECONDS), 10)
