"""The body of a POST of a batch: checked, its members decoded as they are needed."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, BinaryIO

import msgspec

from twisted_bulk.batch.model import Member
from twisted_bulk.errors import InvalidRequest
from twisted_bulk.orders.decoding import check_keys, decode
from twisted_bulk.orders.outline import Chunk, outline
from twisted_bulk.orders.submission import (
    ENTRY,
    TASK_ID,
    Submission,
    check_expect,
    check_headers,
    check_member,
    check_names,
    check_url,
)
from twisted_bulk.system.urls import tidy

SMALL_ORDER = 1000  # members of an order that is packed without a thread
KEYS = frozenset(name.encode() for name in Submission.__struct_fields__)


@dataclass
class Order:
    """An order of a batch. Its members stay in the body's file, which must be open.

    :param total: members
    :param digest: of its content, however its JSON is written
    """

    submission: Submission
    total: int
    _file: BinaryIO
    _chunks: Sequence[Chunk]
    digest: str = ""
    _last: tuple[int, list[Member]] = field(default_factory=lambda: (-1, []))

    def __len__(self) -> int:
        return self.total

    @property
    def is_small(self) -> bool:
        """Whether it is packed without a thread, and queued in one step."""
        return self.total <= SMALL_ORDER

    def members(self, begin: int, end: int) -> Iterator[list[Member]]:
        """The members from ``begin`` to ``end`` (not included), some at a time. Blocks."""
        for number, chunk in enumerate(self._chunks):
            after = self._chunks[number + 1].first if number + 1 < len(self._chunks) else self.total
            if after > begin and chunk.first < end:
                found = self._read(number, chunk)
                yield list(map(_tidied, found[max(0, begin - chunk.first) : end - chunk.first]))

    def _read(self, number: int, chunk: Chunk) -> list[Member]:
        """The members of a chunk as they were sent."""
        if self._last[0] != number:
            found = [
                Member(entry)
                if isinstance(entry, str)
                else Member(entry.url, entry.name, entry.headers, entry.sha256, entry.expect)
                for entry in self._entries(chunk)
            ]
            self._last = number, found
        return self._last[1]

    def _entries(self, chunk: Chunk) -> list[Any]:
        self._file.seek(chunk.begin)
        text = b"[" + self._file.read(chunk.end - chunk.begin) + b"]"

        def place(path: str) -> str:
            number, _, more = path.removeprefix("$[").partition("]")
            number = number if number.isdecimal() else "0"
            return f"$.download[{chunk.first + int(number)}]{more}"

        entries: list[Any] = decode(text, list[ENTRY], place, lambda at: chunk.begin + at - 1)
        if not self.digest and b"{" in text:  # it is being checked
            check_keys(text)
        return entries

    def check(self) -> None:
        """Check all members, and make the digest. Blocks.

        :raises InvalidRequest: names the field and what was expected there
        """
        asked, named = self.submission, self.submission.task_id
        named = None if named is None else str(named)
        seen = hashlib.sha256(_plain(msgspec.structs.replace(asked, download=[], task_id=named)))
        number, strict = 0, asked.urls == "strict"
        for chunk_number, chunk in enumerate(self._chunks):
            members = self._read(chunk_number, chunk)
            for member in members:
                check_member(member, f"$.download[{number}]", strict)
                number += 1
            seen.update(_plain(members)[1:-1] + b",")
        self.digest = seen.hexdigest()

    @property
    def need(self) -> int:
        """How many members must succeed, or the batch has failed."""
        policy = self.submission.policy
        if policy == "strict":
            return len(self)
        if policy == "partial":
            return 1
        return max(1, math.ceil(policy * len(self) - 1e-9))


def read_order(body: BinaryIO | bytes, most: int) -> Order:
    """Read and check a POST's body. Blocks.

    :param most: URLs that it may have
    :raises InvalidRequest: names the field and what was expected there
    """
    file = BytesIO(body) if isinstance(body, bytes) else body
    found = outline(file, most, KEYS)
    rest = found.rest
    if not rest:
        raise InvalidRequest("not JSON: the body is empty")
    submission: Submission = decode(rest, Submission, offset=found.place)
    check_keys(rest)
    task_id = submission.task_id
    if task_id is not None and not TASK_ID.fullmatch(str(task_id)):
        raise InvalidRequest(
            "$.task_id: expected 1 to 128 of A-Z a-z 0-9 . _ ~ - (not . or ..), or an integer"
        )
    if not found.total:
        raise InvalidRequest("$.download: expected at least one URL")
    submission = msgspec.structs.replace(submission, url=tidy(submission.url or ""))
    if submission.url:
        check_url(submission.url, "$.url")
    check_expect(submission.expect, "$.expect")
    check_names(submission)
    check_headers(submission.headers, "$.headers")
    order = Order(submission, found.total, file, found.chunks)
    order.check()
    return order


def _tidied(member: Member) -> Member:
    url = tidy(member.url)
    return member if url == member.url else msgspec.structs.replace(member, url=url)


def _plain(value: Any) -> bytes:
    return msgspec.json.encode(value, order="deterministic")
