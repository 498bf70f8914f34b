"""The daemon's log: one JSON object in each line, or text on a terminal.

The log has texts that clients and servers sent. URLs lose their user info and their query, links
lose the part that makes them unguessable, and control characters are escaped.
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

#: Loggers whose lines below a warning are left out: each second a line about a connection.
NOISE = ("twisted.application.internet", "twisted.application._client_service")
#: The field ``area`` of a log line: an area, and the loggers that belong to it. A logger that is
#: not here belongs to the area of the package that it is in, or to ``daemon``.
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
LOOK_SECONDS = 1.0  # between two looks at whether the file was moved away
MAX_TEXT_LENGTH = 20_000  # characters of one text; a longer one is cut
_AREA = {name: area for area, names in AREAS.items() for name in names}
_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)(?:[^\s/?#\"<>]*@)?([^\s?#\"<>]*)([?#][^\s\"<>]*)?")
_BATCH = re.compile(r"/v1/batches/([^/?]+)")
_JOB = re.compile(r"(.+)@[^/]*/(\d+)")
_UNPRINTABLE = re.compile(r"[\x7f-\x9f\u2028\u2029]")  # JSON does not escape them
_LINK = re.compile(r"(-[0-9a-f]{4})[0-9a-f]{28}(?![0-9a-f])")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class LogFile:
    """A log file. When another program moves it away, a new file is opened.

    :param path: of the file; ``-`` is ``standard``
    :param standard: None: the standard output
    """

    def __init__(self, path: str, standard: IO[str] | None = None) -> None:
        self._path = path
        self._standard = standard
        self.looked = 0.0
        self._file = self._open()

    def _open(self) -> IO[str]:
        if self._path == "-":
            return self._standard or sys.stdout
        return open(self._path, "a", buffering=1, encoding="utf-8", errors="backslashreplace")

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def write(self, line: str, at: float) -> None:
        """Append a line; ``at``: the time in seconds since 1970."""
        if self._path != "-" and abs(at - self.looked) >= LOOK_SECONDS:
            self.looked = at
            if not self._is_there():
                before, self._file = self._file, self._open()
                before.close()
        self._file.write(line + "\n")
        if self._path == "-":
            self._file.flush()


def clean(text: str) -> str:
    """``text`` without user info and query of URLs, at most :data:`MAX_TEXT_LENGTH` long."""
    if "://" in text:
        text = _URL.sub(lambda m: m[1] + m[2] + ("?..." if m[3] else ""), text)
    text = text[:MAX_TEXT_LENGTH]
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def hide_links(text: str) -> str:
    """``text`` without the random digits in links of finished zips."""
    return _LINK.sub(r"\1...", text) if "-" in text else text


def _area(namespace: str) -> str:
    """The area of a logger: by its name, or by that of a package that it is in."""
    while namespace:
        if namespace in _AREA:
            return _AREA[namespace]
        namespace = namespace.rpartition(".")[0]
    return "daemon"


def _message(event: LogEvent) -> str:
    """The text of :func:`formatEvent`, in less time for a simple format."""
    try:
        return str(event["log_format"].format_map(event))
    except Exception:
        return formatEvent(event)


def as_object(event: LogEvent) -> dict[str, Any]:
    """The fields of a log line."""
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
    """The fields as JSON in one line, without control characters."""
    line = msgspec.json.encode(found).decode()
    return _UNPRINTABLE.sub(lambda m: f"\\u{ord(m[0]):04x}", line)


def as_line(event: LogEvent) -> str:
    """The line of an event, as JSON."""
    return encode(as_object(event))


def as_text(event: LogEvent) -> str:
    """The line of an event, as text."""
    found = as_object(event)
    text = "\n".join(filter(None, (found["message"], found.get("traceback"))))
    text = _CONTROL.sub(lambda m: f"\\x{ord(m[0]):02x}", text).replace("\n", "\n    ")
    mark = "" if found["level"] in ("info", "debug") else f" {found['level'].upper()}"
    return f"{found['time'].astimezone():%H:%M:%S} {found['area']}{mark}: {text}"


@implementer(ILogObserver)
class Observer:
    """Writes every event to a file. Twisted calls it."""

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
    """Set the parameters of :func:`chosen`; returns its name, which twistd takes as --logger."""
    global _chosen
    _chosen = (form, path)
    return f"{__name__}.{chosen.__name__}"


def chosen() -> Observer:
    """The observer with the parameters of :func:`choose`; twistd calls this."""
    return make_observer(*_chosen)


def make_observer(form: str, path: str) -> Observer:
    """An observer that writes all events.

    :param form: ``json``, ``text``, or ``auto``: text on a terminal
    :param path: of a file; empty or ``-`` is the standard output
    """
    terminal = path in ("", "-") and sys.stdout.isatty()
    text = form == "text" or (form == "auto" and terminal)
    return Observer(LogFile(path or "-"), as_text if text else as_line)
