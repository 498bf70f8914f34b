"""The data of a batch: its members, its parts, what became of them."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
from isal import isal_zlib

from twisted_bulk.batch.expectations import ANYTHING, Expect
from twisted_bulk.batch.failure_counts import Group
from twisted_bulk.batch.names import MANIFEST

Mode = Literal["auto", "store", "deflate"]


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """One URL of a batch.

    ``url``: as ``urls.tidy`` returns it; it may be no URL. ``name``: of its file in the archive.
    ``headers``: sent with its request. ``sha256``: expected, 64 hexadecimal digits or empty.
    ``expect``: in place of the batch's; None: that one counts.

    All structures that are read from the queue ignore fields that they do not know: a newer version
    of the program may have written them.
    """

    url: str
    name: str = ""
    headers: dict[str, str] = {}
    sha256: str = ""
    expect: Expect | None = None


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
    :param filename: of its zips, without ending; empty: the batch's id
    :param manifest: the name of the manifest in its zips; empty: they have none
    :param expect: what its files have to be
    :param retry_on: statuses after which a member is tried again, too
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
    filename: str = ""
    manifest: str = MANIFEST
    expect: Expect = ANYTHING
    retry_on: tuple[int, ...] = ()


class Outcome(msgspec.Struct, frozen=True):
    """The result of one member: a line of the manifest.

    :param url: as it may be shown
    :param member: its number in the batch, from 1; 0: an older version of the program wrote it
    :param status: ``done``, ``failed``, or ``unverified`` (the server did not say how long it is)
    :param code: of the error, see docs/errors.md, or empty
    :param volume: number of the zip that has it among the part's zips, from 1
    :param type: its Content-Type, or empty
    :param encoding: its Content-Encoding, if its bytes are encoded; else empty
    :param warning: see :func:`twisted_bulk.batch.expectations.warning`
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
    type: str = ""
    encoding: str = ""
    warning: str = ""


class PartProgress(msgspec.Struct, frozen=True):
    """The progress of a part, which its worker sends with each heartbeat.

    :param rate: bytes a second
    :param waits_for: why nothing goes on for now, or empty
    :param errors: of the first members that have failed, see :func:`report.error_of`
    :param node: name of the host where it runs
    :param warnings: members that have a warning
    :param failures: failed members by error and host, see :mod:`twisted_bulk.batch.failure_counts`
    """

    done: int = 0
    failed: int = 0
    bytes: int = 0
    rate: float = 0.0
    waits_for: str = ""
    errors: list[dict[str, Any]] = []
    node: str = ""
    warnings: int = 0
    failures: list[Group] = []


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
    :param warnings: as that of :class:`PartProgress`
    :param failures: as those of :class:`PartProgress`
    """

    folder: str
    zips: list[Zip]
    done: int
    failed: int
    bytes: int
    errors: list[dict[str, Any]]
    node: str = ""
    warnings: int = 0
    failures: list[Group] = []


def key_of(owner: str, task_id: str) -> str:
    """The key of a batch in the queue. Two tokens may use one id for two batches.

    :param owner: name of the token, or empty
    """
    return f"{owner}:{task_id}" if owner else task_id


def task_of(key: str) -> str:
    """The id of a batch as its owner gave it, from the key in the queue."""
    return key.rpartition(":")[2]


_members = msgspec.msgpack.Decoder(list[Member])


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
