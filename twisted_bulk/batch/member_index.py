"""An index of the results of one part's members, by status, error and host. Pure.

It stands in a file beside the part's results (:mod:`twisted_bulk.batch.manifest_file`), or is made
of the lines of a part that runs.
"""

import mmap
import sys
from array import array
from collections.abc import Iterable, Iterator
from io import BytesIO

import msgspec

from twisted_bulk.batch.selection import Selection
from twisted_bulk.system.urls import host_of

INDEX_FILE = "members.index"
VERSION = 1
GROUP_BYTES = 400  # of memory that a group takes, beside the positions in it

Key = tuple[str, str, str]  # status, code, host


class _Group(msgspec.Struct, array_like=True):
    status: str
    code: str
    host: str
    positions: bytes


class _File(msgspec.Struct, array_like=True):
    version: int
    numbers: bytes
    offsets: bytes
    groups: list[_Group]


class _Line(msgspec.Struct):
    """The fields of an outcome that the index needs."""

    url: str = ""
    status: str = ""
    code: str = ""
    member: int = 0


_line = msgspec.json.Decoder(_Line | None)


class MemberIndex:
    """Where each member's line is, in the order of the members.

    ``numbers``: of the members, from 1 in the batch; of 32 bits. ``offsets``: where their lines
    begin; of 64 bits.
    ``groups``: positions in these two, by status, code and host.
    """

    def __init__(self, numbers: "array[int]", offsets: "array[int]") -> None:
        self.numbers = numbers
        self.offsets = offsets
        self.groups: dict[Key, array[int]] = {}

    @classmethod
    def of(cls, lines: Iterable[tuple[int, bytes]], first: int) -> "MemberIndex":
        """Made of lines.

        :param lines: where each begins, and the line; it has an outcome, or ``null``
        :param first: how many members of the batch are in the parts before this one
        """
        found = []
        for place, (offset, text) in enumerate(lines, 1):
            line = _line.decode(text)
            if line is not None:  # an older version of the program wrote no numbers
                found.append((line.member or first + place, offset, line))
        found.sort(key=lambda one: one[0])
        index = cls(array("I", (one[0] for one in found)), array("Q", (one[1] for one in found)))
        for position, (_, _, line) in enumerate(found):
            key = (line.status, line.code, host_of(line.url))
            index.groups.setdefault(key, array("I")).append(position)
        return index

    @classmethod
    def decode(cls, data: bytes) -> "MemberIndex":
        """Made of what :meth:`encode` returned.

        :raises ValueError: it is something else, or of another version
        """
        file = msgspec.msgpack.decode(data, type=_File)
        if file.version != VERSION:
            raise ValueError(f"version {file.version}")
        index = cls(_numbers(file.numbers), _numbers(file.offsets, "Q"))
        for group in file.groups:
            index.groups[group.status, group.code, group.host] = _numbers(group.positions)
        return index

    def encode(self) -> bytes:
        """The bytes of the file."""
        groups = [_Group(*key, _bytes(positions)) for key, positions in self.groups.items()]
        return msgspec.msgpack.encode(
            _File(VERSION, _bytes(self.numbers), _bytes(self.offsets), groups)
        )

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return 16 * len(self.numbers) + GROUP_BYTES * len(self.groups)

    def select(self, wanted: Selection) -> "array[int] | range | list[int]":
        """Positions of the members that meet the conditions but for ``text``, in order."""
        if not (wanted.status or wanted.code or wanted.host):
            found: array[int] | range | list[int] = range(len(self.numbers))
        else:
            groups = [self.groups[key] for key in self._keys(wanted)]
            found = groups[0] if len(groups) == 1 else sorted(n for group in groups for n in group)
        if wanted.members:
            found = [n for n in found if self.numbers[n] in wanted.members]
        return found

    def count(self, wanted: Selection) -> int:
        """How many members :meth:`select` finds."""
        if wanted.members:
            return len(self.select(wanted))
        return sum(len(self.groups[key]) for key in self._keys(wanted))

    def _keys(self, wanted: Selection) -> Iterator[Key]:
        for key in self.groups:
            status, code, host = key
            if (
                wanted.status in ("", status)
                and wanted.code in ("", code)
                and wanted.host in ("", host)
            ):
                yield key


def lines_of(text: "bytes | mmap.mmap") -> Iterator[tuple[int, bytes]]:
    """The lines of a file of results that have an outcome or ``null``, and where each begins."""
    file = BytesIO(text) if isinstance(text, bytes) else text
    file.seek(0)
    offset = 0
    while line := file.readline():
        begin, offset = offset, offset + len(line)
        if line.endswith(b"\n") and line not in (b"[\n", b"]\n"):
            yield begin, line.removesuffix(b"\n").removesuffix(b",")


def _bytes(numbers: "array[int]") -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _numbers(data: bytes, kind: str = "I") -> "array[int]":
    numbers: array[int] = array(kind)
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
