"""Masks the secrets of URLs for zips, callbacks, answers and logs.

A URL carries secrets as user info (``http://user:password@host``) and as values of its query, of
its fragment and of parameters of its path (``?X-Amz-Signature=``, ``;jsessionid=``). docs/limits.md
has the list of keys whose values are masked.
"""

import re
from typing import Literal
from urllib.parse import unquote

from twisted_bulk.system.urls import normal

#: How a batch's URLs are shown: as they are, without secrets, only the host, not at all.
Show = Literal["full", "masked", "host", "none"]

MASK = "***"
#: A key carries a secret if its letters and digits contain one of these texts,
SECRET_PARTS = (
    *("access", "apikey", "authkey", "authoriz", "authtoken", "cookie", "credential", "hmac"),
    *("jwt", "oauth", "passphrase", "passwd", "password", "private", "pwd", "secret", "security"),
    *("sessid", "session", "signature", "subscriptionkey", "token", "xamz", "xgoog"),
)
#: or if one of its words is one of these. Words end at other signs than letters and digits.
SECRET_WORDS = frozenset(
    (
        *("auth", "code", "hash", "hdnea", "hdnts", "key", "md5", "nonce", "otp", "pass", "pin"),
        *("policy", "pw", "sas", "sid", "sig", "sign", "ticket", "user", "username"),
    )
)
_SECRET = re.compile("|".join(SECRET_PARTS))
_USERINFO = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*:)?//[^/?#]*@")
_PAIR = re.compile(r"([?&;#])([^?=&;#]*)=([^&;#]*)")
_PARAMETER = re.compile(r"(;)([^=;/]*)=([^;/]*)")  # of a path
#: In a text that is no URL: whatever may be meant as user info, though it has slashes in it.
_MISPLACED_USERINFO = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*:/*)?.*@", re.DOTALL)
_INNER_USERINFO = re.compile(r"(?:^[/\\]{2}|:[/\\]+)[^/\\?#]*@")
_INNER_KEY = re.compile(r"[?&;#]([^?=&;#]*)=")
_HOST = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


def is_secret(key: str) -> bool:
    """Whether the value of ``key`` is masked."""
    words = re.findall(r"[a-z0-9]+", unquote(unquote(key)).lower())
    return not SECRET_WORDS.isdisjoint(words) or bool(_SECRET.search("".join(words)))


def _has_secret(value: str) -> bool:
    """Whether a value is a URL with a secret, also when it is percent-encoded up to twice."""
    for _ in range(3):
        if _INNER_USERINFO.search(value) or any(map(is_secret, _INNER_KEY.findall(value))):
            return True
        value = unquote(value)
    return False


def mask(url: str) -> str:
    """``url`` without user info, and with :data:`MASK` for the values of secret keys."""
    url = _USERINFO.sub(lambda found: f"{found[1] or ''}//", url)

    def pair(found: re.Match[str]) -> str:
        masked = is_secret(found[2]) or _has_secret(found[3])
        return f"{found[1]}{found[2]}={MASK if masked else found[3]}"

    begin = next((n for n, letter in enumerate(url) if letter in "?#"), len(url))
    return _PARAMETER.sub(pair, url[:begin]) + _PAIR.sub(pair, url[begin:])


def show(url: str, how: Show | str = "masked") -> str:
    """``url`` as it may be shown, see :data:`Show`. It may be a text that is no URL."""
    if how == "full":
        return url
    if how == "none":
        return ""
    masked = mask(url if "@" not in url or normal(url) else _MISPLACED_USERINFO.sub(r"\1", url))
    if how == "host":
        found = _HOST.match(masked)
        return found[0] if found else ""
    return masked
