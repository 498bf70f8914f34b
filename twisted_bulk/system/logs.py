"""The daemon's log: one JSON object a line, or for people on a terminal.

What clients and servers sent is in it: URLs lose their user info and query, links what makes
them unguessable, and no byte of theirs begins a line or moves a terminal's cursor.
"""

import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import IO, Any

import msgspec
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

#: Says every second that it will try again to connect; under its old name and its new one.
NOISE = ("twisted.application.internet", "twisted.application._client_service")
AREAS = {
    "access": ("access", "twisted_bulk.http_server", "twisted_bulk.web", "twisted_bulk.api",
               "twisted_bulk.files", "twisted.web"),
    "download": ("twisted_bulk.download", "twisted_bulk.downloads", "twisted_bulk.http_client",
                 "twisted_bulk.archive", "twisted_bulk.parts"),
    "notify": ("twisted_bulk.notify",),
    "redis": ("twisted_bulk.brokers", "txredisapi", *NOISE),
    "queue": ("twisted_bulk.jobs", "twisted_bulk.consumer", "twisted_bulk.parts.janitor",
              "twisted_bulk.node.worker_processes", "twisted_bulk.node.quarantine"),
}  # fmt: skip
LOOK = 1.0  # seconds after which it is seen that the file was moved away
LONGEST = 20_000  # characters of one text
_AREA = {name: area for area, names in AREAS.items() for name in names}
_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)(?:[^\s/?#\"<>]*@)?([^\s?#\"<>]*)([?#][^\s\"<>]*)?")
_BATCH = re.compile(r"/v1/batches/([^/?]+)")
_JOB = re.compile(r"(.+)@[^/]*/(\d+)")
_UNPRINTABLE = re.compile(r"[\x7f-\x9f\u2028\u2029]")  # that JSON does not escape
_LINK = re.compile(r"(-[0-9a-f]{4})[0-9a-f]{28}(?![0-9a-f])")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class LogFile:
    """A file that others may move away at any time: what follows goes to a new one.

    :param path: where; ``-`` is the standard output
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.looked = 0.0
        self._file = self._open()

    def _open(self) -> IO[str]:
        if self._path == "-":
            return sys.stdout
        return open(self._path, "a", buffering=1, encoding="utf-8", errors="backslashreplace")

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def write(self, line: str, at: float) -> None:
        """Append a line; ``at`` is the time of day."""
        if self._path != "-" and abs(at - self.looked) >= LOOK:
            self.looked = at
            if not self._is_there():
                before, self._file = self._file, self._open()
                before.close()
        self._file.write(line + "\n")
        if self._path == "-":
            self._file.flush()


def clean(text: str) -> str:
    """Without what is secret in URLs, and not endless."""
    if "://" in text:
        text = _URL.sub(lambda m: m[1] + m[2] + ("?..." if m[3] else ""), text)
    text = text[:LONGEST]
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def hide_links(text: str) -> str:
    """Without what makes a link of a finished zip unguessable."""
    return _LINK.sub(r"\1...", text) if "-" in text else text


def _area(namespace: str) -> str:
    """By a module's name, or by that of what it is in."""
    while namespace:
        if namespace in _AREA:
            return _AREA[namespace]
        namespace = namespace.rpartition(".")[0]
    return "daemon"


def _message(event: LogEvent) -> str:
    """What :func:`formatEvent` says, with less work where the format is a plain one."""
    try:
        return str(event["log_format"].format_map(event))
    except Exception:
        return formatEvent(event)


def as_object(event: LogEvent) -> dict[str, Any]:
    """An event as it stands in the log."""
    level = event.get("log_level")
    found: dict[str, Any] = {
        "time": datetime.fromtimestamp(event["log_time"], UTC),
        "level": level.name if level is not None else "info",
        "area": _area(event.get("log_namespace", "")),
        "message": hide_links(clean(_message(event))),
    }
    for name, value in event.items():
        if name.startswith("log_") or name in ("isError", "time", "system", "message", "format"):
            continue
        if isinstance(value, str):
            found[name] = hide_links(clean(value))
        elif isinstance(value, bool | int | float):
            found[name] = value
    job = _JOB.fullmatch(str(event.get("job", "")))
    if job is not None:
        found |= {"batch": job[1], "part": int(job[2])}
    path = _BATCH.match(str(event.get("path", "")))
    if path is not None:
        found.setdefault("batch", path[1])
    failure = event.get("log_failure")
    if failure is not None:
        found["traceback"] = hide_links(clean(failure.getTraceback()))
    return found


def encode(found: dict[str, Any]) -> str:
    """As JSON, in one line that moves no cursor."""
    line = msgspec.json.encode(found).decode()
    return _UNPRINTABLE.sub(lambda m: f"\\u{ord(m[0]):04x}", line)


def as_line(event: LogEvent) -> str:
    """An event as JSON."""
    return encode(as_object(event))


def as_text(event: LogEvent) -> str:
    """For people."""
    found = as_object(event)
    text = "\n".join(filter(None, (found["message"], found.get("traceback"))))
    text = _CONTROL.sub(lambda m: f"\\x{ord(m[0]):02x}", text).replace("\n", "\n    ")
    mark = "" if found["level"] in ("info", "debug") else f" {found['level'].upper()}"
    return f"{found['time'].astimezone():%H:%M:%S} {found['area']}{mark}: {text}"


@implementer(ILogObserver)
class Observer:
    """Writes every event."""

    def __init__(self, file: LogFile, form: Callable[[LogEvent], str]) -> None:
        self._file = file
        self._form = form

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level")
        if event.get("log_namespace", "").startswith(NOISE) and level in (None, LogLevel.info):
            return
        self._file.write(self._form(event), event["log_time"])


_chosen = ("auto", "")


def choose(form: str, path: str) -> str:
    """What :func:`chosen` shall make; returns its name, which is all that twistd takes."""
    global _chosen
    _chosen = (form, path)
    return f"{__name__}.{chosen.__name__}"


def chosen() -> Observer:
    """For ``twistd --logger``."""
    return make_observer(*_chosen)


def make_observer(form: str, path: str) -> Observer:
    """What twistd logs to.

    :param form: ``json``, ``text``, or ``auto``: text on a terminal
    :param path: a file, or nothing or ``-`` for the standard output
    """
    terminal = path in ("", "-") and sys.stdout.isatty()
    text = form == "text" or (form == "auto" and terminal)
    return Observer(LogFile(path or "-"), as_text if text else as_line)
