"""Ranges and preconditions of a GET or HEAD (RFC 9110, sections 13 and 14). Pure."""

import re
from dataclasses import dataclass

_TAG = re.compile(r'[\s,]*(W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')
_RANGES = re.compile(r"bytes\s*=\s*(.*)", re.IGNORECASE)
_RANGE = re.compile(r"([0-9]{1,20})-([0-9]{0,20})|-([0-9]{1,20})")

MAX_RANGES = 16  # of one request; where there are more the header is ignored


@dataclass(frozen=True)
class Representation:
    """The file under a link.

    :param etag: with its quotes
    :param modified: whole seconds since 1970
    """

    size: int
    etag: str
    modified: int


Span = tuple[int, int]  # bytes from one offset to another (not included)


@dataclass(frozen=True)
class Answer:
    """A status, and for 200 and 206 the spans that are sent; several of a 206 are a multipart."""

    status: int
    spans: tuple[Span, ...] = ()


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
    header = header.rstrip(", \t")  # a list may have empty elements (5.6.1)
    tags, at = [], 0
    while at < len(header):
        match = _TAG.match(header, at)
        if match is None:
            return None
        tags.append((bool(match[1]), match[2]))
        at = match.end()
    return tags


def matches(header: str, etag: str, weakly: bool) -> bool:
    """Whether a list of entity tags, or ``*``, has this one (RFC 9110, 8.8.3.2)."""
    if header.strip() == "*":
        return True
    tags = _tags(header) or []
    return any(tag == etag and (weakly or not weak) for weak, tag in tags)


def byte_ranges(header: str, size: int) -> tuple[Span, ...] | None:
    """The ranges that ``header`` asks for (RFC 9110, 14.1 and 14.2), in its order.

    Ranges that overlap or touch each other become one, at the place of the first of them.

    :returns: none: no range can be satisfied; None: the header is ignored, as it has another
        unit, is not valid, or has too many ranges
    """
    unit = _RANGES.fullmatch(header.strip())
    words = [word.strip() for word in unit[1].split(",")] if unit else []
    words = [word for word in words if word]  # a list may have empty elements (5.6.1)
    if not words or len(words) > MAX_RANGES:
        return None
    spans: list[Span] = []
    for word in words:
        match = _RANGE.fullmatch(word)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            return None
        if match[3] is not None:
            span = (max(0, size - int(match[3])), size)
        else:
            span = (int(match[1]), min(int(match[2]) + 1, size) if match[2] else size)
        if span[0] < span[1]:
            spans = _merged(spans, span)
    return tuple(spans)


def _merged(spans: list[Span], span: Span) -> list[Span]:
    touching = [one for one in spans if one[0] <= span[1] and span[0] <= one[1]]
    if not touching:
        return [*spans, span]
    whole = (min(span[0], *(s for s, _ in touching)), max(span[1], *(e for _, e in touching)))
    first = spans.index(touching[0])
    return [
        whole if n == first else one
        for n, one in enumerate(spans)
        if n == first or one not in touching
    ]


def evaluate(method: str, asked: Conditions, what: Representation) -> Answer:
    """The answer to a request, by the preconditions in the order of RFC 9110, 13.2.2."""
    if asked.match is not None:
        if not matches(asked.match, what.etag, weakly=False):
            return Answer(412)
    elif asked.unmodified_since is not None and what.modified > asked.unmodified_since:
        return Answer(412)
    if asked.none_match is not None:
        if matches(asked.none_match, what.etag, weakly=True):
            return Answer(304)
    elif asked.modified_since is not None and what.modified <= asked.modified_since:
        return Answer(304)
    whole = Answer(200, ((0, what.size),))
    if method != "GET" or asked.range is None:
        return whole
    if asked.if_range is not None:
        same_tag = asked.if_range.strip() == what.etag
        if not same_tag and asked.if_range_date != what.modified:
            return whole
    wanted = byte_ranges(asked.range, what.size)
    if wanted is None:
        return whole
    return Answer(206, wanted) if wanted else Answer(416)
