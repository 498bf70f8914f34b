"""Reads the headers of a response, and turns errors of the client into errors of a member."""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Collection
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from OpenSSL import SSL
from twisted.internet import error
from twisted.python.failure import Failure
from twisted.web.http import stringToDatetime
from twisted.web.iweb import IResponse

from twisted_bulk.errors import MemberError

#: Statuses of a whole file: those of success, without 202, which has none yet, 204 and 205, which
#: have none, and 206, which may have a part of it.
WHOLE_STATUSES = frozenset(range(200, 300)) - {202, 204, 205, 206}
TRANSIENT_STATUSES = frozenset((408, 425))  # after which another try may succeed; as after most 5xx
LASTING_STATUSES = frozenset((501, 505))  # the 5xx after which it cannot
_RANGE = re.compile(r"bytes[ \t]+(\d{1,18})-(\d{1,18})/(\d{1,18})")
MIN_AGE_SECONDS = 60  # of a Last-Modified that tells versions apart (RFC 9110, 8.8.2.2)


def header(response: IResponse, name: bytes) -> str:
    """The first value of a header, as Latin-1; empty: there is none."""
    values: list[bytes] = response.headers.getRawHeaders(name) or [b""]
    return values[0].decode("latin-1").strip()


def media_type(response: IResponse) -> str:
    """The Content-Type in lower case without its parameters; empty: there is none."""
    return header(response, b"Content-Type").partition(";")[0].strip().lower()


def _date(text: str) -> int | None:
    try:
        return int(stringToDatetime(text.encode("ascii")))
    except (ValueError, IndexError, OverflowError):
        return None


def modified(response: IResponse) -> int | None:
    """Last-Modified, in seconds since 1970; None: it is absent or cannot be read."""
    return _date(header(response, b"Last-Modified"))


def validator(response: IResponse) -> str:
    """A value for If-Range that another version of the file would not have; empty: there is none.

    It is a strong ETag, or a date that is old enough (RFC 9110, 13.1.5).
    """
    etag = header(response, b"ETag")
    if header(response, b"Accept-Ranges").lower() == "none":
        return ""
    if re.fullmatch(r'"[\x21\x23-\x7e\x80-\xff]*"', etag):
        return etag
    then, now = modified(response), _date(header(response, b"Date"))
    if not etag and then is not None and now is not None and now - then >= MIN_AGE_SECONDS:
        return header(response, b"Last-Modified")
    return ""


def mark(response: IResponse) -> str:
    """A value that another version of the file probably would not have; empty: there is none.

    It is an ETag or a Last-Modified, for responses without a :func:`validator`.
    """
    if header(response, b"Accept-Ranges").lower() == "none":
        return ""
    return header(response, b"ETag") or header(response, b"Last-Modified")


def is_whole(response: IResponse) -> bool:
    """Whether a response 206, to a request without Range, has the whole file."""
    found = _RANGE.fullmatch(header(response, b"Content-Range"))
    return found is not None and found[1] == "0" and int(found[2]) == int(found[3]) - 1


def whole_length(response: IResponse) -> int | None:
    """The length of the whole file, whose bytes begin in this response; None: it is unknown."""
    if response.code == 206:
        found = _RANGE.fullmatch(header(response, b"Content-Range"))
        return int(found[3]) if found else None
    return response.length if isinstance(response.length, int) else None


def total_from(response: IResponse, begin: int, wanted: str, total: int | None) -> int:
    """The length of the whole file, from a response 206 with the bytes from ``begin`` to the end.

    :param wanted: the validator or mark of the earlier response
    :param total: the length that an earlier response gave, if one did
    :raises MemberError: it is another range, or the file has changed
    """
    found = _RANGE.fullmatch(header(response, b"Content-Range"))
    if not found:
        raise MemberError("bad_range", "a partial answer without a readable Content-Range")
    first, last, whole = map(int, found.groups())
    if first != begin or last != whole - 1 or (total is not None and whole != total):
        raise MemberError("bad_range", f"asked for the bytes from {begin}, answered {found[0]}")
    is_tag = wanted.endswith('"')
    same = header(response, b"ETag" if is_tag else b"Last-Modified")
    if same != wanted and (same or is_tag):
        raise MemberError("bad_range", "the file has changed between two attempts")
    return whole


def location(response: IResponse) -> str:
    """The value of Location; bytes that are not ASCII are percent-encoded."""
    raw: bytes = (response.headers.getRawHeaders(b"Location") or [b""])[0]
    return re.sub(rb"[\x80-\xff]", lambda byte: b"%%%02X" % ord(byte[0]), raw).decode("ascii")


def digest(response: IResponse) -> str:
    """The SHA-256 of the content as hexadecimal digits; empty: the server does not give it.

    It stands in Repr-Digest (RFC 9530), or in Digest (RFC 3230).
    """
    for name, pattern in (
        (b"Repr-Digest", r"(?i)(?:^|[,\s])sha-256=:([A-Za-z0-9+/]{43}=):"),
        (b"Digest", r"(?i)(?:^|[,\s])sha-256=([A-Za-z0-9+/]{43}=)"),
    ):
        found = re.search(pattern, header(response, name))
        if found:
            try:
                return b64decode(found[1], validate=True).hex()
            except Base64Error:
                return ""
    return ""


def retry_after(response: IResponse) -> float | None:
    """The seconds of Retry-After. Of a date, those from the server's Date on."""
    text = header(response, b"Retry-After")
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    then, now = _http_date(text), _http_date(header(response, b"Date"))
    return max(0.0, then - now) if then is not None and now is not None else None


def _http_date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, IndexError, TypeError, OverflowError):
        return None


def refusal(response: IResponse, retry_on: Collection[int] = ()) -> MemberError:
    """The error for a response without the file.

    :param retry_on: further statuses after which another try may succeed
    """
    try:  # the server's own phrase may repeat the URL with its secrets
        phrase = HTTPStatus(response.code).phrase
    except ValueError:
        phrase = ""
    status, wait = response.code, retry_after(response)
    detail = f"HTTP {status} {phrase}".strip()
    if status == 429 or (status == 503 and wait is not None):
        return MemberError("http_throttled", detail, retry_after=wait, answered=status)
    if status in TRANSIENT_STATUSES or (status >= 500 and status not in LASTING_STATUSES):
        return MemberError("http_unavailable", detail, retry_after=wait, answered=status)
    if status == 202:
        detail += ": the file is not ready"
    may_pass = status == 202 or wait is not None or status in retry_on
    return MemberError("http_error", detail, retry_after=wait, answered=status, retry=may_pass)


def explain(failure: Failure) -> MemberError:
    """The error of a member for an exception of the HTTP client."""
    reasons: list[Failure] = [failure, *getattr(failure.value, "reasons", ())]
    for reason in reasons:
        if isinstance(reason.value, MemberError):
            return reason.value
        if reason.check(SSL.Error):
            return MemberError("tls_failed", "the server broke the rules of TLS")
    last = reasons[-1]
    if last.check(UnicodeError):
        return MemberError("bad_url", "the host's name is not one that DNS can hold")
    if last.check(error.ConnectionClosed, error.ConnectionDone, error.ConnectionLost):
        return MemberError("connection_lost", "the connection was closed before an answer")
    return MemberError("bad_response", "not an HTTP answer")
