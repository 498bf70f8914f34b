"""URLs as browsers read them: the URL Standard of the WHATWG. Pure.

:func:`tidy` makes the text that is kept and shown; :func:`normal` makes the ASCII text that is sent
to servers. Both give the same result for a text that they have made.
"""

import re
from base64 import b64encode
from functools import lru_cache
from urllib.parse import unquote

import ada_url

MAX_URL_LENGTH = 16 * 1024  # characters; a longer text is no URL

#: What is removed around a URL. By the standard these are control characters and blanks.
_AROUND = "".join(map(chr, range(0x21)))
#: Signs that cannot be seen, and come with a text: a BOM, blanks of other kinds.
_AROUND += "\u00a0\u200b\u2060\u3000\ufeff"
_BREAKS = str.maketrans("", "", "\t\n\r")  # what it removes within
#: Most URLs, which are as :func:`tidy` and :func:`normal` would make them, and need not be parsed.
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_PLAIN = re.compile(
    rf"https?://(?:(?:[a-z0-9-]+\.)*[a-z][a-z0-9-]*|(?:{_OCTET}\.){{3}}{_OCTET})"
    r"(?::(?!80/|443/)(?:[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5]))?"
    r"(?:/(?!\.)[\w.~!$&'()*+,;=:@-]*)+(?:\?[\w.~!$&()*+,;=:@/?-]*)?",
    re.ASCII,
)
_SCHEME = re.compile(r"(?i)(https?):[/\\]*")
_NORMAL = re.compile(r"(https?)://(?:[^/?#@]*@)?(\[[0-9a-f:.]+\]|[^/?#@:]+)(?::(\d+))?[/?]?")
_USERINFO = re.compile(r"(https?://)([^/?#]*)@")
_PORTS = {"http": 80, "https": 443}


def tidy(text: str) -> str:
    """``text`` without blanks around it and line ends in it, and with slashes as separators.

    A text that is no URL stays one that is none; of a longer one the beginning is kept.
    """
    if _is_plain(text):
        return text
    text = text.strip(_AROUND).translate(_BREAKS)[: MAX_URL_LENGTH + 1]
    found = _SCHEME.match(text)
    if found is None:
        return text
    if "\\" in text or not text.startswith("://", found.end(1)) or text[found.end() - 3] != ":":
        rest = text[found.end() :]
        end = next((n for n, letter in enumerate(rest) if letter in "?#"), len(rest))
        text = f"{found[1]}://{rest[:end].replace(chr(92), '/')}{rest[end:]}"
    return text


def _is_plain(text: str) -> bool:
    return len(text) <= MAX_URL_LENGTH and _PLAIN.fullmatch(text) is not None and "xn--" not in text


def normal(text: str) -> str:
    """The URL in ASCII, with its host by UTS 46 and without its fragment; empty: it is none.

    Only http and https URLs of at most :data:`MAX_URL_LENGTH` characters count.
    """
    return text if _is_plain(text) else _parsed(text)


@lru_cache(maxsize=1024)
def _parsed(text: str) -> str:
    if len(text) > MAX_URL_LENGTH:
        return ""
    try:
        found: str = ada_url.normalize_url(text)
    except ValueError:
        return ""
    found = found.partition("#")[0]
    match = _NORMAL.match(found)
    return found if match and match[3] != "0" else ""


def reason(text: str) -> str:
    """Why ``text`` is no URL, for people."""
    if len(text) > MAX_URL_LENGTH:
        return f"longer than {MAX_URL_LENGTH} characters"
    if not re.match(r"(?i)https?://", text):
        return "not an http or https URL"
    return "its host or port is not valid"


def join(base: str, reference: str) -> str:
    """``reference``, read as a link on the page ``base``, as :func:`normal` returns it."""
    try:
        return normal(ada_url.join_url(base, reference))
    except ValueError:
        return ""


def _origin(url: str) -> tuple[str, str, int]:
    match = _NORMAL.match(normal(url))
    if match is None:
        return "", "", 0
    scheme, host = match[1], match[2].rstrip(".")
    return scheme, host, int(match[3] or _PORTS[scheme])


@lru_cache(maxsize=512)  # called four times for each member
def host_of(url: str) -> str:
    """The ``host[:port]`` of a URL, in one spelling; empty: it is no URL.

    The limits per host count by it.
    """
    scheme, host, port = _origin(url)
    return f"{host}:{port}" if host and port != _PORTS[scheme] else host


def may_have_secrets_of(url: str, before: str) -> bool:
    """Whether a request for ``url`` may have the credentials that were for ``before``.

    Scheme, host and port have to be alike, or it is the https URL of an http one, both with the
    usual ports.
    """
    here, there = _origin(url), _origin(before)
    upgraded = here[0] == "https" and there[0] == "http" and (here[2], there[2]) == (443, 80)
    return here == there or (upgraded and here[1] == there[1])


def take_userinfo(url: str) -> tuple[str, str]:
    """``url`` without ``user:password@``, and these decoded, or ``""``.

    :param url: as :func:`normal` returns it
    """
    found = _USERINFO.match(url)
    if found is None:
        return url, ""
    return f"{found[1]}{url[found.end() :]}", unquote(found[2])


def basic(userinfo: str) -> str:
    """The value of Authorization for ``user:password`` (RFC 7617)."""
    if ":" not in userinfo:
        userinfo += ":"
    return f"Basic {b64encode(userinfo.encode()).decode()}"
