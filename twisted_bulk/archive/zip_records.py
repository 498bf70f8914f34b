"""The records of a zip file (PKWARE APPNOTE 6.3.10). Pure.

Sizes and CRC stand in the local headers; there are no data descriptors. Zip64
records appear only where a number does not fit without them.
"""

import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from zipfile import ZipInfo

import msgspec

STORED, DEFLATED = 0, 8
_LOCAL, _ZIP64 = 30, 20  # bytes of a local header without names, and of its zip64 field
_MAX16 = 0xFFFF
MARK = 0xFFFFFFFF  # stands where the number is in a zip64 field
_UTF8 = 0x0800
_EXTENDED_TIME = 0x5455
_UNIX = 3 << 8
_REGULAR_0644 = 0o100644 << 16
_EPOCH = datetime(1980, 1, 1, tzinfo=UTC)
_END_OF_DOS = datetime(2107, 12, 31, tzinfo=UTC)


class Entry(msgspec.Struct, frozen=True):
    """One member as the central directory lists it.

    :param size: bytes before and ``packed`` after compression
    :param offset: of its local header
    :param modified: seconds since 1970, shown in UTC
    :param stamped: an extended timestamp stands beside it, which is right in every time zone
    """

    name: bytes
    method: int
    crc: int
    size: int
    packed: int
    modified: float
    offset: int
    stamped: bool = False

    @property
    def end(self) -> int:
        """Where its data ends."""
        header = _LOCAL + len(self.name) + (_ZIP64 if _big(self) else 0) + len(_stamp(self))
        return self.offset + header + self.packed


def _dos(seconds: float) -> tuple[int, int]:
    """The time and date words; zip files know 1980 to 2107, two seconds apart."""
    try:
        at = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        at = _EPOCH
    at = min(max(at, _EPOCH), _END_OF_DOS)
    return (
        at.hour << 11 | at.minute << 5 | at.second // 2,
        (at.year - 1980) << 9 | at.month << 5 | at.day,
    )


def _stamp(entry: Entry) -> bytes:
    """The extended timestamp (Info-ZIP's field UT) with the time of the last change.

    It has 32 bits with a sign; a member with another time has none.
    """
    seconds = int(entry.modified)
    if not entry.stamped or not -(1 << 31) <= seconds < 1 << 31:
        return b""
    return struct.pack("<2HBl", _EXTENDED_TIME, 5, 1, seconds)


def modified_of(info: ZipInfo) -> float:
    """When a member of a zip was changed last, in seconds since 1970."""
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<2H", extra)
        if kind == _EXTENDED_TIME and size >= 5 and len(extra) >= 9 and extra[4] & 1:
            return float(struct.unpack_from("<l", extra, 5)[0])
        extra = extra[4 + size :]
    return datetime(*info.date_time, tzinfo=UTC).timestamp()


def _common(entry: Entry, big: bool, zip64: bool, extra: bytes) -> bytes:
    """The fields that both headers share, from "version needed" to "extra length"."""
    flags = 0 if entry.name.isascii() else _UTF8
    needed = 45 if zip64 else (20 if entry.method == DEFLATED else 10)
    packed, size = (MARK, MARK) if big else (entry.packed, entry.size)
    time, date = _dos(entry.modified)
    lengths = (len(entry.name), len(extra))
    fields = (needed, flags, entry.method, time, date, entry.crc, packed, size, *lengths)
    return struct.pack("<5H3L2H", *fields)


def _big(entry: Entry) -> bool:
    # Exactly 2^32 - 1 stands as it is, as Info-ZIP writes it: in a zip64 field unzip takes it for
    # the mark that there is one.
    return entry.size > MARK or entry.packed > MARK


def local_header(entry: Entry) -> bytes:
    """What stands before a member's data (4.3.7)."""
    big = _big(entry)
    extra = struct.pack("<2H2Q", 1, 16, entry.size, entry.packed) if big else b""
    extra += _stamp(entry)
    return b"PK\x03\x04" + _common(entry, big, big, extra) + entry.name + extra


def central_header(entry: Entry) -> bytes:
    """A member's line in the central directory (4.3.12)."""
    far = entry.offset >= MARK
    # Where there is a zip64 field it has every number that stands as the mark (4.5.3).
    big = _big(entry) or (far and MARK in (entry.size, entry.packed))
    numbers = [entry.size, entry.packed] if big else []
    numbers += [entry.offset] if far else []
    extra = struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""
    extra += _stamp(entry)
    common = _common(entry, big, bool(numbers), extra)
    offset = MARK if far else entry.offset
    made_by = struct.pack("<H", _UNIX | 45)
    rest = struct.pack("<3H2L", 0, 0, 0, _REGULAR_0644, offset)
    return b"PK\x01\x02" + made_by + common + rest + entry.name + extra


def end_records(entries: Sequence[Entry], start: int, size: int) -> bytes:
    """What stands after a central directory of ``size`` bytes at ``start`` (4.3.14 to 16)."""
    count = len(entries)
    records = b""
    if count >= _MAX16 or start >= MARK or size >= MARK:
        zip64 = (44, _UNIX | 45, 45, 0, 0, count, count, size, start)
        records = b"PK\x06\x06" + struct.pack("<Q2H2L4Q", *zip64)
        records += b"PK\x06\x07" + struct.pack("<LQL", 0, start + size, 1)
    short = min(count, _MAX16)
    end = (0, 0, short, short, min(size, MARK), min(start, MARK), 0)
    return records + b"PK\x05\x06" + struct.pack("<4H2LH", *end)
