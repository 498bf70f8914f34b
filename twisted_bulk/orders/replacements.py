"""Members that take the places of others when a batch is tried again, as links expire."""

from collections.abc import Mapping

import msgspec

from twisted_bulk.batch.model import Member, pack_members, unpack_members
from twisted_bulk.errors import InvalidRequest
from twisted_bulk.orders.submission import NamedMember, check_member
from twisted_bulk.system.urls import tidy

New = str | NamedMember


class Replacements:
    """New members by the numbers (from 1) or the URLs of the old ones, for one part after another.

    :raises InvalidRequest: one of them cannot be fetched
    """

    def __init__(self, wanted: Mapping[str, New]) -> None:
        self._numbers: dict[int, New] = {}
        self._urls: dict[str, New] = {}
        self._unused = set(wanted)
        self._names: dict[int | str, str] = {}
        self._first = 0  # members in the parts before
        for name, new in wanted.items():
            where = f"$.replace[{name[:100]!r}]"
            if isinstance(new, str):
                check_member(Member(tidy(new)), where, strict=True)
            else:
                check_member(msgspec.structs.replace(new, url=tidy(new.url)), where, strict=True)
            if name.isdecimal() and len(name) <= 9:
                self._numbers[int(name)] = new
                self._names[int(name)] = name
            else:
                self._urls[tidy(name)] = new
                self._names[tidy(name)] = name

    def may_be_in(self, size: int) -> bool:
        """Whether one of the next ``size`` members may be replaced."""
        last = self._first + size
        return bool(self._urls) or any(self._first < n <= last for n in self._numbers)

    def apply(self, packed: bytes) -> bytes:
        """The packed members of the next part, with the new ones; empty: they stay."""
        members, changed = unpack_members(packed), False
        for at, member in enumerate(members):
            number = self._first + at + 1
            key: int | str = number if number in self._numbers else member.url
            new = self._numbers.get(number) or self._urls.get(member.url)
            if new is not None:
                self._unused.discard(self._names[key])
                members[at], changed = _replaced(member, new), True
        return pack_members([members], len(members)) if changed else b""

    def pass_by(self, size: int) -> None:
        """The next ``size`` members are done."""
        self._first += size

    def check_all_used(self) -> None:
        """:raises InvalidRequest: a number or URL is of no part that is tried again"""
        if self._unused:
            name = min(self._unused)[:100]
            raise InvalidRequest(
                f"$.replace: {name!r} is no member of a part that is tried again;"
                f" expected a number from 1 to {self._first}, or a URL as it was sent"
            )


def _replaced(old: Member, new: New) -> Member:
    """A new URL leaves all else as it was; a new member takes the old one's place."""
    if isinstance(new, str):
        return msgspec.structs.replace(old, url=tidy(new))
    return Member(tidy(new.url), new.name, new.headers, new.sha256, new.expect)
