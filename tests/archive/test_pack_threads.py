"""Threads that pack, and how the reactor's thread hears of their results."""

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.archive.pack_threads import PackThreads


class PackerTests(SynchronousTestCase):
    """How the reactor's thread hears of what was done on others."""

    def setUp(self) -> None:
        self.woken: list[Callable[[], None]] = []
        self.threads = PackThreads(SimpleNamespace(callFromThread=self.woken.append), 1)
        self.threads.startService()
        self.addCleanup(self.threads.stopService)
        self.got: list[Any] = []

    def run_to_end(self, *works: Callable[[], Any]) -> None:
        """Until all that is on the thread by then is done."""
        for work in works:
            self.threads.run(work).addBoth(self.got.append)
        self.threads._threads.submit(str).result()

    def test_woken_once(self) -> None:
        """It is woken once for all that ends before it comes to that, and nothing is lost."""
        self.run_to_end(*[partial(int, number) for number in ("0", "1", "x")])
        self.assertEqual((len(self.woken), self.got), (1, []))
        self.woken.pop()()
        self.assertEqual(self.got[:2], [0, 1])
        self.assertIsInstance(self.got[2].value, ValueError)
        self.run_to_end(partial(int, 3))
        self.woken.pop()()
        self.assertEqual((self.got[3:], self.woken), ([3], []))

    def test_stopped(self) -> None:
        """Nothing is begun any more, and that is no error."""
        self.threads.stopService()
        for run in (self.threads.run, self.threads.run_long, self.threads.run_small):
            run(self.got.append, 1)
        self.threads.run_in_turn("owner", 1, self.got.append, 1)
        self.assertEqual((self.got, self.woken), ([], []))

    def test_threads_are_there(self) -> None:
        """No thread has to be begun when there is work: that may fail."""

        def refused(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        self.patch(threading.Thread, "start", refused)
        self.run_to_end(partial(int, 1))
        self.woken.pop()()
        self.assertEqual(self.got, [1])

    def test_too_late_for_this_turn(self) -> None:
        """What ends just as the reactor's thread has told all is told in another turn."""
        late, more = [2], self.run_to_end

        class Results(deque[Any]):
            def __bool__(self) -> bool:
                found = len(self) > 0
                if not found and late:
                    more(late.pop)
                return found

        self.threads._results = Results()
        self.run_to_end(partial(int, 1))
        while self.woken:
            self.woken.pop(0)()
        self.assertEqual(self.got, [1, 2])
