"""Real child processes."""

import sys
from typing import Any

from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.support.processes import alive
from tests.support.reactor import reactor
from twisted_bulk.system.child_process import ChildProcess


class Child(ChildProcess):
    """Keeps what it prints."""

    def __init__(self) -> None:
        super().__init__()
        self.printed = b""

    def outReceived(self, data: bytes) -> None:
        self.printed += data

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(reason.getErrorMessage())


class ChildProcessTests(TestCase):
    """How they start and end."""

    timeout = 20

    async def test_words_and_environment(self) -> None:
        """It is this Python, with the words and the environment that it was given."""
        child = Child()
        code = "import os, sys; print(sys.executable, sys.argv[1:], os.environ['A'])"
        child.start(reactor, ["-c", code, "x"], {"A": "b"})
        self.assertTrue(alive(child.pid))
        await child.ended
        self.assertEqual(child.printed.decode().split(), [sys.executable, "['x']", "b"])
        self.assertEqual(child.pid, 0)

    async def test_kill(self) -> None:
        """It ends at once; killing it before its start and after its end does nothing."""
        child = Child()
        child.kill()
        child.start(reactor, ["-c", "import time; time.sleep(60)"])
        pid: Any = child.pid
        child.kill()
        self.assertIn("signal 9", await child.ended)
        self.assertFalse(alive(pid))
        child.kill()
