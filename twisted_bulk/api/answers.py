"""The answers of the API, as types. They describe it, and tests decode real answers with them."""

from typing import Any, Literal

import msgspec

Status = Literal["queued", "running", "done", "partial", "failed", "cancelled", "expired"]


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """What is answered; nothing else is in it."""


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
    bytes: int
    rate: int
    eta: float | None
    waits_for: str
    position: int | None
    download: str
    parts: list[Part]
    errors: list[dict[str, Any]]
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
