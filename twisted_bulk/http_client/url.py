"""Prepares URLs for the HTTP client: user info, IDNA, percent-encoding."""

import re
from base64 import b64encode
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import idna
from hyperlink import EncodedURL


def take_userinfo(url: str) -> tuple[str, str]:
    """``url`` without ``user:password@``, and the value of Authorization for it, or ``""``."""
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, ""
    token = b64encode(unquote(userinfo).encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), f"Basic {token}"


def to_ascii(url: str) -> str:
    """``url`` in ASCII: the host's name by IDNA, everything else as percent-encoded UTF-8.

    Unicode is not normalized: for a server, composed and decomposed letters are different names.

    :raises UnicodeError: the host's name is not valid in IDNA
    """
    if url.isascii():
        return url
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    name, colon, port = host.partition(":")
    if not name.isascii():
        name = idna.encode(name, uts46=True).decode("ascii")
    netloc = f"{_percent(userinfo)}{at}{name}{colon}{port}"
    return urlunsplit(parts._replace(netloc=netloc)[:2] + tuple(map(_percent, parts[2:])))


def _percent(text: str) -> str:
    return re.sub(r"[^\x00-\x7f]+", lambda found: quote(found[0]), text)


def plain(url: str) -> EncodedURL:
    """``url`` in a form that treq sends without a change.

    :raises UnicodeError: the host's name is not valid in IDNA
    """
    return _Plain(to_ascii(url))


class _Plain(EncodedURL):
    """An ASCII URL that is not parsed.

    hyperlink would parse it and encode its host with IDNA. That takes a tenth of a small request's
    time, and refuses IPv6 addresses.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def to_uri(self) -> "_Plain":
        return self

    def to_text(self, with_password: bool = False) -> str:
        return self._text
