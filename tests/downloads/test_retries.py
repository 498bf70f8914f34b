"""Whether a failed attempt is repeated, and when."""

from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.downloads.fetch import NO_TRIES, Tries
from twisted_bulk.downloads.retries import (
    EXPIRY_SECONDS,
    MAX_RENEWALS,
    MAX_THROTTLED,
    MAX_WAIT,
    PAUSES,
    count,
    excuse,
    is_expired,
    pause_before_next,
    renew,
)
from twisted_bulk.errors import MemberError

REFUSED = MemberError("connect_failed", "x")
THROTTLED = MemberError("http_throttled", "x")


class RetryTests(SynchronousTestCase):
    """The pauses between attempts."""

    def attempts(self, failed: MemberError, retries: int) -> int:
        """How many attempts are made when all of them fail in one way."""
        tries = NO_TRIES
        while True:
            tries = count(Tries(tries.attempts + 1, tries.throttled), failed)
            if pause_before_next(tries, failed, retries) is None:
                return tries.attempts

    def test_attempts(self) -> None:
        """One more than the retries; "not now" uses up none, up to a limit."""
        self.assertEqual([self.attempts(REFUSED, n) for n in (0, 1, 3)], [1, 2, 4])
        self.assertEqual(self.attempts(THROTTLED, 3), MAX_THROTTLED + 4)
        self.assertEqual(self.attempts(MemberError("bad_url", "x"), 3), 1)

    def test_pauses(self) -> None:
        """They grow, are halved at random, and stay at the last one."""
        for used in range(1, 10):
            pause = pause_before_next(Tries(attempts=used), REFUSED, 20)
            most = PAUSES[min(used, len(PAUSES)) - 1]
            assert pause is not None
            self.assertTrue(most / 2 <= pause <= most, (used, pause))

    def test_excused(self) -> None:
        """Attempts that were no fault of the member's do not count."""
        tries = excuse(excuse(Tries(attempts=3, stale=1)))
        self.assertEqual(tries.excused, 2)
        self.assertIsNotNone(pause_before_next(tries, REFUSED, 1))
        self.assertIsNone(pause_before_next(Tries(attempts=3, stale=1), REFUSED, 1))

    def test_wish(self) -> None:
        """A server's own wish is heard, up to a limit."""
        for wish, pause in ((100.0, 100.0), (1e9, MAX_WAIT)):
            failed = MemberError("http_throttled", "x", retry_after=wish)
            self.assertEqual(pause_before_next(Tries(attempts=1, throttled=1), failed, 3), pause)

    def test_expired(self) -> None:
        """A redirect's URL that had waited is asked for anew, and not for ever."""
        failed, tries = MemberError("http_error", "x", answered=403), NO_TRIES
        self.assertFalse(is_expired(tries, failed, EXPIRY_SECONDS - 1))
        self.assertFalse(is_expired(tries, REFUSED, EXPIRY_SECONDS))
        for _ in range(MAX_RENEWALS):
            self.assertTrue(is_expired(tries, failed, EXPIRY_SECONDS))
            tries = renew(tries)
        self.assertFalse(is_expired(tries, failed, EXPIRY_SECONDS))
        self.assertEqual(tries.excused, MAX_RENEWALS)
