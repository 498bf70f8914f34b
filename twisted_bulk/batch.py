"""A batch: the request read and checked, and what its parts and members are.

Pure: no I/O, no clock, no reactor.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from isal import isal_zlib

from twisted_bulk.errors import InvalidRequest

MAX_PARTS = 10_000
MAX_URL = 8192
MAX_NAME = 1000
MAX_HEADERS = 16_384

_TASK_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
# What is refused here would be refused or misread by the HTTP client later.
_URL = re.compile(
    r"(?i:https?)://(?:[^\s/?#@]*@)?(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]\\]+)(?::(\d{1,5}))?"
    r"(?:[/?#][^\s\x00-\x1f\x7f]*)?"
)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# Headers that belong to the connection, or on which our own checks depend.
_OURS = frozenset(
    (
        *("accept-encoding", "connection", "content-length", "expect", "host", "if-match"),
        *("if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "keep-alive"),
        *("proxy-authorization", "proxy-connection", "range", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    )
)

Mode = Literal["auto", "store", "deflate"]


Priority = Annotated[int, msgspec.Meta(ge=-1000, le=1000)]
T = TypeVar("T")


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One URL of a batch; ``name`` is its file's in the archive."""

    url: str
    name: str = ""
    headers: dict[str, str] = {}
    sha256: str = ""


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of a POST."""

    download: list[str | Member]
    task_id: str | int | None = None
    url: str = ""
    policy: Literal["partial", "strict"] | Annotated[float, msgspec.Meta(gt=0, le=1)] = "partial"
    priority: Priority = 0
    compress: Mode | None = None
    headers: dict[str, str] = {}
    expires: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 0
    timeout: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 0
    layout: Literal["flat", "sharded"] = "flat"
    notify_format: Literal["json", "form"] = "json"


class Spec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of a submission beside its members."""

    url: str = ""
    notify_format: str = "json"


class PartSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part's job.

    :param spare: members that may fail before the batch has failed
    :param notify: whether somebody wants progress callbacks
    """

    batch: str
    part: int
    parts: int
    spare: int
    compress: Mode = "auto"
    headers: dict[str, str] = {}
    timeout: float = 0
    layout: str = "flat"
    notify: bool = False


class Outcome(msgspec.Struct, frozen=True):
    """What became of one member: a line of the manifest.

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


class PartProgress(msgspec.Struct, frozen=True):
    """What a worker tells with its heartbeats."""

    done: int = 0
    failed: int = 0
    bytes: int = 0
    rate: float = 0.0


class Zip(msgspec.Struct, frozen=True):
    """One zip of a part; ``link`` is its path on the file port."""

    link: str
    size: int
    sha256: str
    members: int


class PartResult(msgspec.Struct, frozen=True):
    """What a part's ack leaves; ``folder`` has its files on the file port."""

    folder: str
    zips: list[Zip]
    done: int
    failed: int
    bytes: int
    errors: list[dict[str, Any]]


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a batch's PATCH."""

    priority: Priority


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of the queue's PATCH: live settings; null takes one back."""

    stop: bool | msgspec.UnsetType | None = msgspec.UNSET
    paused: bool | msgspec.UnsetType | None = msgspec.UNSET
    max_doing: Annotated[int, msgspec.Meta(ge=0)] | msgspec.UnsetType | None = msgspec.UNSET
    qps: Annotated[float, msgspec.Meta(gt=0)] | msgspec.UnsetType | None = msgspec.UNSET
    cap: Annotated[int, msgspec.Meta(ge=0)] | msgspec.UnsetType | None = msgspec.UNSET

    @property
    def given(self) -> dict[str, Any]:
        """Those that the body has."""
        return {
            name: value
            for name, value in msgspec.structs.asdict(self).items()
            if value is not msgspec.UNSET
        }


_members = msgspec.msgpack.Decoder(list[Member])


def _check_headers(headers: dict[str, str], where: str) -> None:
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
            raise InvalidRequest(f"{where}: {name!r} is not a header that can be sent")
        if name.lower() in _OURS:
            raise InvalidRequest(f"{where}: {name} is set by bulkwav itself")
    if sum(len(name) + len(value) for name, value in headers.items()) > MAX_HEADERS:
        raise InvalidRequest(f"{where}: more than {MAX_HEADERS} bytes")


def host_of(url: str) -> str:
    """The lower-case ``host[:port]`` of a checked URL: what per-host limits count by."""
    match = _URL.fullmatch(url)
    assert match is not None, url
    return f"{match[1]}:{match[2]}".lower() if match[2] else match[1].lower()


def is_url(url: str) -> bool:
    """Whether ``url`` is one that we would fetch."""
    match = _URL.fullmatch(url) if len(url) <= MAX_URL else None
    if match is None or (match[2] and not 0 < int(match[2]) < 65536):
        return False
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:  # brackets around what is no address, look-alikes of separators
        return False


def _check_url(url: str, where: str) -> None:
    if not is_url(url):
        raise InvalidRequest(f"{where}: not an http or https URL of at most {MAX_URL} characters")


def _check_member(entry: str | Member, where: str) -> Member:
    member = Member(entry) if isinstance(entry, str) else entry
    _check_url(member.url, where)
    if len(member.name) > MAX_NAME:
        raise InvalidRequest(f"{where}.name: more than {MAX_NAME} characters")
    if member.headers:
        _check_headers(member.headers, f"{where}.headers")
    if member.sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", member.sha256):
        raise InvalidRequest(f"{where}.sha256: not 64 hexadecimal digits")
    return member


def read(body: bytes, kind: type[T]) -> T:
    """Decode a request's body.

    :raises InvalidRequest: names the field and what was expected there
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"not JSON: {error}") from None


def read_submission(body: bytes, max_urls: int) -> tuple[Submission, list[Member]]:
    """Decode and check a POST's body.

    :raises InvalidRequest: names the field and what was expected there
    """
    submission = read(body, Submission)
    task_id = submission.task_id
    if task_id is not None and not _TASK_ID.fullmatch(str(task_id)):
        raise InvalidRequest("$.task_id: expected 1 to 128 of A-Z a-z 0-9 . _ ~ -, or an integer")
    if not submission.download:
        raise InvalidRequest("$.download: expected at least one URL")
    if len(submission.download) > max_urls:
        raise InvalidRequest(f"$.download: {len(submission.download)} URLs, at most {max_urls}")
    if submission.url:
        _check_url(submission.url, "$.url")
    _check_headers(submission.headers, "$.headers")
    members = [
        _check_member(entry, f"$.download[{n}]") for n, entry in enumerate(submission.download)
    ]
    return submission, members


def digest(submission: Submission) -> str:
    """The same for the same request, however its JSON was written."""
    return hashlib.sha256(msgspec.json.encode(submission, order="deterministic")).hexdigest()


def need(submission: Submission, total: int) -> int:
    """How many members must succeed for the batch not to have failed."""
    if submission.policy == "strict":
        return total
    if submission.policy == "partial":
        return 1
    return max(1, math.ceil(submission.policy * total - 1e-9))


def pack_members(members: Sequence[Member]) -> bytes:
    """Members as they are kept in the queue: msgpack, deflated."""
    packed: bytes = isal_zlib.compress(msgspec.msgpack.encode(members), 1)
    return packed


def unpack_members(data: bytes) -> list[Member]:
    """The reverse of :func:`pack_members`."""
    return _members.decode(isal_zlib.decompress(data))
