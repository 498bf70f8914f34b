"""A member of a zip, as the journal notes it, and its data in a finished zip."""

import os
import struct
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec

from twisted_bulk.archive.zip_records import STORED, Entry

BLOCK_BYTES = 1 << 20  # that are read at once


class ZipMember(msgspec.Struct, frozen=True, omit_defaults=True):
    """A member that stands in a zip: a line of the journal.

    :param volume: the number of the zip that has it, from 1
    :param offset: of its local header, in bytes
    :param method: ``STORED`` or ``DEFLATED``
    :param crc: CRC-32 of its content
    :param size: bytes of its content
    :param packed: bytes of its data in the zip
    :param modified: seconds since 1970
    :param sha256: of its content, in hexadecimal digits
    :param verified: its end was certain, or its checksum was right
    :param attempts: attempts that it took
    :param number: of the member within its part, from 1; 0: an older version wrote it
    :param type: its Content-Type; ``encoding``: its Content-Encoding; ``warning``: of the manifest
    :param stamped: its headers have an extended timestamp
    :param url: as it may be shown; empty: an older version wrote it
    """

    name: str
    volume: int
    offset: int
    method: int
    crc: int
    size: int
    packed: int
    modified: float
    sha256: str
    verified: bool = True
    attempts: int = 1
    number: int = 0
    type: str = ""
    encoding: str = ""
    warning: str = ""
    stamped: bool = False
    url: str = ""

    @classmethod
    def blank(cls, name: str, modified: float, **fields: Any) -> "ZipMember":
        """A member before its place and its checksums are known."""
        given: dict[str, Any] = {
            "volume": 0, "offset": 0, "method": STORED, "crc": 0, "size": 0, "packed": 0,
            "sha256": "", "stamped": True,
        }  # fmt: skip
        return cls(name=name, modified=modified, **given | fields)

    @property
    def end(self) -> int:
        """Where its data ends."""
        return self.entry.end

    @property
    def entry(self) -> Entry:
        """Its line in the directory."""
        return Entry(
            self.name.encode(), self.method, self.crc, self.size, self.packed, self.modified,
            self.offset, self.stamped,
        )  # fmt: skip


class Source(msgspec.Struct, frozen=True):
    """What is told of a member beside its content; see :class:`ZipMember`."""

    verified: bool = True
    attempts: int = 1
    type: str = ""
    encoding: str = ""
    warning: str = ""
    url: str = ""


UNKNOWN = Source()


def packed_data(file: BinaryIO, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """A member's data as it stands in a zip that we wrote.

    :raises ValueError: the file is cut off
    """
    file.seek(info.header_offset + 26)
    name, extra = struct.unpack("<2H", file.read(4))
    file.seek(name + extra, os.SEEK_CUR)
    left = info.compress_size
    while left:
        block = file.read(min(left, BLOCK_BYTES))
        if not block:
            raise ValueError(f"{info.filename} is cut off")
        left -= len(block)
        yield block
