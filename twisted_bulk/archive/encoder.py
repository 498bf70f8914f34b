"""The encoding of a member: its checksums and, if that makes it smaller, deflate.

``encoder_processes.py`` also runs this module as a program. A request is the number of a slot in
shared memory; the reply tells how its content was encoded. The program ends with its parent.
"""

import hashlib
import mmap
import signal
import struct
import sys
import traceback
from typing import Any

import msgspec
from isal import igzip_lib, isal_zlib

from twisted_bulk.archive.zip_records import DEFLATED, STORED
from twisted_bulk.system.process import keep_buffers

SAMPLE_BYTES = 64 << 10  # by which `auto` decides; a member up to this size is deflated as a whole
MIN_GAIN = 0.97  # `auto` deflates if the sample shrinks to less than this share
SLOT_BYTES = (1 << 20) + (64 << 10)  # the largest member, and the most that deflate may add
MODES = ["store", "deflate", "auto"]
REQUEST = struct.Struct("<HBI")  # the slot, the mode's number, the size
REPLY = struct.Struct("<HBIII32s")  # the slot, and the fields of Encoded
FAILED = 0xFF  # the method in a reply: the member could not be encoded
Data = bytes | memoryview
_RAW = -15  # zlib's number for deflate without its own header and trailer
_TRAILER = struct.Struct("<2I")  # RFC 1952: the content's CRC-32, and its size


class Encoded(msgspec.Struct, frozen=True):
    """A member, once it is encoded.

    :param method: ``STORED`` or ``DEFLATED``
    :param crc: CRC-32 of its content
    :param size: bytes of its content
    :param packed: bytes of its encoded form
    :param sha256: of its content, in hexadecimal digits
    """

    method: int
    crc: int
    size: int
    packed: int
    sha256: str


def _deflated(data: Data) -> tuple[memoryview, int]:
    """Deflate ``data`` as a whole; returns it and the CRC-32 of ``data``.

    isal makes both in one call, without the interpreter's lock. Its largest buffers, half a
    megabyte, are an eighth faster than the usual ones.
    """
    room = (
        igzip_lib.MEM_LEVEL_DEFAULT
        if len(data) <= SAMPLE_BYTES
        else igzip_lib.MEM_LEVEL_EXTRA_LARGE
    )
    packed = memoryview(igzip_lib.compress(data, 1, igzip_lib.COMP_GZIP_NO_HDR, room))
    crc, _ = _TRAILER.unpack(packed[-_TRAILER.size :])
    return packed[: -_TRAILER.size], crc


def _pays(data: Data) -> bool:
    sample = data[:SAMPLE_BYTES]
    return len(_deflated(sample)[0]) < MIN_GAIN * len(sample)


def encode(mode: str, data: Data) -> tuple[Encoded, Data]:
    """Encode a whole member.

    :param mode: ``store``, ``deflate``, or ``auto``: deflate if a sample shrinks enough, and keep
        that if the whole does
    :returns: the numbers, and the encoded form
    """
    sha256 = hashlib.sha256(data).hexdigest()
    if mode == "deflate" or (mode == "auto" and (len(data) <= SAMPLE_BYTES or _pays(data))):
        packed, crc = _deflated(data)
        if mode == "deflate" or len(packed) < len(data):
            return Encoded(DEFLATED, crc, len(data), len(packed), sha256), packed
    else:
        crc = isal_zlib.crc32(data)
    return Encoded(STORED, crc, len(data), len(data), sha256), data


class Encoder:
    """As :func:`encode`, for a member that comes in pieces; ``auto`` decides by the first one."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._sha256 = hashlib.sha256()
        self._deflate: Any = None
        self.method: int | None = None
        self._crc = self._size = self._packed = 0

    def update(self, piece: bytes) -> bytes:
        """Take the next piece; returns encoded bytes, which may belong to earlier pieces."""
        self._sha256.update(piece)
        self._crc = isal_zlib.crc32(piece, self._crc)
        self._size += len(piece)
        if self.method is None:
            self._begin(piece)
        return self._count(piece if self._deflate is None else self._deflate.compress(piece))

    def _begin(self, piece: bytes) -> None:
        pays = self._mode == "deflate" or (self._mode == "auto" and _pays(piece))
        self.method = DEFLATED if pays else STORED
        if pays:
            self._deflate = isal_zlib.compressobj(1, isal_zlib.DEFLATED, _RAW)

    def _count(self, packed: bytes) -> bytes:
        self._packed += len(packed)
        return packed

    def flush(self) -> bytes:
        """The rest of the encoded bytes."""
        deflate, self._deflate = self._deflate, None  # its state takes hundreds of KB
        return b"" if deflate is None else self._count(deflate.flush())

    @property
    def encoded(self) -> Encoded:
        """The numbers of the member, after :meth:`flush`."""
        method = STORED if self.method is None else self.method
        return Encoded(method, self._crc, self._size, self._packed, self._sha256.hexdigest())


def _answer(shared: memoryview, ask: bytes) -> bytes:
    """Encode the content of a slot in its place; returns the reply."""
    number, mode, size = REQUEST.unpack(ask)
    slot = shared[number * SLOT_BYTES : (number + 1) * SLOT_BYTES]
    try:
        encoded, packed = encode(MODES[mode], slot[:size])
        if encoded.method == DEFLATED:
            slot[: len(packed)] = packed
    except Exception:  # this member fails, and no other
        traceback.print_exc()
        return REPLY.pack(number, FAILED, 0, 0, 0, b"")
    return REPLY.pack(
        number, encoded.method, encoded.crc, size, encoded.packed, bytes.fromhex(encoded.sha256)
    )


def main() -> None:
    """Run as a child."""
    # A signal for the whole group is for the parent, which may have work to end.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    keep_buffers()
    memory, asks, answers = map(int, sys.argv[1:])
    shared = memoryview(mmap.mmap(memory, 0))
    with open(asks, "rb") as asked, open(answers, "wb", buffering=0) as answered:
        while len(ask := asked.read(REQUEST.size)) == REQUEST.size:
            try:
                answered.write(_answer(shared, ask))
            except BrokenPipeError:
                return


if __name__ == "__main__":
    main()
