"""URLs as the HTTP client is given them."""

from base64 import b64encode
from urllib.parse import unquote, urlsplit, urlunsplit

from hyperlink import EncodedURL


def take_userinfo(url: str) -> tuple[str, str]:
    """``url`` without ``user:password@``, and what ``Authorization`` says instead, or nothing."""
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, ""
    token = b64encode(unquote(userinfo).encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), f"Basic {token}"


def plain(url: str) -> "str | EncodedURL":
    """What treq takes as it stands, where that is possible."""
    return _Plain(url) if url.isascii() else url


class _Plain(EncodedURL):
    """An ASCII URL as it stands: hyperlink would take it apart and run its host through IDNA,
    which takes a tenth of a small request's time and refuses IPv6 addresses."""

    def __init__(self, text: str) -> None:
        self._text = text

    def to_uri(self) -> "_Plain":
        return self

    def to_text(self, with_password: bool = False) -> str:
        return self._text
