"""Hosts that callbacks go to, with time as an argument."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.notify.receivers import (
    FIRST_PAUSE,
    LAST_PAUSE,
    MAX_FAILURES,
    MAX_HOSTS,
    MAX_PER_HOST,
    MAX_TO_FAILING,
    MIN_PER_PROCESS,
    Receivers,
)


class ReceiverTests(SynchronousTestCase):
    """One host in trouble, and the others."""

    def setUp(self) -> None:
        self.all = Receivers()

    def fail(self, host: str, times: int, now: float = 0) -> None:  # type: ignore[override]
        for _ in range(times):
            self.all.begin(host)
            self.all.end(host, now, answered=False)

    def test_at_once(self) -> None:
        """So many to one host; one place is kept for last callbacks."""
        for _ in range(MAX_PER_HOST - 1):
            self.assertTrue(self.all.allows_progress("a", 0))
            self.all.begin("a")
        self.assertFalse(self.all.allows_progress("a", 0))
        self.assertTrue(self.all.allows_last("a"))
        self.all.begin("a")
        self.assertFalse(self.all.allows_last("a"))
        self.assertTrue(self.all.allows_progress("b", 0))

    def test_processes(self) -> None:
        """The processes of a node share the places, as far as each needs two."""
        self.assertEqual(
            [Receivers(n).most for n in (1, 2, 3, 9)],
            [MAX_PER_HOST, MAX_PER_HOST // 2, MIN_PER_PROCESS, MIN_PER_PROCESS],
        )

    def test_many_that_fail(self) -> None:
        """Hosts that fail have so many places together; for the others there are always some."""
        hosts = [f"h{n}" for n in range(MAX_TO_FAILING)]
        for host in hosts:
            self.fail(host, 1)
        for host in hosts:
            self.assertTrue(self.all.allows_last(host))
            self.all.begin(host)
        self.assertFalse(self.all.allows_last("h0"))
        self.assertTrue(self.all.allows_last("new"))
        self.all.begin("new")
        self.all.end("new", 0, answered=True)
        self.assertFalse(self.all.allows_last("h0"))
        self.all.end("h1", 0, answered=None)
        self.assertTrue(self.all.allows_last("h0"))
        self.all.end("h2", 7, answered=True)
        self.assertEqual([self.all.away(host, 9) for host in ("h2", "h3", "new")], [0, 9, 0])

    def test_breaker(self) -> None:
        """After some failures nothing for a while, then one at a time, less and less often."""
        self.fail("a", MAX_FAILURES - 1)
        self.assertTrue(self.all.allows_progress("a", 0))
        self.fail("a", 1)
        now = 0.0
        for pause in (FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE):
            self.assertFalse(self.all.allows_progress("a", now + pause - 0.1))
            self.assertTrue(self.all.allows_last("a"))
            now += pause
            self.assertTrue(self.all.allows_progress("a", now))
            self.all.begin("a")
            self.assertFalse(self.all.allows_progress("a", now))
            self.all.end("a", now, answered=False)
        self.fail("a", 50, now)
        self.assertTrue(self.all.allows_progress("a", now + LAST_PAUSE))
        self.all.begin("a")
        self.all.end("a", now, answered=True)
        self.assertTrue(self.all.allows_progress("a", now))

    def test_nothing_learnt(self) -> None:
        """What was never sent says nothing of the host."""
        self.fail("a", MAX_FAILURES)
        self.all.begin("a")
        self.all.end("a", FIRST_PAUSE, answered=None)
        self.assertTrue(self.all.allows_progress("a", FIRST_PAUSE))

    def test_memory(self) -> None:
        """Hosts in order are forgotten at once, of the others so many are remembered."""
        self.all.begin("a")
        self.all.end("a", 0, answered=True)
        self.assertEqual(len(self.all), 0)
        for number in range(MAX_HOSTS + 10):
            self.fail(f"{number}", 1)
        self.assertEqual(len(self.all), MAX_HOSTS)

    @settings(max_examples=200)
    @given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["ok", "fail", "nothing"]))))
    def test_any_course(self, steps: list[tuple[float, str]]) -> None:
        """A host in trouble is probed within the longest pause, and never two at a time; one that
        fails now and then is never given up."""
        now, row, going = 0.0, 0, 0
        for wait, how in steps:
            now += wait
            if self.all.allows_progress("a", now):
                self.all.begin("a")
                going += 1
                self.assertLessEqual(going, 1 if row >= MAX_FAILURES else MAX_PER_HOST)
            else:
                self.assertTrue(row >= MAX_FAILURES or going >= MAX_PER_HOST - 1)
            if going:
                answered = {"ok": True, "fail": False, "nothing": None}[how]
                self.all.end("a", now, answered)
                going -= 1
                row = {True: 0, False: row + 1, None: row}[answered]
            self.assertTrue(self.all.allows_progress("a", now + LAST_PAUSE) or going)
        for _ in range(going):
            self.all.end("a", now, answered=True)
        self.setUp()
