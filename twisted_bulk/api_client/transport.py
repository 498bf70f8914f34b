"""How requests are sent, as the calls see it. One transport blocks, the other has a reactor."""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Protocol, TypeVar

_T = TypeVar("_T")


class Answer(Protocol):
    """An answer whose body has not been read yet; it is read whole, or in pieces, or closed."""

    status: int

    def header(self, name: str) -> str:
        """The value of a header, or empty."""

    async def read(self, most: int) -> bytes:
        """The whole body.

        :param most: bytes that it may have
        :raises NotBulkwav: it has more
        :raises Unreachable: the connection broke
        """

    def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body, piece by piece, as it comes.

        :raises Unreachable: the connection broke, or nothing came for the transport's time-out
        """

    def close(self) -> None:
        """End the connection if the body has not been read."""


class Transport(Protocol):
    """Sends requests."""

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        """Send one request; returns when the headers of its answer are there.

        Redirects are not followed.

        :raises Unreachable: there is no answer
        """

    async def run(self, action: Callable[[], _T]) -> _T:
        """Do work that blocks, where it keeps nobody waiting."""

    async def pause(self, seconds: float) -> None:
        """Wait."""

    def now(self) -> float:
        """Seconds on a clock that nobody sets."""
