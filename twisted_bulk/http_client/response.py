"""What a server's answer says, or what its failing means. Pure."""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from idna import IDNAError
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import error
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.web.http import stringToDatetime
from twisted.web.iweb import IResponse

from twisted_bulk.errors import MemberError

PASSING = frozenset((408, 425, 500, 502, 503, 504, 507, 509))
REDIRECTS = frozenset((301, 302, 303, 307, 308))
SETTLED = 60  # seconds after which a date tells versions apart (RFC 9110, 8.8.2.2)


def header(response: IResponse, name: bytes) -> str:
    """The first value of a header, whatever bytes it has; empty where there is none."""
    values: list[bytes] = response.headers.getRawHeaders(name) or [b""]
    return values[0].decode("latin-1").strip()


def _date(text: str) -> int | None:
    try:
        return int(stringToDatetime(text.encode("ascii")))
    except (ValueError, IndexError, OverflowError):
        return None


def modified(response: IResponse) -> int | None:
    """Last-Modified, in seconds since 1970."""
    return _date(header(response, b"Last-Modified"))


def validator(response: IResponse) -> str:
    """What If-Range may name so that another version is noticed, or nothing.

    A strong ETag; or a date that is old enough to be one (RFC 9110, 13.1.5).
    """
    etag = header(response, b"ETag")
    if header(response, b"Accept-Ranges").lower() == "none":
        return ""
    if re.fullmatch(r'"[\x21\x23-\x7e\x80-\xff]*"', etag):
        return etag
    then, now = modified(response), _date(header(response, b"Date"))
    if not etag and then is not None and now is not None and now - then >= SETTLED:
        return header(response, b"Last-Modified")
    return ""


def total_from(response: IResponse, begin: int, wanted: str, total: int | None) -> int:
    """The whole length, from a 206 that continues at ``begin`` to the end.

    :param wanted: the validator that was named; ``total``: the length as known before
    :raises MemberError: it is not the rest of what we have
    """
    found = re.fullmatch(
        r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", header(response, b"Content-Range")
    )
    if not found:
        raise MemberError("bad_range", "a partial answer without a readable Content-Range")
    first, last, whole = map(int, found.groups())
    if first != begin or last != whole - 1 or (total is not None and whole != total):
        raise MemberError("bad_range", f"asked for the bytes from {begin}, answered {found[0]}")
    same = header(response, b"ETag" if wanted.startswith('"') else b"Last-Modified")
    if same != wanted and (same or wanted.startswith('"')):
        raise MemberError("bad_range", "the file has changed between two attempts")
    return whole


def location(response: IResponse) -> str:
    """Where a redirect leads; bytes beyond ASCII, which should have been encoded, are."""
    raw: bytes = (response.headers.getRawHeaders(b"Location") or [b""])[0]
    return re.sub(rb"[\x80-\xff]", lambda byte: b"%%%02X" % ord(byte[0]), raw).decode("ascii")


def digest(response: IResponse) -> str:
    """The SHA-256 of the content as hexadecimal digits, if the server says it.

    Repr-Digest (RFC 9530), or Digest as before it.
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
    """Seconds, also where the server names a date and says what time it has."""
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


def refusal(response: IResponse) -> MemberError:
    """The error for an answer that is no content."""
    try:  # not the server's own words: they may repeat what was asked for
        phrase = HTTPStatus(response.code).phrase
    except ValueError:
        phrase = ""
    code = "http_unavailable" if response.code in PASSING else "http_error"
    wait = retry_after(response)
    if response.code == 429 or (response.code == 503 and wait is not None):
        code = "http_throttled"
    what = f"HTTP {response.code} {phrase}".strip()
    return MemberError(code, what, retry_after=wait, answered=response.code)


def is_cancelled(broken: Exception) -> bool:
    """Whether it was we who ended the connection, for instance as the time was over."""
    return any(reason.check(CancelledError) for reason in getattr(broken, "reasons", ()))


def explain(failure: Failure) -> MemberError:
    """The member's error for what an HTTP client raised."""
    reasons: list[Failure] = [failure, *getattr(failure.value, "reasons", ())]
    for reason in reasons:
        if isinstance(reason.value, MemberError):
            return reason.value
        if reason.check(SSL.Error, VerificationError):
            return MemberError("tls_failed", "no TLS, or the certificate is not valid for it")
    last = reasons[-1]
    if last.check(IDNAError, UnicodeError):
        return MemberError("bad_url", "the host's name is not one that DNS can hold")
    if last.check(error.ConnectionClosed, error.ConnectionDone, error.ConnectionLost):
        return MemberError("connection_lost", "the connection was closed before an answer")
    return MemberError("bad_response", f"not an HTTP answer ({type(last.value).__name__})")
