"""What a batch expects of its files, and pages that came in place of files. Pure."""

import re
from collections.abc import Iterable
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from twisted_bulk.errors import MemberError
from twisted_bulk.system.urls import normal

MAX_TYPES = 20  # patterns of types in one expectation; more is 400
#: A type, or a pattern for types: ``audio/wav``, ``audio/*``, ``*/*``.
TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+*-]{1,127}/[A-Za-z0-9!#$&^_.+*-]{1,127}")

HTML = "html"  # the warning about a page that came in place of a file
_HTML_TYPES = frozenset(("text/html", "application/xhtml+xml"))
#: Endings of recordings, images, videos, archives and documents. A page is none of them.
_NO_PAGE = frozenset(
    (
        "wav mp3 ogg oga opus flac m4a aac amr gsm wma au aif aiff ulaw alaw sln mka"
        " jpg jpeg png gif webp bmp tif tiff heic heif avif jxl ico psd raw dng cr2 nef"
        " mp4 m4v mov avi mkv webm mpg mpeg wmv flv 3gp ts"
        " zip gz tgz bz2 xz zst 7z rar tar jar iso pdf docx xlsx pptx odt ods"
        " csv json jsonl parquet npy npz bin exe msi apk"
    ).split()
)


Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 60)]


class Expect(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a file has to be.

    :param type: patterns of its Content-Type, one of which has to fit; empty: any
    :param min_bytes: its least size
    :param max_bytes: its largest size; 0: any
    """

    type: tuple[str, ...] = ()
    min_bytes: Size = 0
    max_bytes: Size = 0

    def check_type(self, media: str) -> None:
        """:raises MemberError: ``media`` is not of an expected type"""
        if self.type and not any(fits(pattern, media) for pattern in self.type):
            found = f"it is {media[:100]}" if media else "the server names none"
            raise MemberError("unexpected_type", f"expected {', '.join(self.type)[:150]}; {found}")

    def check_size(self, size: int) -> None:
        """:raises MemberError: ``size`` bytes are too few, or too many"""
        if size < self.min_bytes:
            what = f"{size} bytes, at least {self.min_bytes} are expected"
            raise MemberError("too_small", what)
        if self.max_bytes and size > self.max_bytes:
            what = f"{size} bytes, at most {self.max_bytes} are expected"
            raise MemberError("too_large", what)


ANYTHING = Expect()


def fits(pattern: str, media: str) -> bool:
    """Whether a type is one of those that a pattern such as ``audio/*`` stands for."""
    kind, _, detail = pattern.lower().partition("/")
    found, _, more = media.partition("/")
    return bool(found) and kind in ("*", found) and detail in ("*", more)


def warning(media: str, url: str, names: Iterable[str]) -> str:
    """:data:`HTML` if a page came under the name of another kind of file; else empty.

    :param url: that was asked for
    :param names: of the file
    """
    if media not in _HTML_TYPES:
        return ""
    names = (urlsplit(normal(url)).path, *names)
    endings = {name.rpartition(".")[2].lower() for name in names if "." in name}
    return HTML if endings & _NO_PAGE else ""
