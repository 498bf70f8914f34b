"""The bodies of the API's calls, as types, and their checks. Pure."""

import re
from typing import Annotated, Any, Literal

import msgspec

from twisted_bulk.batch.expectations import MAX_TYPES, TYPE, Expect
from twisted_bulk.batch.masks import Show
from twisted_bulk.batch.model import Member, Mode
from twisted_bulk.batch.names import MANIFEST, segment
from twisted_bulk.batch.selection import Selection
from twisted_bulk.errors import InvalidRequest
from twisted_bulk.orders.queries import BatchFilter
from twisted_bulk.system import urls

MAX_PARTS = 10_000  # of a batch; more is 400
MAX_FILE_NAME = 100  # characters of `filename`, and of the name of the manifest; more is 400
MAX_NAME = 1000  # characters of a member's name; more is 400
MAX_HEADER_BYTES = 16_384  # of request headers, a batch's and a member's each; more is 400

TASK_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# Headers of the connection, and headers on which our own checks depend.
_OURS = frozenset(
    (
        *("accept-encoding", "connection", "content-length", "expect", "host", "if-match"),
        *("if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "keep-alive"),
        *("proxy-authorization", "proxy-connection", "range", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    )
)

Priority = Annotated[int, msgspec.Meta(ge=-1000, le=1000)]


class NamedExpect(Expect, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a file has to be, as users send it: an unknown field is an error."""


class NamedMember(Member, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A member as users send it: an unknown field is an error, as it may be a misspelled one."""

    expect: NamedExpect | None = None


ENTRY = str | NamedMember


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of a POST.

    :param download: URLs and :class:`NamedMember`. Here they are undecoded: a million objects would
        take 300 MB
    """

    download: list[msgspec.Raw]
    task_id: str | int | None = None
    url: str | None = ""
    policy: Literal["partial", "strict"] | Annotated[float, msgspec.Meta(gt=0, le=1)] = "partial"
    priority: Priority = 0
    compress: Mode | None = None
    headers: dict[str, str] = {}
    expires: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 0
    timeout: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 0
    layout: Literal["flat", "sharded"] = "flat"
    notify_format: Literal["json", "form"] = "json"
    show_urls: Show = "masked"
    urls: Literal["mend", "strict"] = "mend"
    expect: NamedExpect | None = None
    retry_on: list[Annotated[int, msgspec.Meta(ge=300, le=599)]] = []
    filename: str = ""
    manifest: bool | str = True


Short = Annotated[str, msgspec.Meta(max_length=300)]
MemberNumber = Annotated[int, msgspec.Meta(ge=1, le=10**9)]


class Only(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Failed members that are tried again: those that meet all conditions that are given."""

    code: Short = ""
    host: Short = ""
    text: Short = ""
    members: Annotated[list[MemberNumber], msgspec.Meta(max_length=10_000)] = []

    @property
    def selection(self) -> Selection:
        """As the worker reads it."""
        return Selection(
            status="failed", code=self.code, host=self.host, text=self.text,
            members=frozenset(self.members),
        )  # fmt: skip


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a retry: new URLs or members by the numbers or URLs of the old ones.

    :param only: the failed members that are tried; None: all
    :param run: of the batch as the client knows it; another one is 409
    """

    replace: dict[str, str | NamedMember] = {}
    only: Only | None = None
    run: int | None = None


#: An id of a batch, with or without the name of its token before it.
BatchName = Annotated[str, msgspec.Meta(max_length=200)]


class BulkOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a plan for many batches.

    :param filter: the batches that are meant
    :param batches: their ids instead
    :param priority: for that action
    """

    action: Literal["cancel", "retry", "delete", "priority", "notify"]
    filter: BatchFilter | None = None
    batches: Annotated[list[BatchName], msgspec.Meta(max_length=1000)] = []
    priority: Priority | None = None


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
        """The settings that the body has."""
        return {
            name: value
            for name, value in msgspec.structs.asdict(self).items()
            if value is not msgspec.UNSET
        }


def check_headers(headers: dict[str, str], where: str) -> None:
    """:raises InvalidRequest: one of the headers cannot be sent"""
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
            raise InvalidRequest(f"{where}: {name!r} is not a header that can be sent")
        if name.lower() in _OURS:
            raise InvalidRequest(f"{where}: {name} is set by bulkwav itself")
    if sum(len(name) + len(value) for name, value in headers.items()) > MAX_HEADER_BYTES:
        raise InvalidRequest(f"{where}: more than {MAX_HEADER_BYTES} bytes")


def check_url(url: str, where: str) -> None:
    """:raises InvalidRequest: it is not a URL that can be fetched"""
    if not urls.normal(url):
        raise InvalidRequest(f"{where}: {urls.reason(url)}")


def check_expect(expect: Expect | None, where: str) -> None:
    """:raises InvalidRequest: no file can be as it says"""
    if expect is None:
        return
    if len(expect.type) > MAX_TYPES or not all(map(TYPE.fullmatch, expect.type)):
        raise InvalidRequest(f"{where}.type: expected up to {MAX_TYPES} types such as audio/*")
    if 0 < expect.max_bytes < expect.min_bytes:
        raise InvalidRequest(f"{where}: max_bytes is less than min_bytes")


def check_names(submission: Submission) -> None:
    """:raises InvalidRequest: a zip or a manifest cannot have the name that is asked for"""
    for where, name in (("filename", submission.filename), ("manifest", submission.manifest)):
        if isinstance(name, str) and (len(name) > MAX_FILE_NAME or re.search(r"[/\\]", name)):
            raise InvalidRequest(
                f"$.{where}: expected a file name without slashes, of {MAX_FILE_NAME} characters"
                " at most"
            )
        if isinstance(name, str) and name and not segment(name).removesuffix(".zip"):
            raise InvalidRequest(f"$.{where}: no file can have this name")


def manifest_of(submission: Submission) -> str:
    """The name of the manifest in a batch's zips; empty: they have none."""
    if isinstance(submission.manifest, str):
        return segment(submission.manifest)
    return MANIFEST if submission.manifest else ""


def check_member(member: Member, where: str, strict: bool) -> None:
    """Check a member; its URL only if ``strict``.

    :raises InvalidRequest: names the field that is wrong
    """
    if strict:
        check_url(member.url, where)
    if member.expect is not None:
        check_expect(member.expect, f"{where}.expect")
    if len(member.name) > MAX_NAME:
        raise InvalidRequest(f"{where}.name: more than {MAX_NAME} characters")
    if member.headers:
        check_headers(member.headers, f"{where}.headers")
    if member.sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", member.sha256):
        raise InvalidRequest(f"{where}.sha256: not 64 hexadecimal digits")
