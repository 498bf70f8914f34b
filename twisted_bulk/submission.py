"""What users may send: the bodies of the API's calls, read and checked. Pure."""

import functools
import hashlib
import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from twisted_bulk.batch import MAX_URL, Member, Mode, is_url
from twisted_bulk.errors import InvalidRequest
from twisted_bulk.unique import check_keys, check_order

MAX_PARTS = 10_000
MAX_NAME = 1000
MAX_HEADERS = 16_384
SOME = 1000  # members that are objects at one time

_TASK_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}")
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

Priority = Annotated[int, msgspec.Meta(ge=-1000, le=1000)]


class NamedMember(Member, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A member as users may send it: what we do not know they may have meant."""


ENTRY = str | NamedMember


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of a POST.

    :param download: a URL or a :class:`~twisted_bulk.batch.Member` each, as they came: as
        objects a million of them would take 300 MB
    """

    download: list[msgspec.Raw]
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


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a batch's PATCH."""

    priority: Priority


Speed = Annotated[int, msgspec.Meta(ge=0, le=10**15)]


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of the file port's PATCH: bytes a second; 0 is no limit."""

    rate: Speed | None = None
    total_rate: Speed | None = None


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of the queue's PATCH: live settings; null takes one back."""

    stop: bool | msgspec.UnsetType | None = msgspec.UNSET
    paused: bool | msgspec.UnsetType | None = msgspec.UNSET
    max_doing: Annotated[int, msgspec.Meta(ge=0, le=10**12)] | msgspec.UnsetType | None = (
        msgspec.UNSET
    )
    qps: Annotated[float, msgspec.Meta(ge=0.001, le=1e6)] | msgspec.UnsetType | None = msgspec.UNSET
    cap: Annotated[int, msgspec.Meta(ge=0, le=10**12)] | msgspec.UnsetType | None = msgspec.UNSET

    @property
    def given(self) -> dict[str, Any]:
        """Those that the body has."""
        return {
            name: value
            for name, value in msgspec.structs.asdict(self).items()
            if value is not msgspec.UNSET
        }


def _check_headers(headers: dict[str, str], where: str) -> None:
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
            raise InvalidRequest(f"{where}: {name!r} is not a header that can be sent")
        if name.lower() in _OURS:
            raise InvalidRequest(f"{where}: {name} is set by bulkwav itself")
    if sum(len(name) + len(value) for name, value in headers.items()) > MAX_HEADERS:
        raise InvalidRequest(f"{where}: more than {MAX_HEADERS} bytes")


def _check_url(url: str, where: str) -> None:
    if not is_url(url):
        raise InvalidRequest(f"{where}: not an http or https URL of at most {MAX_URL} characters")


def _check_member(member: Member, where: str) -> None:
    _check_url(member.url, where)
    if len(member.name) > MAX_NAME:
        raise InvalidRequest(f"{where}.name: more than {MAX_NAME} characters")
    if member.headers:
        _check_headers(member.headers, f"{where}.headers")
    if member.sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", member.sha256):
        raise InvalidRequest(f"{where}.sha256: not 64 hexadecimal digits")


_decoder = functools.cache(msgspec.json.Decoder)


def read(body: bytes | msgspec.Raw, kind: Any, where: str = "$") -> Any:
    """Decode JSON, which stands at ``where`` of a request's body.

    :raises InvalidRequest: names the field and what was expected there
    """
    try:
        found = _decoder(kind).decode(body)
        if isinstance(body, bytes) and kind is not Submission:
            check_keys(body)
        return found
    except msgspec.ValidationError as error:
        what, at, path = str(error).partition(" - at `$")
        if where != "$":
            what, at, path = what, " - at `$", f"{where[1:]}{path or '`'}"
        raise InvalidRequest(f"{what}{at}{path}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"not JSON: {error}") from None


@dataclass(frozen=True)
class Order:
    """A POST's body, checked.

    :param digest: the same for the same request, however its JSON was written
    :param kept: all members, where they are few
    """

    submission: Submission
    digest: str
    kept: list[Member] | None = None

    def __len__(self) -> int:
        return len(self.submission.download)

    def members(self, begin: int, end: int) -> list[Member]:
        """Those from ``begin`` to before ``end``."""
        if self.kept is not None:
            return self.kept[begin:end]
        return _members(self.submission, begin, end)

    @property
    def need(self) -> int:
        """How many members must succeed for the batch not to have failed."""
        policy = self.submission.policy
        if policy == "strict":
            return len(self)
        if policy == "partial":
            return 1
        return max(1, math.ceil(policy * len(self) - 1e-9))


def _members(submission: Submission, begin: int, end: int) -> list[Member]:
    entries = (
        read(entry, ENTRY, f"$.download[{number}]")
        for number, entry in enumerate(submission.download[begin:end], begin)
    )
    return [
        Member(entry)
        if isinstance(entry, str)
        else Member(entry.url, entry.name, entry.headers, entry.sha256)
        for entry in entries
    ]


def read_order(body: bytes, max_urls: int) -> Order:
    """Decode and check a POST's body.

    :raises InvalidRequest: names the field and what was expected there
    """
    submission: Submission = read(body, Submission)
    check_order(body)
    task_id, total = submission.task_id, len(submission.download)
    if task_id is not None and not _TASK_ID.fullmatch(str(task_id)):
        raise InvalidRequest(
            "$.task_id: expected 1 to 128 of A-Z a-z 0-9 . _ ~ - (not . or ..), or an integer"
        )
    if not total:
        raise InvalidRequest("$.download: expected at least one URL")
    if total > max_urls:
        raise InvalidRequest(f"$.download: {total} URLs, at most {max_urls}")
    if submission.url:
        _check_url(submission.url, "$.url")
    _check_headers(submission.headers, "$.headers")
    named = None if task_id is None else str(task_id)
    seen = hashlib.sha256(_plain(msgspec.structs.replace(submission, download=[], task_id=named)))
    for begin in range(0, total, SOME):
        members = _members(submission, begin, begin + SOME)
        for number, (member, entry) in enumerate(
            zip(members, submission.download[begin : begin + SOME], strict=True), begin
        ):
            _check_member(member, f"$.download[{number}]")
            if memoryview(entry)[0] == ord("{"):
                check_keys(bytes(entry))
        seen.update(_plain(members)[1:-1] + b",")
    return Order(submission, seen.hexdigest(), members if total <= SOME else None)


def _plain(value: Any) -> bytes:
    return msgspec.json.encode(value, order="deterministic")
