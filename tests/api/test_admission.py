"""The rate of requests that a client may have."""

from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.api.admission import MAX_CLIENTS, RequestRate


class QuotaTests(SynchronousTestCase):
    """Requests a second, with time as an argument."""

    def test_rate(self) -> None:
        """So many at once, and then so many a second; each client has its own."""
        quota, allowed = RequestRate(10), 0
        for tick in range(3000):
            allowed += not quota.wait("a", tick / 100)
        self.assertApproximates(allowed, 10 * 30 + 10, 1)
        self.assertEqual(quota.wait("b", 30), 0)
        while not quota.wait("a", 30):
            allowed += 1
        self.assertApproximates(allowed, 10 * 30 + 10, 1)
        self.assertTrue(0 < quota.wait("a", 30) < 0.1001)

    def test_forgotten(self) -> None:
        """Who has not asked for a while takes no memory; nobody gains by that."""
        quota = RequestRate(1000)
        for number in range(MAX_CLIENTS * 2):
            self.assertEqual(quota.wait(f"{number}", number), 0)
        self.assertLessEqual(len(quota), MAX_CLIENTS)

    def test_no_limit(self) -> None:
        """0 is any number."""
        quota = RequestRate(0)
        self.assertEqual({quota.wait("a", 0) for _ in range(1000)}, {0.0})
