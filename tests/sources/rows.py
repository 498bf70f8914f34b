"""A row of a table in docs/downloads.md, which is a test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.origin_server import Exchange

Said = bytes | Callable[[Exchange], None]


@dataclass(frozen=True)
class Row:
    """What a server says to the request for a file, and what becomes of it.

    :param what: in words, for the page
    :param said: one answer, or several to one request after the other
    :param body: of the file; None: it fails
    :param code: with which it fails
    :param detail: a part of the error's detail
    :param how: what else is told of the file, for the page
    :param why: it fails, though other programs take it
    :param path: of the URL
    :param member: further fields of the member
    :param told: what the response's content has: fields of ``Content``
    """

    what: str
    said: Said | Sequence[Said]
    body: bytes | None = None
    code: str = ""
    detail: str = ""
    how: str = ""
    why: str = ""
    path: str = "/a"
    verified: bool = True
    told: tuple[tuple[str, Any], ...] = ()

    @property
    def result(self) -> str:
        """For the page."""
        if self.code:
            return f"`{self.code}`" + (f": {self.why}" if self.why else "")
        return self.how or ("taken" if self.verified else "taken, `unverified`")


def name_of(what: str) -> str:
    """A name of a test method, from a row's words."""
    return "".join(letter if letter.isalnum() else "_" for letter in what).strip("_")


def page(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for the page."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )
