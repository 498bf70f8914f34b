"""One server-sent event. Pure."""

from dataclasses import dataclass
from functools import cached_property

RETRY_MS = 3000  # after which a client that lost its stream opens it again


@dataclass(frozen=True)
class Event:
    """A change of a batch.

    :param number: of the change; of two changes the later one has the higher number
    :param name: ``batch``, with the batch as it stands; or ``deleted``, with its ``task_id``
    :param data: JSON without line ends
    :param last: nothing follows it
    """

    number: int
    name: str
    data: bytes
    last: bool = False

    @cached_property
    def encoded(self) -> bytes:
        """As it is sent (HTML standard, 9.2.5). It is made once, however many listen."""
        head = f"id: {self.number}\nevent: {self.name}\ndata: ".encode()
        return head + self.data + b"\n\n"


#: The beginning of each stream.
OPENING = f"retry: {RETRY_MS}\n\n".encode()
HEARTBEAT = b":\n\n"  # a comment, which clients ignore
