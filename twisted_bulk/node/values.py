"""Parsers of the texts of settings.

Each raises ValueError when the text is wrong. The error's message says what was expected.
"""

import grp
import ipaddress
import re
from collections.abc import Callable
from enum import StrEnum

from twisted_bulk.brokers.redis_url import EXPECTED, parse_redis_url
from twisted_bulk.dialing.proxy import parse_proxy
from twisted_bulk.system.net import Network
from twisted_bulk.system.units import duration, size


class Role(StrEnum):
    """One of the jobs that a node can do."""

    INTAKE = "intake"
    WORKER = "worker"
    FILES = "files"


_PINNED = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^=/@:\[\]]+)(:\d{1,5})?")  # a host of --trust
MIN_MEMORY = 16_000_000  # bytes of data for the embedded server; it needs some for itself


def memory(text: str) -> int:
    """Bytes that the embedded server may use for data; 0: no limit."""
    found = size(text)
    if 0 < found < MIN_MEMORY:
        raise ValueError("0, or at least 16M")
    return found


def positive(text: str) -> float:
    """A duration of more than 0 seconds."""
    seconds = duration(text)
    if seconds <= 0:
        raise ValueError("a time longer than 0, such as 0.5 or 3s")
    return seconds


def number(least: int, most: int) -> Callable[[str], int]:
    """A parser of whole numbers from ``least`` to ``most``."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,18}", text) or not least <= int(text) <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return int(text)

    return parse


def choice(*words: str) -> Callable[[str], str]:
    """A parser of a text that is one of ``words``."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError("one of " + ", ".join(words))
        return text

    return parse


def roles(text: str) -> frozenset[Role]:
    """Roles, separated by commas; at least one."""
    try:
        return frozenset(map(Role, text.replace(" ", "").split(",")))
    except ValueError:
        raise ValueError("a comma-separated choice of " + ", ".join(Role)) from None


def networks(text: str) -> tuple[Network, ...]:
    """Networks in CIDR notation, separated by commas or spaces."""
    try:
        return tuple(ipaddress.ip_network(net) for net in re.split(r"[,\s]+", text) if net)
    except ValueError:
        raise ValueError("networks such as 10.0.0.0/8 or fd00::/8, separated by commas") from None


def flag(text: str) -> bool:
    """``yes`` or ``no``."""
    if text.lower() in ("yes", "true", "on", "1"):
        return True
    if text.lower() in ("no", "false", "off", "0"):
        return False
    raise ValueError("yes or no")


def endpoint(text: str) -> str:
    """A Twisted server endpoint; its details are checked later, when it is opened."""
    if not re.match(r"[a-z0-9]+:", text):
        raise ValueError("a Twisted endpoint such as tcp:10000 or unix:/run/bulkwav.sock")
    return text


def redis_url(text: str) -> str:
    """``embedded``, or a URL that :mod:`twisted_bulk.brokers.redis_url` parses."""
    if text != "embedded":
        try:
            parse_redis_url(text)
        except ValueError as error:
            raise ValueError(f"embedded, {EXPECTED} ({error})") from None
    return text


def broker_url(text: str) -> str:
    """Empty, ``memory:`` or ``sqlite:///path``."""
    if text not in ("", "memory:") and not re.fullmatch(r"sqlite://(/[^?#]+)", text):
        raise ValueError("memory: or sqlite:///path/to/file")
    return text


def frequency(text: str) -> float:
    """How many in a second; 0: no limit."""
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text):
        raise ValueError("a number such as 20 or 0.5")
    return float(text)


def public_url(text: str) -> str:
    """An http or https URL without query, or empty. A slash at its end is removed."""
    if text and not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", text):
        raise ValueError("an http or https URL without query")
    return text.rstrip("/")


def hosts(text: str) -> tuple[str, ...]:
    """Host names, separated by commas, or empty."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not all(re.fullmatch(r"[A-Za-z0-9.-]{1,253}", name) for name in names):
        raise ValueError("host names such as bulk.office.example")
    return names


def ports(text: str) -> tuple[range, ...]:
    """Ports and ranges of ports, separated by commas."""
    found = [re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part.strip()) for part in text.split(",")]
    chosen = [range(int(m[1]), int(m[2] or m[1]) + 1) for m in found if m]
    if len(chosen) != len(found) or not all(r and r[0] > 0 and r[-1] < 65536 for r in chosen):
        raise ValueError("ports such as 80,443,1024-65535")
    return tuple(chosen)


def proxy_url(text: str) -> str:
    """Empty, or a URL that :mod:`twisted_bulk.dialing.proxy` parses."""
    if text:
        parse_proxy(text)
    return text


def numbers(text: str) -> frozenset[int]:
    """Ports, separated by commas, or empty."""
    if not re.fullmatch(r"(\d{1,5}(,\d{1,5})*)?", text):
        raise ValueError("ports such as 80,443")
    return frozenset(map(int, filter(None, text.split(","))))


def pins(text: str) -> dict[str, frozenset[str]]:
    """Pinned certificates: ``HOST[:PORT]=SHA256``, separated by commas or blanks."""
    found: dict[str, frozenset[str]] = {}
    for word in filter(None, re.split(r"[,\s]+", text)):
        host, _, digest = word.rpartition("=")
        digest = digest.replace(":", "").lower()
        if not _PINNED.fullmatch(host) or not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ValueError("HOST=SHA256 or HOST:PORT=SHA256, 64 hexadecimal digits")
        host = host.lower()
        found[host] = found.get(host, frozenset()) | {digest}
    return found


def statuses(text: str) -> tuple[int, ...]:
    """HTTP statuses from 300 to 599, separated by commas, or empty."""
    if not re.fullmatch(r"([345]\d\d(,[345]\d\d)*)?", text.replace(" ", "")):
        raise ValueError("HTTP statuses such as 404,409")
    return tuple(sorted({int(word) for word in text.split(",") if word.strip()}))


def group(text: str) -> int | None:
    """The id of the group with this name; None: the text is empty."""
    if not text:
        return None
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        raise ValueError("the name of a group of this system") from None
