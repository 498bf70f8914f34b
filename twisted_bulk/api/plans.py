"""Answers that tell what would be done, or is being done with many batches, as types."""

from typing import Literal

import msgspec

from twisted_bulk.api.answers import Answer


class Reason(Answer):
    """Why something cannot be done."""

    code: str
    detail: str


class HostCount(Answer):
    """How many members a host has."""

    host: str
    members: int


class Finding(Answer):
    """What is said of some members, with up to 5 examples."""

    code: str
    detail: str
    members: int
    examples: list[str]


class ProbeFailure(Answer):
    """Members that were asked for their size and did not answer well."""

    code: str
    members: int
    example: str


class Probe(Answer):
    """What asking some members for their sizes told; ``bytes`` and the seconds are estimates."""

    asked: int
    sized: int
    failures: list[ProbeFailure]
    bytes: int | str | None
    fetch_seconds: float | None
    download_seconds: float | None


class Preflight(Answer):
    """What would become of a batch."""

    callback: Reason | None
    total: int
    checked: int
    parts: int
    hosts: list[HostCount]
    more_hosts: int
    refused: list[Finding]
    duplicates: list[Finding]
    renamed: list[Finding]
    probe: Probe | msgspec.UnsetType = msgspec.UNSET


class LeftMembers(Answer):
    """Members that a retry would not fetch."""

    reason: str
    members: int


class RetryPlan(Answer):
    """What a retry of the batch's run ``run`` would do."""

    run: int
    retried: int
    left: list[LeftMembers]


class LeftBatches(Answer):
    """Batches that a bulk action does not change."""

    reason: str
    batches: int


class BulkAction(Answer):
    """A bulk action: it found ``total`` batches, and would change ``eligible`` of them."""

    id: str
    action: Literal["cancel", "retry", "delete", "priority", "notify"]
    priority: int | None
    by: str
    state: Literal["finding", "planned", "running", "stopped", "done"]
    planned: str
    ended: str | None
    total: int
    eligible: int
    done: int
    left: list[LeftBatches]


class BulkActions(Answer):
    """The latest bulk actions."""

    bulk: list[BulkAction]
