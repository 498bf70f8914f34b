"""Parses the URL of an HTTP proxy."""

from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Proxy:
    """A proxy; ``authorization``: the value of Proxy-Authorization, or empty."""

    host: str
    port: int
    authorization: bytes = b""


def parse_proxy(url: str) -> Proxy:
    """:raises ValueError: it is not the URL of an HTTP proxy; its text says what was expected"""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if (
        port == 0
        or parts.scheme != "http"
        or not parts.hostname
        or parts.path.strip("/")
        or parts.query
    ):
        raise ValueError("a proxy such as http://proxy.example:3128")
    token = b""
    if parts.username is not None:
        words = unquote(parts.username), unquote(parts.password or "")
        token = b"Basic " + b64encode(":".join(words).encode())
    return Proxy(parts.hostname, port or 80, token)
