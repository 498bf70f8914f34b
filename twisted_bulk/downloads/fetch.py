"""One member on its way: what is asked for, how often it was tried, and how far it has come.

A :class:`Fetch` belongs to the :class:`~twisted_bulk.download.Downloader`, which alone changes it.
Its :class:`Reception` belongs to the attempt that is under way, see ``attempt.py`` and ``body.py``;
others only read it.
"""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import Deferred

from twisted_bulk.batch.expectations import ANYTHING, Expect
from twisted_bulk.batch.model import Member
from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.content import NO_CONTENT, Content
from twisted_bulk.http_client.redirects import Hop
from twisted_bulk.system.urls import host_of

TAIL_BYTES = 64 * 1024  # that are compared before an attempt continues one without a validator


class Sink(Protocol):
    """Takes a member's bytes, of one attempt or of several that continue each other."""

    def write(self, data: bytes) -> "Deferred[None] | None":
        """Take a piece; with a Deferred: no more until it fires."""

    async def finish(self) -> None:
        """All bytes have come. :raises MemberError: they are not what was asked for"""

    def discard(self) -> None:
        """The attempt failed: remove all bytes."""


class Target(Protocol):
    """The place of a member."""

    async def open(self, fetch: "Fetch") -> Sink:
        """A sink for a new attempt; the fetch's ``content`` is known."""

    def ended(self, fetch: "Fetch", error: MemberError | None) -> None:
        """Called once: the member is there, or cannot be had."""


@dataclass
class Partial:
    """The bytes that have come of a member.

    :param validator: for If-Range, so that the next attempt may continue, or empty
    :param mark: without one: by which another version can probably be told, or empty
    :param pieces: with a mark: the last bytes that have come, see :attr:`tail`
    """

    sink: Sink
    validator: str = ""
    mark: str = ""
    pieces: deque[bytes] = field(default_factory=deque)
    kept: int = 0  # bytes in `pieces`

    @property
    def can_continue(self) -> bool:
        """Whether the next attempt may continue."""
        return bool(self.validator or self.kept >= TAIL_BYTES)

    @property
    def tail(self) -> bytes:
        """The last :data:`TAIL_BYTES` that have come, if the attempt has a mark only.

        The next attempt fetches them again, and continues if they are alike.
        """
        return b"".join(self.pieces)[-TAIL_BYTES:]

    def keep(self, data: bytes) -> None:
        """These bytes have come."""
        if self.mark:
            self.pieces.append(data[-TAIL_BYTES:])
            self.kept += len(self.pieces[-1])
            while self.kept - len(self.pieces[0]) >= TAIL_BYTES:
                self.kept -= len(self.pieces.popleft())


@dataclass(eq=False, slots=True)
class Reception:
    """How far a member has come; times are on the reactor's clock.

    :param received: bytes, of all attempts that continue each other
    :param verified: its end was certain, or its checksum was right
    :param finishing: all bytes have come, and the sink puts them into the archive
    :param busy_since: since when the sink takes no bytes; None: it does
    :param held: seconds for which the sink had taken none before that
    :param came: when the last byte had come; None: it has not
    """

    received: int = 0
    content: Content = NO_CONTENT
    partial: Partial | None = None
    verified: bool = False
    finishing: bool = False
    busy_since: float | None = None
    held: float = 0.0
    came: float | None = None

    def begin(self) -> None:
        """A new attempt begins, which may continue the one before."""
        self.finishing, self.busy_since, self.held, self.came = False, None, 0.0, None

    def forget(self) -> None:
        """The bytes that have come are of no use."""
        partial, self.partial = self.partial, None
        self.received = 0
        if self.content.length is not None:
            self.content = replace(self.content, length=None)
        if partial is not None:
            partial.sink.discard()


class Tries(msgspec.Struct, frozen=True):
    """The attempts at a member.

    :param attempts: all of them
    :param throttled: answered by "not now"
    :param stale: made on a kept connection that was closed
    :param excused: failed through no fault of the member's, as its host was away
    :param renewed: times that a redirect was asked for again, as its URL had expired
    :param reached: bytes that had come at the end of the one that got furthest
    """

    attempts: int = 0
    throttled: int = 0
    stale: int = 0
    excused: int = 0
    renewed: int = 0
    reached: int = 0


NO_TRIES = Tries()


@dataclass(eq=False, slots=True)
class Fetch:
    """One member that is fetched.

    :param headers: of the batch; those of the member come on top
    :param expect: what its file has to be
    :param retry_on: statuses after which another try is made beside the usual ones
    :param hop: where the attempt goes on, after a redirect to another host
    :param deadline: for all attempts together, on the reactor's clock; None: none was made yet
    :param late: the deadline has passed
    :ivar first_host: the host of the member's URL; empty: it is none
    """

    member: Member
    headers: dict[str, str]
    target: Target
    expect: Expect = ANYTHING
    retry_on: Collection[int] = ()
    tries: Tries = NO_TRIES
    hop: Hop | None = None
    deadline: float | None = None
    late: bool = False
    reception: Reception = field(default_factory=Reception)
    first_host: str = field(init=False)

    def __post_init__(self) -> None:
        self.first_host = host_of(self.member.url)

    @property
    def host(self) -> str:
        """The host that is asked next."""
        return self.first_host if self.hop is None else host_of(self.hop.url)
