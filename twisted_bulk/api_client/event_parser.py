"""Reads server-sent events (HTML standard, 9.2). Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from twisted_bulk.api_client.failures import NotBulkwav

MAX_EVENT_BYTES = 64 << 20  # of one event; a batch with a million members in 100 parts has far less


@dataclass(frozen=True)
class ServerEvent:
    """One event.

    :param kind: its name; ``message`` where it has none
    """

    id: str
    kind: str
    data: str


class EventParser:
    """Takes the bytes of a stream as they come, and gives the events that are whole."""

    def __init__(self) -> None:
        self._rest = b""
        self._id = ""
        self._kind = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[ServerEvent]:
        """The events that end in ``data``.

        :raises NotBulkwav: an event is larger than any of bulkwav's
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._size += len(data)
        if self._size > MAX_EVENT_BYTES:
            raise NotBulkwav("an event of the stream is too large")
        for line in lines:
            event = self._line(line.removesuffix(b"\r").decode("utf-8", "replace"))
            if event is not None:
                self._size = len(self._rest)
                yield event

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            found = ServerEvent(self._id, self._kind or "message", "\n".join(self._data))
            has_data, self._kind, self._data = bool(self._data), "", []
            return found if has_data else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id":
            self._id = value
        elif not name and not self._data:  # a comment, which keeps the connection open
            self._size = len(self._rest)
        return None
