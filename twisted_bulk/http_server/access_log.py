"""The access log: a line with a JSON object for each answer of both ports."""

from datetime import UTC, datetime
from typing import Any

from twisted.application.service import Service
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from twisted_bulk.system.logs import LogFile, clean, encode

AREA = "access"  # the logger whose events it writes
#: The fields of a line, as far as the event has them.
FIELDS = (
    "port", "client", "method", "path", "status", "bytes", "seconds", "whole", "range", "agent",
    "referer", "code",
)  # fmt: skip


@implementer(ILogObserver)
class AccessLog(Service):
    """Writes the events of :data:`AREA` to a file. Twisted calls it for each event.

    :param path: of the file; ``-`` is the standard output
    """

    def __init__(self, path: str) -> None:
        self.file = LogFile(path)

    def startService(self) -> None:
        super().startService()
        globalLogPublisher.addObserver(self)

    def stopService(self) -> None:
        super().stopService()
        globalLogPublisher.removeObserver(self)

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_namespace") != AREA or "status" not in event:
            return
        at = event["log_time"]
        line: dict[str, Any] = {"time": datetime.fromtimestamp(at, UTC)}
        for name in FIELDS:
            value = event.get(name)
            if value not in (None, ""):
                line[name] = clean(value) if isinstance(value, str) else value
        self.file.write(encode(line), at)
