"""The state of one part: its members, and how each of them ended."""

import time
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from twisted.internet.interfaces import IReactorTime

from twisted_bulk.archive.zip_member import ZipMember
from twisted_bulk.batch.failure_counts import FailureCounts, Group
from twisted_bulk.batch.masks import show
from twisted_bulk.batch.model import Member, Outcome, PartProgress, PartSpec, Zip
from twisted_bulk.batch.report import MAX_ERRORS, error_of
from twisted_bulk.downloads.part_fetches import PartFetches, Waits
from twisted_bulk.errors import MemberError
from twisted_bulk.parts.naming import Claim, Naming
from twisted_bulk.system.urls import host_of

#: Failed members that all parts of a batch report together; each part reports one at least.
MAX_BATCH_ERRORS = 1000
MAX_RUNNING_ERRORS = 20  # failed members in the progress of a part that runs
#: Groups of failed members that all parts of a batch report together, besides one for each error.
MAX_BATCH_GROUPS = 1000
MIN_GROUPS, MAX_GROUPS = 5, 100  # of one part
MAX_RUNNING_GROUPS = 20  # in the progress of a part that runs
MAX_DETAIL = 300  # characters of the detail of a failed member; the rest is cut off


def _wall(seconds: float) -> str:
    """The time of day in so many seconds (below 0: so many ago), for people."""
    return f"{datetime.fromtimestamp(time.time() + seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


class PartState:
    """The members of a part while it runs.

    :ivar outcomes: of each member, once it has ended
    :ivar errors: the first failed members, as reports have them
    :ivar failures: all failed members, counted
    :ivar previous: zips of an earlier run of the batch, which may have some of the members
    :ivar waits_for: returns a host for which it waits, or None
    :ivar started: seconds since 1970
    :param node: the name of the data folder where it runs
    :param claim: see :class:`~twisted_bulk.parts.naming.Naming`
    """

    def __init__(
        self,
        spec: PartSpec,
        members: list[Member],
        clock: IReactorTime,
        node: str = "",
        claim: Claim | None = None,
    ) -> None:
        self.spec = spec
        self.members = members
        self.outcomes: list[Outcome | None] = [None] * len(members)
        self.errors: list[dict[str, Any]] = []
        self.failures = FailureCounts()
        self.node = node
        self._news: list[Outcome] = []
        self.fetches = PartFetches(left=0, batch=zlib.crc32(spec.batch.encode()) | 1)
        self.previous: list[Zip] = []
        self.waits_for: Callable[[], Waits | None] = lambda: None
        self.done = self.failed = self.bytes = self.warnings = 0
        self.started = time.time()
        self._clock = clock
        self._rated = (clock.seconds(), 0)
        self._rate = 0.0
        self.naming = Naming(spec, members, claim)

    def came(self, number: int, placed: ZipMember) -> None:
        """Member ``number`` (from 0) is in the archive."""
        self._note(
            number,
            status="done" if placed.verified else "unverified",
            bytes=placed.size,
            sha256=placed.sha256,
            attempts=placed.attempts,
            volume=placed.volume,
            type=placed.type,
            encoding=placed.encoding,
            warning=placed.warning,
        )
        self.done += 1
        self.bytes += placed.size
        self.warnings += bool(placed.warning)

    def failed_with(self, number: int, error: MemberError, attempts: int) -> None:
        """Member ``number`` (from 0) has failed."""
        # The detail may name the host.
        detail = "" if self.spec.show_urls == "none" else error.detail[:MAX_DETAIL]
        what = {"code": error.code, "detail": detail, "attempts": attempts}
        self._count_failure(self._note(number, status="failed", **what))

    def still_failed(self, number: int, outcome: Outcome) -> None:
        """Member ``number`` (from 0) is not tried in this run; it failed in the one before."""
        # Another member may have its name of that run now.
        outcome = msgspec.structs.replace(outcome, name=self.naming.names[number])
        self.outcomes[number] = outcome
        self._news.append(outcome)
        self._count_failure(outcome)

    def _count_failure(self, outcome: Outcome) -> None:
        self.failures.add(outcome.code, host_of(outcome.url))
        if len(self.errors) < max(1, min(MAX_ERRORS, MAX_BATCH_ERRORS // self.spec.parts)):
            self.errors.append(error_of(outcome))
        self.failed += 1

    def renumber(self, used: Sequence[int]) -> None:
        """Count the part's zips from 1: only those with the numbers ``used`` stay."""
        new = {old: number for number, old in enumerate(used, 1)}
        if list(new) != list(new.values()):
            self.outcomes = [
                msgspec.structs.replace(one, volume=new[one.volume]) if one and one.sha256 else one
                for one in self.outcomes
            ]

    @property
    def largest_failures(self) -> list[Group]:
        """The groups of failed members that the result of this part has."""
        most = MAX_BATCH_GROUPS // self.spec.parts
        return self.failures.largest(max(MIN_GROUPS, min(MAX_GROUPS, most)))

    def _note(self, number: int, **what: Any) -> Outcome:
        empty: dict[str, Any] = {"code": "", "detail": "", "bytes": 0, "sha256": ""}
        self.outcomes[number] = outcome = Outcome(
            url=show(self.members[number].url, self.spec.show_urls),
            name=self.naming.names[number],
            part=self.spec.part,
            member=self.spec.first + number + 1,
            **empty | what,
        )
        self._news.append(outcome)
        return outcome

    def news(self) -> list[Outcome]:
        """The members that have ended since the last call."""
        news, self._news = self._news, []
        return news

    def progress(self) -> tuple[int, bytes]:
        """Thousandths of members that have ended, and the JSON of a ``PartProgress``."""
        units, flying = 1000 * (self.done + self.failed), 0
        for fetch in self.fetches.active:
            received, length = fetch.reception.received, fetch.reception.content.length
            flying += received
            if length:
                units += min(999, 1000 * received // length)
        size, now = self.bytes + flying, self._clock.seconds()
        then, before = self._rated
        if now - then >= 1:
            self._rate = max(0, size - before) / (now - then)
            self._rated = (now, size)
        shown = PartProgress(
            done=self.done, failed=self.failed, bytes=size, rate=self._rate,
            waits_for=self._waits_for(now), errors=self.errors[:MAX_RUNNING_ERRORS], node=self.node,
            warnings=self.warnings, failures=self.failures.largest(MAX_RUNNING_GROUPS),
        )  # fmt: skip
        return units, msgspec.json.encode(shown)

    def _waits_for(self, now: float) -> str:
        """Why it makes no progress, for people; or empty."""
        if self.fetches.stalled is None:
            return ""
        found = self.waits_for()
        if found is None:
            return "its sources: they send next to nothing"
        if found.since is None:
            return f"{found.host}, which asked for a pause until {_wall(found.until - now)}"
        return f"{found.host}, away since {_wall(found.since - now)}"

    def missing(self) -> list[list[int]]:
        """The numbers of members that have not ended; those that are fetched alike together."""
        alike: dict[tuple[Any, ...], list[int]] = {}
        for number, member in enumerate(self.members):
            if self.outcomes[number] is None:
                headers = sorted(member.headers.items())
                key = (member.url, member.sha256.lower(), member.expect, *headers)
                alike.setdefault(key, []).append(number)
        return list(alike.values())
