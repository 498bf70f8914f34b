"""``--workers``: further processes of this node, which are started again when they end.

Each is ``twistd bulkwav`` in the role of a worker, with this node's settings in its environment.
The processes of :mod:`twisted_bulk.node.quarantine` are started in the same way. A child stops when
its standard input ends (see :class:`~twisted_bulk.node.daemon.Lifeline`). So it ends with the node,
also after a ``kill -9``.
"""

import os
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, LogLevel, globalLogPublisher
from twisted.python.failure import Failure

from twisted_bulk.system.child_process import ChildProcess
from twisted_bulk.system.periodic import pause_after
from twisted_bulk.system.process import RUN_TWISTD

log = Logger()

RESTART_PAUSES = (0.1, 1.0, 2.0, 5.0, 10.0)  # seconds, by the number of failures in a row
MAX_LINE_BYTES = 1 << 20  # of a child's output; a longer line becomes several
HEALTHY_SECONDS = 30.0  # a process that ran for so long has not failed when it ends
KILL_SECONDS = 15.0  # more than its drain that a process may take to stop; then it is killed
RUN = RUN_TWISTD  # the Python code of a child


class Lines:
    """Writes the lines of one output of a child into this process's log.

    A JSON line keeps its time, level, area and fields. Any other line, such as a traceback of
    Python's, is logged with ``level``.

    :param name: of the child; the messages begin with it
    """

    def __init__(self, name: str, level: Any = LogLevel.info) -> None:
        self._name = name
        self._level = level
        self._rest = b""

    def add(self, data: bytes) -> None:
        """Add output; it may end within a line."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._pass_on(line)
        while len(self._rest) > MAX_LINE_BYTES:
            self._pass_on(self._rest[:MAX_LINE_BYTES])
            self._rest = self._rest[MAX_LINE_BYTES:]

    def end(self) -> None:
        """Write the last line, when it has no line end."""
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
    """The fields that each line of a child's log has."""

    time: datetime
    level: Literal["debug", "info", "warn", "error", "critical"]
    message: str


class Child(ChildProcess):
    """A worker process. Its output goes into this process's log.

    ``ended`` fires with a text that says how it ended.

    :param name: its lines in the log begin with it
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._out, self._err = Lines(name), Lines(name, LogLevel.error)

    def spawn(self, reactor: Any, settings: Mapping[str, str]) -> None:
        """Start it. When it cannot be started, ``ended`` fires.

        :param settings: its environment variables ``BULKWAV_...``
        """
        words = ["-c", RUN, "-n", "bulkwav"]
        # The variables of this process are in ``settings`` already.
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("BULKWAV_")
        }
        try:
            self.start(reactor, words, environment | dict(settings))
        except OSError as error:  # there are too many processes; a later start may succeed
            self.ended.callback(str(error))

    def stop(self) -> None:
        """Let it stop as after SIGTERM."""
        if self.transport is not None:
            self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self._out.add(data)

    def errReceived(self, data: bytes) -> None:
        self._err.add(data)

    def processEnded(self, reason: Failure) -> None:
        for lines in (self._out, self._err):
            lines.end()

    def processExited(self, reason: Failure) -> None:
        # Not in processEnded, which waits for its pipes: its own children may hold these open.
        self.ended.callback(reason.getErrorMessage())


async def wait_for_end(reactor: Any, children: Collection[Child], drain: float) -> None:
    """Wait until all children have ended; kill those that take longer than they may.

    :param drain: seconds that they wait for their running work
    """

    def kill() -> None:
        for child in children:
            child.kill()

    timer = reactor.callLater(drain + KILL_SECONDS, kill)
    await DeferredList([child.ended for child in children])
    if timer.active():
        timer.cancel()


class WorkerProcesses(Service):
    """Keeps ``count`` worker processes running.

    :param environment: returns the variables ``BULKWAV_...`` of a child; called at each start
    :param drain: seconds for which a child that stops waits for its running work
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
        """Tell all children to stop; :meth:`stopService` waits for their end."""
        self.running = 0
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()
        for process in self._processes.values():
            process.stop()

    def stopService(self) -> Deferred[None]:
        self.warn()
        children = list(self._processes.values())
        return Deferred.fromCoroutine(wait_for_end(self._reactor, children, self._drain))

    def _spawn(self, number: int, failures: int) -> None:
        self._pauses.pop(number, None)
        process = self._processes[number] = Child(f"worker {number}")
        began = self._reactor.seconds()

        def ended(how: str) -> None:
            del self._processes[number]
            if not self.running:
                return
            again = 0 if self._reactor.seconds() - began > HEALTHY_SECONDS else failures + 1
            delay = pause_after(RESTART_PAUSES, again)
            log.error("worker {n} ended ({how}); again in {s} s", n=number, how=how, s=delay)
            self._pauses[number] = self._reactor.callLater(delay, self._spawn, number, again)

        process.ended.addCallback(ended)
        process.spawn(self._reactor, self._environment())
