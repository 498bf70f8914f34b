"""The members of one part, and what has become of them."""

import time
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from twisted.internet.interfaces import IReactorTime

from twisted_bulk.archive.volume import ZipMember
from twisted_bulk.batch.masks import show
from twisted_bulk.batch.model import Member, Outcome, PartProgress, PartSpec, Zip
from twisted_bulk.batch.names import Names, from_url, safe, sharded
from twisted_bulk.batch.report import MAX_ERRORS, error_of
from twisted_bulk.downloads.part_fetches import PartFetches, Waits
from twisted_bulk.errors import MemberError

MOST = 1000  # failed members that all parts of a batch name together, but for one each
WHILE_RUNNING = 20  # of these that a part tells with each heartbeat
DETAIL = 300  # characters of what is said of a failed member


def _wall(seconds: float) -> str:
    """The time of day in so many seconds, or so many ago, for people."""
    return f"{datetime.fromtimestamp(time.time() + seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


class PartState:
    """What a part's users will be told.

    :param previous: zips of an earlier run, which may have some of the members
    :param waits_for: a host that it waits for, if it is known
    :param errors: its first members that have failed
    :param node: the host where it runs
    """

    def __init__(
        self, spec: PartSpec, members: list[Member], clock: IReactorTime, node: str = ""
    ) -> None:
        self.spec = spec
        self.members = members
        self.outcomes: list[Outcome | None] = [None] * len(members)
        self.errors: list[dict[str, Any]] = []
        self.node = node
        self._news: list[Outcome] = []
        self.fetches = PartFetches(left=0, batch=zlib.crc32(spec.batch.encode()) | 1)
        self.previous: list[Zip] = []
        self.waits_for: Callable[[], Waits | None] = lambda: None
        self.done = self.failed = self.bytes = 0
        self.started = time.time()
        self._clock = clock
        self._rated = (clock.seconds(), 0)
        self._rate = 0.0
        names = Names()
        layout: Callable[[str], str] = sharded if spec.layout == "sharded" else str
        self.names = [
            names.take(layout(safe(member.name) or from_url(member.url) or "file"))
            for member in members
        ]

    def came(self, number: int, placed: ZipMember) -> None:
        """Member ``number`` is in the archive."""
        self._note(
            number,
            status="done" if placed.verified else "unverified",
            bytes=placed.size,
            sha256=placed.sha256,
            attempts=placed.attempts,
            volume=placed.volume,
        )
        self.done += 1
        self.bytes += placed.size

    def failed_with(self, number: int, error: MemberError, attempts: int) -> None:
        """Member ``number`` is not."""
        # What is said of a member may name its host.
        detail = "" if self.spec.show_urls == "none" else error.detail[:DETAIL]
        what = {"code": error.code, "detail": detail, "attempts": attempts}
        outcome = self._note(number, status="failed", **what)
        if len(self.errors) < max(1, min(MAX_ERRORS, MOST // self.spec.parts)):
            self.errors.append(error_of(outcome))
        self.failed += 1

    def renumber(self, used: Sequence[int]) -> None:
        """Only these of the part's zips remain: count them from 1."""
        new = {old: number for number, old in enumerate(used, 1)}
        if list(new) != list(new.values()):
            self.outcomes = [
                msgspec.structs.replace(one, volume=new[one.volume]) if one and one.sha256 else one
                for one in self.outcomes
            ]

    def _note(self, number: int, **what: Any) -> Outcome:
        empty: dict[str, Any] = {"code": "", "detail": "", "bytes": 0, "sha256": ""}
        self.outcomes[number] = outcome = Outcome(
            url=show(self.members[number].url, self.spec.show_urls),
            name=self.names[number],
            part=self.spec.part,
            member=self.spec.first + number + 1,
            **empty | what,
        )
        self._news.append(outcome)
        return outcome

    def news(self) -> list[Outcome]:
        """What has ended since this was asked before."""
        news, self._news = self._news, []
        return news

    def progress(self) -> tuple[int, bytes]:
        """Thousandths of members over, and the numbers that users see."""
        units, flying = 1000 * (self.done + self.failed), 0
        for fetch in self.fetches.active:
            flying += fetch.received
            if fetch.length:
                units += min(999, 1000 * fetch.received // fetch.length)
        size, now = self.bytes + flying, self._clock.seconds()
        then, before = self._rated
        if now - then >= 1:
            self._rate = max(0, size - before) / (now - then)
            self._rated = (now, size)
        shown = PartProgress(
            done=self.done, failed=self.failed, bytes=size, rate=self._rate,
            waits_for=self._waits_for(now), errors=self.errors[:WHILE_RUNNING], node=self.node,
        )  # fmt: skip
        return units, msgspec.json.encode(shown)

    def _waits_for(self, now: float) -> str:
        """What keeps it from getting on, for people."""
        if self.fetches.stalled is None:
            return ""
        found = self.waits_for()
        if found is None:
            return "its sources: they send next to nothing"
        if found.since is None:
            return f"{found.host}, which asked for a pause until {_wall(found.until - now)}"
        return f"{found.host}, away since {_wall(found.since - now)}"

    def missing(self) -> list[list[int]]:
        """Members that are not there yet; those that are fetched alike together."""
        alike: dict[tuple[Any, ...], list[int]] = {}
        for number, member in enumerate(self.members):
            if self.outcomes[number] is None:
                key = (member.url, member.sha256.lower(), *sorted(member.headers.items()))
                alike.setdefault(key, []).append(number)
        return list(alike.values())
