"""How a member or a part can fail: the codes, and what they tell. See docs/errors.md."""

from enum import StrEnum
from typing import NamedTuple


class Who(StrEnum):
    """Who has to act."""

    CALLER = "the client"
    OPERATOR = "the operator"
    SOURCE = "the URL's server"
    NOBODY = "nobody"


class Ending(NamedTuple):
    """How a member or a part can fail: a row in docs/errors.md."""

    retry: bool
    who: Who
    meaning: str


MEMBER_CODES = {
    "bad_url": Ending(False, Who.CALLER, "not an http or https URL with a valid host"),
    "dns_failed": Ending(True, Who.CALLER, "the name has no address"),
    "dns_timeout": Ending(True, Who.OPERATOR, "not resolved in time"),
    "address_refused": Ending(False, Who.OPERATOR, "not public; `--allow-net` opens it"),
    "port_refused": Ending(False, Who.OPERATOR, "not open; `--allow-ports` opens it"),
    "connect_failed": Ending(True, Who.SOURCE, "refused, or no route"),
    "connect_timeout": Ending(True, Who.SOURCE, "no connection in time"),
    "tls_failed": Ending(False, Who.SOURCE, "no TLS, or the certificate is not valid for the host"),
    "tls_timeout": Ending(True, Who.SOURCE, "TLS not set up in time"),
    "proxy_failed": Ending(True, Who.OPERATOR, "the proxy does not connect"),
    "header_timeout": Ending(True, Who.SOURCE, "no answer in time"),
    "headers_too_large": Ending(
        False, Who.SOURCE, "a line of headers beyond 64 KiB, or 128 KiB of them"
    ),
    "idle_timeout": Ending(True, Who.SOURCE, "the body stopped"),
    "too_slow": Ending(True, Who.SOURCE, "the body comes too slowly"),
    "member_timeout": Ending(False, Who.OPERATOR, "not done within `--member-timeout`"),
    "connection_lost": Ending(True, Who.SOURCE, "closed before an answer"),
    "http_error": Ending(
        False,
        Who.CALLER,
        "such as 404; 202 is tried again, and what has `Retry-After` or is in `retry_on`",
    ),
    "http_throttled": Ending(True, Who.NOBODY, "429, or 503 with `Retry-After`"),
    "http_unavailable": Ending(True, Who.SOURCE, "408, 425, and 5xx but 501 and 505"),
    "too_many_redirects": Ending(False, Who.SOURCE, "more than `--max-redirects`"),
    "bad_response": Ending(
        False, Who.SOURCE, "not HTTP, of unclear length, or a redirect to no URL"
    ),
    "bad_range": Ending(
        True, Who.SOURCE, "a part of the file that does not continue the one before"
    ),
    "content_encoded": Ending(False, Who.SOURCE, "its compression is damaged, or grows too much"),
    "body_short": Ending(True, Who.SOURCE, "the connection ended too early"),
    "body_long": Ending(False, Who.SOURCE, "more bytes than announced"),
    "too_large": Ending(
        False, Who.OPERATOR, "more than `--member-bytes`, or `max_bytes` of `expect`"
    ),
    "too_small": Ending(False, Who.SOURCE, "less than `min_bytes` of `expect`"),
    "unexpected_type": Ending(False, Who.SOURCE, "not one of the types of `expect`"),
    "checksum_mismatch": Ending(False, Who.CALLER, "not the SHA-256 that the batch gave"),
    "batch_failed": Ending(False, Who.CALLER, "not tried, because too many others had failed"),
    "batch_timeout": Ending(False, Who.CALLER, "not done within the batch's `timeout`"),
}


#: Codes of failures after which the host may be away.
AWAY_CODES = frozenset(
    (
        *("dns_timeout", "connect_failed", "connect_timeout", "tls_timeout", "header_timeout"),
        "connection_lost",
    )
)
#: Codes of failures that show that the host is not away.
THERE_CODES = frozenset(
    (
        *("tls_failed", "headers_too_large", "idle_timeout", "too_slow", "too_many_redirects"),
        *("bad_response", "bad_range", "content_encoded", "body_short", "body_long"),
        *("too_large", "too_small", "unexpected_type", "checksum_mismatch"),
    )
)


PART_CODES = {
    "cancelled": Ending(False, Who.CALLER, "the batch was cancelled"),
    "expired": Ending(False, Who.CALLER, "not begun within the batch's `expires`"),
    "hopeless": Ending(
        False, Who.CALLER, "ended, because too many members of the batch had failed"
    ),
    "retries": Ending(True, Who.OPERATOR, "each try failed; `detail` has the last reason"),
    "fatal": Ending(False, Who.OPERATOR, "it failed, and another try would fail, too"),
    "poison": Ending(False, Who.OPERATOR, "three processes died that ran only this part"),
}
