"""Ranges and preconditions of a GET or HEAD (RFC 9110, sections 13 and 14). Pure."""

import re
from dataclasses import dataclass

_TAG = re.compile(r'\s*(W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')
_RANGES = re.compile(r"bytes\s*=\s*(.*)", re.IGNORECASE)
_RANGE = re.compile(r"(\d{1,20})-(\d{0,20})|-(\d{1,20})")


@dataclass(frozen=True)
class Representation:
    """What a link stands for; ``modified`` in whole seconds since 1970."""

    size: int
    etag: str
    modified: int


@dataclass(frozen=True)
class Answer:
    """A status, and for 200 and 206 the bytes ``start`` to ``end`` (not included)."""

    status: int
    start: int = 0
    end: int = 0


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The request's headers; dates are parsed, None where absent or not valid."""

    match: str | None = None
    none_match: str | None = None
    modified_since: int | None = None
    unmodified_since: int | None = None
    range: str | None = None
    if_range: str | None = None
    if_range_date: int | None = None


def _tags(header: str) -> list[tuple[bool, str]] | None:
    """``(weak, tag)`` for each entity tag of a list; None if it is not one."""
    tags, at = [], 0
    while at < len(header):
        match = _TAG.match(header, at)
        if match is None:
            return None
        tags.append((bool(match[1]), match[2]))
        at = match.end()
    return tags


def _matches(header: str, etag: str, weakly: bool) -> bool:
    if header.strip() == "*":
        return True
    tags = _tags(header) or []
    return any(tag == etag and (weakly or not weak) for weak, tag in tags)


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """The one range that ``header`` asks for, as ``start, end`` (not included).

    None: serve the whole, the header is to be ignored (another unit, not valid, or more
    than one range). An empty range at ``size`` means that it cannot be satisfied.
    """
    unit = _RANGES.fullmatch(header.strip())
    match = _RANGE.fullmatch(unit[1].strip()) if unit else None
    if match is None:
        return None
    if match[3] is not None:
        length = min(int(match[3]), size)
        return size - length, size
    first = int(match[1])
    last = int(match[2]) if match[2] else size - 1
    if match[2] and last < first:
        return None
    if first >= size:
        return size, size
    return first, min(last + 1, size)


def evaluate(method: str, asked: Conditions, what: Representation) -> Answer:
    """Apply the preconditions in the order of RFC 9110, 13.2.2."""
    if asked.match is not None:
        if not _matches(asked.match, what.etag, weakly=False):
            return Answer(412)
    elif asked.unmodified_since is not None and what.modified > asked.unmodified_since:
        return Answer(412)
    if asked.none_match is not None:
        if _matches(asked.none_match, what.etag, weakly=True):
            return Answer(304)
    elif asked.modified_since is not None and what.modified <= asked.modified_since:
        return Answer(304)
    whole = Answer(200, 0, what.size)
    if method != "GET" or asked.range is None:
        return whole
    if asked.if_range is not None:
        same_tag = asked.if_range.strip() == what.etag
        if not same_tag and asked.if_range_date != what.modified:
            return whole
    wanted = byte_range(asked.range, what.size)
    if wanted is None:
        return whole
    if wanted[0] == wanted[1]:
        return Answer(416)
    return Answer(206, *wanted)
