"""One server-sent event. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

#: The name of an event that says: changes may be missing before it, read all batches anew.
FULL = "full"
RETRY_MS = 3000  # after which a client that lost its stream opens it again


@dataclass(frozen=True)
class Event:
    """A change of a batch.

    :param number: of the change; of two changes the later one has the higher number
    :param name: ``batch``, with the batch as it stands; ``deleted`` or ``left`` (it does not match
        the client's filter), with its ``task_id``; or :data:`FULL`
    :param data: JSON without line ends
    :param last: nothing follows it
    :param key: of the batch
    :param owner: name of the token that submitted it, or empty
    :param shown: of an event ``batch``: what ``data`` has
    """

    number: int
    name: str
    data: bytes
    last: bool = False
    key: str = ""
    owner: str = ""
    shown: Mapping[str, Any] | None = None

    @cached_property
    def encoded(self) -> bytes:
        """As it is sent (HTML standard, 9.2.5). It is made once, however many listen."""
        head = f"id: {self.number}\nevent: {self.name}\ndata: ".encode()
        return head + self.data + b"\n\n"

    @cached_property
    def left(self) -> "Event":
        """The event for those whose filter the batch does not match."""
        task_id = self.shown["task_id"] if self.shown else ""
        data = json.dumps({"task_id": task_id}).encode()
        return Event(self.number, "left", data, key=self.key, owner=self.owner)


def full(number: int) -> Event:
    """Changes up to ``number`` may be missing."""
    return Event(number, FULL, b"{}")


#: The beginning of each stream.
OPENING = f"retry: {RETRY_MS}\n\n".encode()
HEARTBEAT = b":\n\n"  # a comment, which clients ignore
