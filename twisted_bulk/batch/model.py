"""The data of a batch: its members, its parts, what became of them; which URLs are taken."""

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from isal import isal_zlib

MAX_URL_LENGTH = 8192  # characters; a longer URL is refused

#: Other URLs are refused: the HTTP client would refuse or misread them later.
_URL = re.compile(
    r"(?i:https?)://(?:[^\s/?#@]*@)?(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]\\]+)(?::(\d{1,5}))?"
    r"(?:[/?#][^\s\x00-\x1f\x7f]*)?"
)
Mode = Literal["auto", "store", "deflate"]


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """One URL of a batch.

    ``name``: of its file in the archive. ``headers``: sent with its request. ``sha256``: expected,
    64 hexadecimal digits or empty.

    All structures that are read from the queue ignore fields that they do not know: a newer version
    of the program may have written them.
    """

    url: str
    name: str = ""
    headers: dict[str, str] = {}
    sha256: str = ""


class Spec(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fields of a submission that its callbacks and answers need.

    :param url: of the callback, or empty
    :param owner: name of the token that submitted it, or empty
    """

    url: str = ""
    notify_format: str = "json"
    owner: str = ""


class PartSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """The payload of a part's job.

    :param batch: the batch's key in the queue, see :func:`key_of`
    :param part: its number, from 1
    :param parts: how many the batch has
    :param spare: how many members of the batch may fail before the batch fails
    :param timeout: seconds that one attempt may take; 0: the server's setting
    :param notify: the host that gets progress callbacks, or empty
    :param first: how many members of the batch are in the parts before this one
    :param show_urls: see :data:`twisted_bulk.batch.masks.Show`
    """

    batch: str
    part: int
    parts: int
    spare: int
    compress: Mode = "auto"
    headers: dict[str, str] = {}
    timeout: float = 0
    layout: str = "flat"
    notify: str = ""
    first: int = 0
    show_urls: str = "masked"


class Outcome(msgspec.Struct, frozen=True):
    """The result of one member: a line of the manifest.

    :param url: as it may be shown
    :param member: its number in the batch, from 1; 0: an older version of the program wrote it
    :param status: ``done``, ``failed``, or ``unverified`` (the server did not say how long it is)
    :param code: of the error, see docs/errors.md, or empty
    :param volume: number of the zip that has it among the part's zips, from 1
    """

    url: str
    name: str
    status: str
    code: str
    detail: str
    bytes: int
    sha256: str
    attempts: int
    part: int
    volume: int = 1
    member: int = 0


class PartProgress(msgspec.Struct, frozen=True):
    """The progress of a part, which its worker sends with each heartbeat.

    :param rate: bytes a second
    :param waits_for: why nothing goes on for now, or empty
    :param errors: of the first members that have failed, see :func:`report.error_of`
    :param node: name of the host where it runs
    """

    done: int = 0
    failed: int = 0
    bytes: int = 0
    rate: float = 0.0
    waits_for: str = ""
    errors: list[dict[str, Any]] = []
    node: str = ""


class Zip(msgspec.Struct, frozen=True):
    """One zip of a part; ``link`` is its path on the file port, without the first slash."""

    link: str
    size: int
    sha256: str
    members: int


class PartResult(msgspec.Struct, frozen=True):
    """The result of a part's job.

    :param folder: the public folder of its files
    :param errors: as those of :class:`PartProgress`
    :param node: name of the host that has the files
    """

    folder: str
    zips: list[Zip]
    done: int
    failed: int
    bytes: int
    errors: list[dict[str, Any]]
    node: str = ""


def key_of(owner: str, task_id: str) -> str:
    """The key of a batch in the queue. Two tokens may use one id for two batches.

    :param owner: name of the token, or empty
    """
    return f"{owner}:{task_id}" if owner else task_id


def task_of(key: str) -> str:
    """The id of a batch as its owner gave it, from the key in the queue."""
    return key.rpartition(":")[2]


_members = msgspec.msgpack.Decoder(list[Member])


@lru_cache(maxsize=512)  # called four times for each member
def host_of(url: str) -> str:
    """The ``host[:port]`` of a URL, in one spelling: the limits per host count by it.

    :param url: for which :func:`is_url` is true
    """
    match = _URL.fullmatch(url)
    assert match is not None, url
    host, port = _one_form(match[1].lower()), int(match[2] or 0)
    default = 443 if url[:5].lower() == "https" else 80
    return f"{host}:{port}" if port not in (0, default) else host


def _one_form(host: str) -> str:
    """A host name without the dot at its end, or an address in its usual spelling."""
    host = host.rstrip(".")
    try:
        if host.startswith("["):
            return f"[{ipaddress.ip_address(host[1:-1])}]"
        if host[-1:].isdigit() or "x" in host:
            return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, ValueError):
        pass
    return host


def is_url(url: str) -> bool:
    """Whether ``url`` is a URL that can be fetched."""
    match = _URL.fullmatch(url) if len(url) <= MAX_URL_LENGTH else None
    if match is None or (match[2] and not 0 < int(match[2]) < 65536):
        return False
    if url.isascii() and "[" not in url and "]" not in url:
        return True
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:  # brackets without an address in them, letters that look like separators
        return False


def pack_members(members: Iterable[Sequence[Member]], total: int) -> bytes:
    """The bytes of members in the queue: a msgpack array, deflated.

    :param members: in order, in lists of any length
    :param total: how many they are in all
    """
    deflate = isal_zlib.compressobj(1)
    packed = [deflate.compress(b"\xdd" + total.to_bytes(4, "big"))]  # an array of that length
    for some in members:
        packed += [deflate.compress(b"".join(map(msgspec.msgpack.encode, some)))]
    return b"".join([*packed, deflate.flush()])


def unpack_members(data: bytes) -> list[Member]:
    """The members from the bytes that :func:`pack_members` returned."""
    return _members.decode(isal_zlib.decompress(data))
