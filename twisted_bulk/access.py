"""The access log: one JSON object a line for each answer of both ports."""

import os
import sys
from datetime import UTC, datetime
from typing import IO, Any

import msgspec
from twisted.application.service import Service
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

AREA = "access"  # the namespace of the events
LOOK = 1.0  # seconds after which it is seen that the file was moved away
FIELDS = (
    "port", "client", "method", "path", "status", "bytes", "seconds", "whole", "range", "agent",
    "referer", "code",
)  # fmt: skip


@implementer(ILogObserver)
class AccessLog(Service):
    """Writes the events of its area to a file, which others may move away at any time.

    :param path: where; ``-`` is the standard output
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._looked = 0.0
        self._open()

    def startService(self) -> None:
        super().startService()
        globalLogPublisher.addObserver(self)

    def stopService(self) -> None:
        super().stopService()
        globalLogPublisher.removeObserver(self)

    def _open(self) -> None:
        if self._path == "-":
            self._file = sys.stdout
        else:
            self._file = open(self._path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115

    def _is_there(self) -> bool:
        assert self._file is not None
        if self._path == "-":
            return True
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_namespace") != AREA or "status" not in event:
            return
        at = event["log_time"]
        if abs(at - self._looked) >= LOOK:
            self._looked = at
            if not self._is_there():
                before = self._file
                self._open()
                assert before is not None
                before.close()
        line: dict[str, Any] = {"time": datetime.fromtimestamp(at, UTC)}
        line |= {name: event[name] for name in FIELDS if event.get(name) not in (None, "")}
        assert self._file is not None
        self._file.write(msgspec.json.encode(line).decode() + "\n")
        if self._path == "-":
            self._file.flush()
