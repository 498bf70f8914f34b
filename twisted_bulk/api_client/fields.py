"""What a batch, and which batches and members, may be asked for: the names of fields, as types."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict


class OrderFields(TypedDict, total=False):
    """The fields of a batch beside its URLs, as the README explains them."""

    url: str
    policy: Literal["partial", "strict"] | float
    priority: int
    compress: Literal["auto", "store", "deflate"]
    headers: Mapping[str, str]
    expires: float
    timeout: float
    layout: Literal["flat", "sharded"]
    notify_format: Literal["json", "form"]
    show_urls: Literal["masked", "full", "host", "none"]
    urls: Literal["mend", "strict"]
    expect: Mapping[str, Any]
    retry_on: Sequence[int]
    filename: str
    manifest: bool | str


class BatchConditions(TypedDict, total=False):
    """Which batches are meant: those that meet all conditions; see ``GET /v1/batches``."""

    status: str
    id: str
    owner: str
    code: str
    since: str
    before: str
    callback: str


class MemberConditions(TypedDict, total=False):
    """Which members are meant: those that meet all conditions."""

    status: Literal["done", "unverified", "failed", "waiting"]
    code: str
    host: str
    text: str
    part: int
