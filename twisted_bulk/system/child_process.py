"""A Python process that this process has started."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol


class ChildProcess(ProcessProtocol):
    """One child process.

    ``ended``: the subclass fires it when the process has ended, with a text that says how.
    """

    def __init__(self) -> None:
        self.ended: Deferred[str] = Deferred()

    def start(
        self,
        reactor: Any,
        words: Sequence[str],
        environment: Mapping[str, str] | None = None,
        descriptors: Mapping[int, Any] | None = None,
    ) -> None:
        """Start this Python with the arguments ``words``.

        :param environment: of the child; None: this process's own
        :param descriptors: as ``childFDs`` of ``spawnProcess``; None: three pipes
        :raises OSError: no process can be made now
        """
        words = [sys.executable, *words]
        reactor.spawnProcess(self, sys.executable, words, environment, childFDs=descriptors)

    @property
    def pid(self) -> int:
        """The process id; 0 before its start and after its end."""
        return getattr(self.transport, "pid", None) or 0

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self.transport is not None and self.pid:
            self.transport.signalProcess("KILL")
