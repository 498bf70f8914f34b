"""The process of ``twistd bulkwav``: how it starts, and how it stops."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_bulk import __version__
from twisted_bulk.errors import ConfigError
from twisted_bulk.system.data_folder import UMASK
from twisted_bulk.system.process import collect_rarely, keep_buffers

log = Logger()


class Daemon(MultiService):
    """All services of a node. They start in their order, and stop one by one in reverse order.

    ``warned``: functions that are called before the first service is stopped. ``busy``: functions
    that return how many jobs are under way, and their name. ``drain``: seconds for which a stop
    waits for them.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self._reactor = reactor
        self.warned: list[Callable[[], object]] = []
        self.busy: list[Callable[[], tuple[int, str]]] = []
        self.drain = 0.0

    def privilegedStartService(self) -> None:
        os.umask(UMASK)  # twistd has set another one
        try:
            super().privilegedStartService()
        except (CannotListenError, ConfigError, OverflowError) as error:
            sys.exit(f"bulkwav: {error}")

    def startService(self) -> None:
        keep_buffers()
        super().startService()
        collect_rarely()
        log.info("bulkwav {version} runs", version=__version__)
        self._reactor.callWhenRunning(self._take_signals)

    def _take_signals(self) -> None:
        # With Twisted's handler the process would end by the signal, and not with status 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, frame: Any) -> None:
        if not self.running:
            os._exit(128 + number)  # the second signal ends it at once
        self._reactor.callFromThread(self._stop_reactor)

    def _stop_reactor(self) -> None:
        with contextlib.suppress(ReactorNotRunning):  # two signals came at once
            self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        waits_for = [f"{count} {name}" for count, name in (busy() for busy in self.busy) if count]
        if waits_for:
            log.info(
                "stopping: up to {s:g} s for {what} to end; another signal ends it at once",
                s=self.drain,
                what=" and ".join(waits_for),
            )
        else:
            log.info("stopping")
        for warn in self.warned:
            warn()
        self.running = 0
        return Deferred.fromCoroutine(self._stop(list(reversed(list(self)))))

    async def _stop(self, services: list[IService]) -> None:
        for part in services:
            try:
                await maybeDeferred(part.stopService)
            except Exception:  # the other services must be stopped, too
                log.failure("stopping {part} failed", part=type(part).__name__)
        log.info("stopped")


class Lifeline(FileDescriptor):
    """Stops the reactor when standard input ends, so that a child does not outlive its parent."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self._reactor = reactor
        self.startReading()

    def fileno(self) -> int:
        return 0

    def doRead(self) -> Failure | None:
        if not os.read(0, 4096):
            self._end()
        return None

    def _end(self) -> None:
        self.stopReading()
        with contextlib.suppress(ReactorNotRunning):  # it is stopping already
            self._reactor.stop()

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        self._end()
