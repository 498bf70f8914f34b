"""A batch: what its parts and members are. Pure: no I/O, no clock, no reactor."""

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from isal import isal_zlib

MAX_URL = 8192

# What is refused here would be refused or misread by the HTTP client later.
_URL = re.compile(
    r"(?i:https?)://(?:[^\s/?#@]*@)?(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]\\]+)(?::(\d{1,5}))?"
    r"(?:[/?#][^\s\x00-\x1f\x7f]*)?"
)
Mode = Literal["auto", "store", "deflate"]


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """One URL of a batch; ``name`` is its file's in the archive.

    As everything that is read back from the queue it ignores fields that it does not know: a
    newer program may have written them.
    """

    url: str
    name: str = ""
    headers: dict[str, str] = {}
    sha256: str = ""


class Spec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of a submission beside its members.

    :param owner: name of the token that made it
    """

    url: str = ""
    notify_format: str = "json"
    owner: str = ""


class PartSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part's job.

    :param batch: the batch's key in the queue, see :func:`key_of`
    :param spare: members that may fail before the batch has failed
    :param notify: the host that wants progress callbacks, if one does
    :param first: members of the batch in the parts before this one
    :param show_urls: how URLs are shown, see :mod:`twisted_bulk.batch.masks`
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
    """What became of one member: a line of the manifest.

    :param url: as it may be shown
    :param member: its number in the batch, from 1; 0: a program before this one wrote it
    :param status: ``done``, ``unverified`` (whole as far as the server said) or ``failed``
    :param volume: of the part's zips, the one that has it
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
    """What a worker tells with its heartbeats.

    :param waits_for: what keeps it from getting on, or empty
    :param errors: of its first members that have failed
    :param node: the host where it runs
    """

    done: int = 0
    failed: int = 0
    bytes: int = 0
    rate: float = 0.0
    waits_for: str = ""
    errors: list[dict[str, Any]] = []
    node: str = ""


class Zip(msgspec.Struct, frozen=True):
    """One zip of a part; ``link`` is its path on the file port."""

    link: str
    size: int
    sha256: str
    members: int


class PartResult(msgspec.Struct, frozen=True):
    """What a part's ack leaves.

    :param folder: has its files on the file port of ``node``, a host's name
    """

    folder: str
    zips: list[Zip]
    done: int
    failed: int
    bytes: int
    errors: list[dict[str, Any]]
    node: str = ""


def key_of(owner: str, task_id: str) -> str:
    """What the queue knows a batch by: the ids of one token are no other's.

    :param owner: name of the token, or empty
    """
    return f"{owner}:{task_id}" if owner else task_id


def task_of(key: str) -> str:
    """The id that its owner knows the batch of ``key`` by."""
    return key.rpartition(":")[2]


_members = msgspec.msgpack.Decoder(list[Member])


@lru_cache(maxsize=512)  # asked four times for each member on its way
def host_of(url: str) -> str:
    """The ``host[:port]`` of a checked URL, in one form: what per-host limits count by."""
    match = _URL.fullmatch(url)
    assert match is not None, url
    host, port = _one_form(match[1].lower()), int(match[2] or 0)
    default = 443 if url[:5].lower() == "https" else 80
    return f"{host}:{port}" if port not in (0, default) else host


def _one_form(host: str) -> str:
    """A host's name without the dot of the root; an address in its usual spelling."""
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
    """Whether ``url`` is one that we would fetch."""
    match = _URL.fullmatch(url) if len(url) <= MAX_URL else None
    if match is None or (match[2] and not 0 < int(match[2]) < 65536):
        return False
    if url.isascii() and "[" not in url and "]" not in url:
        return True
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:  # brackets around what is no address, look-alikes of separators
        return False


def pack_members(members: Iterable[Sequence[Member]], total: int) -> bytes:
    """Members as they are kept in the queue: msgpack, deflated.

    :param members: some at a time; ``total`` in all
    """
    deflate = isal_zlib.compressobj(1)
    packed = [deflate.compress(b"\xdd" + total.to_bytes(4, "big"))]  # an array of so many
    for some in members:
        packed += [deflate.compress(b"".join(map(msgspec.msgpack.encode, some)))]
    return b"".join([*packed, deflate.flush()])


def unpack_members(data: bytes) -> list[Member]:
    """The reverse of :func:`pack_members`."""
    return _members.decode(isal_zlib.decompress(data))
