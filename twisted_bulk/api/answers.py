"""The answers of the API, as types: the API's description is made from them, and clients decode
answers with them. Fields that a client does not know are left out, so that it can be older than its
server.
"""

from typing import Any, Literal

import msgspec

Status = Literal["queued", "running", "done", "partial", "failed", "cancelled", "expired"]


class Answer(msgspec.Struct):
    """What is answered."""


class Part(Answer):
    """One zip of a batch."""

    part: int
    volume: int
    status: str
    download: str
    members: int
    size: int | msgspec.UnsetType = msgspec.UNSET
    sha256: str | msgspec.UnsetType = msgspec.UNSET


class Try(Answer):
    """One try of a last callback."""

    at: str
    status: int | None
    detail: str


class Delivery(Answer):
    """How far a last callback is."""

    state: Literal["pending", "sending", "waiting", "delivered", "refused", "undelivered"]
    tries: list[Try]
    next: str | None


class FailureGroup(Answer):
    """Failed members with one error; of one host, or of many where ``host`` is empty."""

    code: str
    host: str
    members: int


class Count(Answer):
    """How many match; ``exact`` was counted ``age`` seconds ago, null where it is unknown."""

    at_least: int
    exact: int | None
    age: float | None


class Batch(Answer, kw_only=True):
    """A batch as it stands; ``schedule`` is the progress of its present run in percent."""

    task_id: str
    owner: str
    status: Status
    run: int
    schedule: int
    total: int
    done: int
    failed: int
    bytes: int | str
    rate: int
    eta: float | None
    waits_for: str
    position: int | None
    download: str
    parts: list[Part]
    errors: list[dict[str, Any]]
    failures: list[FailureGroup]
    warnings: int
    warning: Literal["", "html"]
    created: str
    started: str | None
    finished: str | None
    callback: Delivery | msgspec.UnsetType = msgspec.UNSET


class Page(Answer):
    """Batches, and where the next page begins."""

    batches: list[Batch]
    cursor: str | None
    count: Count | msgspec.UnsetType = msgspec.UNSET


class Missing(Answer):
    """A part whose results are on another node."""

    part: int
    node: str


class WholePart(Answer):
    """A part that failed as a whole; of its members no more is known."""

    part: int
    members: int
    code: str
    detail: str


class MemberOutcome(Answer, omit_defaults=True):
    """A member: how it ended, or ``status`` ``waiting``. ``cut``: a long text is not whole."""

    member: int
    url: str
    name: str
    status: Literal["done", "unverified", "failed", "waiting"]
    part: int
    code: str = ""
    detail: str = ""
    bytes: int = 0
    sha256: str = ""
    attempts: int = 0
    volume: int = 1
    type: str = ""
    encoding: str = ""
    warning: str = ""
    cut: bool = False


class MembersPage(Answer):
    """Members of a batch, and where the next page begins."""

    run: int
    members: list[MemberOutcome]
    cursor: str | None
    missing: list[Missing]
    whole: list[WholePart]
    count: Count | msgspec.UnsetType = msgspec.UNSET


class Session(Answer):
    """What this client may do; ``rate``: bytes a second at which it is served, 0: any."""

    name: str
    scopes: list[str]
    everybody: bool
    rate: int | None
    version: str


class Accepted(Answer):
    """A batch that was taken in."""

    task_id: str
    status: Literal["queued"]
    total: int
    position: int | None
    self: str


class Known(Batch, kw_only=True):
    """A batch that had been taken in before; ``retry`` fetches what failed."""

    self: str
    retry: str | msgspec.UnsetType = msgspec.UNSET


class Problem(msgspec.Struct):
    """An error (RFC 9457); docs/errors.md has all codes."""

    type: str
    title: str
    status: int
    code: str
    detail: str
