"""``--workers``: further processes of this node, started, kept, and ended with it.

Each is ``twistd bulkwav`` in the role of a worker, with this node's settings in its environment.
The processes of :mod:`twisted_bulk.node.quarantine` are started in the same way.
Its standard input is its lifeline: when that ends, for whatever reason, it stops as it does at
SIGTERM, so it does not outlive the node, also not a ``kill -9``.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
from twisted.application.service import Service
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger, LogLevel, globalLogPublisher
from twisted.python.failure import Failure

log = Logger()

BACKOFF = (0.1, 1.0, 2.0, 5.0, 10.0)  # seconds before a process that ended is started again
LONGEST = 1 << 20  # bytes of a line of a child
LASTED = 30.0  # seconds after which an end is not counted as one more failure
KILL_AFTER = 15.0  # seconds more than its drain that a process may take to stop
RUN = "from twisted.scripts.twistd import run; run()"


class Lines:
    """What a child says on one of its outputs, a line at a time, into our log.

    A line of its log is JSON: it keeps its time, its level, its area and its fields. Whatever else
    it says, such as Python's last words, is a line of ``level``.

    :param name: of the child; ours begin with it
    """

    def __init__(self, name: str, level: Any = LogLevel.info) -> None:
        self._name = name
        self._level = level
        self._rest = b""

    def add(self, data: bytes) -> None:
        """Take a piece; lines end where they like."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._pass_on(line)
        while len(self._rest) > LONGEST:
            self._pass_on(self._rest[:LONGEST])
            self._rest = self._rest[LONGEST:]

    def end(self) -> None:
        """What has no end of line is all that comes."""
        rest, self._rest = self._rest, b""
        if rest:
            self._pass_on(rest)

    def _pass_on(self, line: bytes) -> None:
        try:
            said = msgspec.json.decode(line, type=_Line)
            more = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            text = line.decode("utf-8", "replace")
            if text.strip():
                log.emit(self._level, "{child}: {text}", child=self._name, text=text)
            return
        for name in ("time", "level", "message"):
            del more[name]
        level = LogLevel.lookupByName(said.level)
        more |= {"log_level": level, "log_time": said.time.timestamp(), "log_namespace": __name__}
        more |= {"log_format": "{child}: {text}", "child": self._name, "text": said.message}
        globalLogPublisher(more)


class _Line(msgspec.Struct):
    """What every line of a log has."""

    time: datetime
    level: Literal["debug", "info", "warn", "error", "critical"]
    message: str


class Child(ProcessProtocol):
    """One child: its log goes into ours.

    :param name: what its lines in our log begin with
    """

    def __init__(self, name: str) -> None:
        self.ended: Deferred[str] = Deferred()
        self._out, self._err = Lines(name), Lines(name, LogLevel.error)

    def spawn(self, reactor: Any, settings: Mapping[str, str]) -> None:
        """Start it; ``ended`` fires with how it ended, also where it could not be started.

        :param settings: its own, as ``BULKWAV_...``
        """
        words = [sys.executable, "-c", RUN, "-n", "--pidfile=", "bulkwav"]
        # What is ours in the environment was read, and is in the settings.
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith("BULKWAV_")
        }
        try:
            reactor.spawnProcess(self, sys.executable, words, env=kept | dict(settings))
        except OSError as error:  # no processes left: it may pass
            self.ended.callback(str(error))

    @property
    def pid(self) -> int:
        """Its process id, or 0 when it has ended."""
        return getattr(self.transport, "pid", None) or 0

    def stop(self) -> None:
        """Have it stop as it does at SIGTERM."""
        if self.transport is not None:
            self.transport.closeStdin()

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self.transport is not None and self.pid:
            self.transport.signalProcess("KILL")

    def outReceived(self, data: bytes) -> None:
        self._out.add(data)

    def errReceived(self, data: bytes) -> None:
        self._err.add(data)

    def processEnded(self, reason: Failure) -> None:
        for lines in (self._out, self._err):
            lines.end()

    def processExited(self, reason: Failure) -> None:
        # Not when its pipes are closed: a process that it started may hold them.
        self.ended.callback(reason.getErrorMessage())


class WorkerProcesses(Service):
    """Keeps ``count`` worker processes.

    :param environment: the settings that a child gets, as ``BULKWAV_...``; asked at each start
    :param drain: seconds that a child takes to stop, at most
    """

    def __init__(
        self, reactor: Any, count: int, environment: Callable[[], Mapping[str, str]], drain: float
    ) -> None:
        self._reactor = reactor
        self._count = count
        self._environment = environment
        self._drain = drain
        self._processes: dict[int, Child] = {}
        self._pauses: dict[int, IDelayedCall] = {}

    def startService(self) -> None:
        super().startService()
        for number in range(1, self._count + 1):
            self._spawn(number, 0)

    def warn(self) -> None:
        """Tell all to stop; :meth:`stopService` waits for them."""
        self.running = 0
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()
        for process in self._processes.values():
            process.stop()

    def stopService(self) -> Deferred[None]:
        self.warn()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        def kill() -> None:
            for process in self._processes.values():
                process.kill()

        timer = self._reactor.callLater(self._drain + KILL_AFTER, kill)
        await DeferredList([process.ended for process in self._processes.values()])
        if timer.active():
            timer.cancel()

    def _spawn(self, number: int, failures: int) -> None:
        self._pauses.pop(number, None)
        process = self._processes[number] = Child(f"worker {number}")
        began = self._reactor.seconds()

        def ended(how: str) -> None:
            del self._processes[number]
            if not self.running:
                return
            again = 0 if self._reactor.seconds() - began > LASTED else failures + 1
            delay = BACKOFF[min(again, len(BACKOFF) - 1)]
            log.error("worker {n} ended ({how}); again in {s} s", n=number, how=how, s=delay)
            self._pauses[number] = self._reactor.callLater(delay, self._spawn, number, again)

        process.ended.addCallback(ended)
        process.spawn(self._reactor, self._environment())


class Lifeline(FileDescriptor):
    """Stops the reactor once standard input ends."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self._reactor = reactor
        self.startReading()

    def fileno(self) -> int:
        return 0

    def doRead(self) -> Failure | None:
        """Read and forget."""
        if not os.read(0, 4096):
            self._end()
        return None

    def _end(self) -> None:
        self.stopReading()
        with contextlib.suppress(ReactorNotRunning):  # it stops already
            self._reactor.stop()

    def connectionLost(self, reason: Failure) -> None:
        """Standard input broke."""
        super().connectionLost(reason)
        self._end()
