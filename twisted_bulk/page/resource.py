"""Serves the files of the page. They have no data: the page asks the API for that."""

import hashlib
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from twisted.web.http import Request

from twisted_bulk.errors import NotFound
from twisted_bulk.http_server.preconditions import matches
from twisted_bulk.http_server.request import header

_FOLDER = files("twisted_bulk.page") / "static"
INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: Nothing but our own files runs, and the page talks to this server only. Strings cannot become
#: markup: the browser throws an error instead (Trusted Types).
POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "connect", "img")),
        *(f"{what} 'none'" for what in ("base-uri", "form-action", "frame-ancestors")),
        "require-trusted-types-for 'script'",
        "trusted-types bulkwav",
    )
)


class _File(NamedTuple):
    type: str
    tag: str
    data: bytes


@cache
def _all() -> dict[str, _File]:
    """All files by their paths below ``static/``."""
    found: dict[str, _File] = {}

    def add(folder: Traversable, before: str) -> None:
        for one in folder.iterdir():
            name = before + one.name
            kind = TYPES.get(f".{one.name.rpartition('.')[2]}", "")
            if one.is_dir():
                add(one, f"{name}/")
            elif kind:
                data = one.read_bytes()
                found[name] = _File(kind, f'"{hashlib.sha256(data).hexdigest()[:32]}"', data)

    add(_FOLDER, "")
    return found


def page_file(request: Request, name: str = INDEX) -> bytes:
    """Answer with one of the files.

    :raises NotFound: there is none of this name
    """
    file = _all().get(name)
    if file is None:
        raise NotFound("there is no such file of the page")
    for key, value in (
        ("Content-Type", file.type),
        ("Content-Security-Policy", POLICY),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("X-Frame-Options", "DENY"),
        ("Cache-Control", "no-cache"),
        ("ETag", file.tag),
    ):
        request.setHeader(key, value)
    if matches(header(request, "If-None-Match") or "", file.tag, weakly=True):
        request.setResponseCode(304)
        return b""
    request.setHeader("Content-Length", str(len(file.data)))
    return file.data
