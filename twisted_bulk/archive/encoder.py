"""What is done to a member's bytes: checksums and, if that pays, deflate.

Run as a program (by ``encoder_processes.py``) it does that for its parent: it is asked by the
number of a slot in memory that both share, and answers with what came of it, until its parent is
gone.
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

SAMPLE = 64 << 10
WORTH = 0.97  # `auto` deflates when a sample shrinks to less than this
SLOT = (1 << 20) + (64 << 10)  # bytes: of the largest member, and what deflate may add to it
MODES = ["store", "deflate", "auto"]
ASK = struct.Struct("<HBI")  # the slot, the mode's number, the size
ANSWER = struct.Struct("<HBIII32s")  # the slot, and the fields of Encoded
FAILED = 0xFF  # an answer's method: none
Data = bytes | memoryview
_RAW = -15  # deflate without zlib's frame
_TRAILER = struct.Struct("<2I")  # RFC 1952: the content's CRC-32, and its size


class Encoded(msgspec.Struct, frozen=True):
    """What is known of a member once it is encoded.

    :param method: ``STORED`` or ``DEFLATED``
    :param size: bytes before and ``packed`` after it
    """

    method: int
    crc: int
    size: int
    packed: int
    sha256: str


def _deflated(data: Data) -> tuple[memoryview, int]:
    """All of ``data`` at once, and its CRC-32: both in one call, without the interpreter's lock.

    The largest buffers, half a megabyte, are an eighth faster than the usual ones.
    """
    room = igzip_lib.MEM_LEVEL_DEFAULT if len(data) <= SAMPLE else igzip_lib.MEM_LEVEL_EXTRA_LARGE
    packed = memoryview(igzip_lib.compress(data, 1, igzip_lib.COMP_GZIP_NO_HDR, room))
    crc, _ = _TRAILER.unpack(packed[-_TRAILER.size :])
    return packed[: -_TRAILER.size], crc


def _pays(data: Data) -> bool:
    sample = data[:SAMPLE]
    return len(_deflated(sample)[0]) < WORTH * len(sample)


def encode(mode: str, data: Data) -> tuple[Encoded, Data]:
    """A member that is there whole, and what came of it.

    :param mode: ``store``, ``deflate``, or ``auto``: by how a sample shrinks, or all of it
    """
    sha256 = hashlib.sha256(data).hexdigest()
    # Of little, all of it is no more work than a sample.
    if mode == "deflate" or (mode == "auto" and (len(data) <= SAMPLE or _pays(data))):
        packed, crc = _deflated(data)
        if mode == "deflate" or len(packed) < len(data):
            return Encoded(DEFLATED, crc, len(data), len(packed), sha256), packed
    else:
        crc = isal_zlib.crc32(data)
    return Encoded(STORED, crc, len(data), len(data), sha256), data


class Encoder:
    """What :func:`encode` does, over one member's pieces."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._sha256 = hashlib.sha256()
        self._deflate: Any = None
        self.method: int | None = None
        self._crc = self._size = self._packed = 0

    def update(self, piece: bytes) -> bytes:
        """The encoded form of the next piece; may come in part with a later one."""
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
        """The rest of the encoded form."""
        deflate, self._deflate = self._deflate, None  # its state takes hundreds of KB
        return b"" if deflate is None else self._count(deflate.flush())

    @property
    def encoded(self) -> Encoded:
        """What is known of it now."""
        method = STORED if self.method is None else self.method
        return Encoded(method, self._crc, self._size, self._packed, self._sha256.hexdigest())


def _answer(shared: memoryview, ask: bytes) -> bytes:
    """What came of a slot's content; its encoded form takes its place."""
    number, mode, size = ASK.unpack(ask)
    slot = shared[number * SLOT : (number + 1) * SLOT]
    try:
        encoded, packed = encode(MODES[mode], slot[:size])
        if encoded.method == DEFLATED:
            slot[: len(packed)] = packed
    except Exception:  # that of one member, and of no other
        traceback.print_exc()
        return ANSWER.pack(number, FAILED, 0, 0, 0, b"")
    return ANSWER.pack(
        number, encoded.method, encoded.crc, size, encoded.packed, bytes.fromhex(encoded.sha256)
    )


def main() -> None:
    """A child's life."""
    # Who stops all processes of a group means the parent, which may have work to end.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    keep_buffers()
    memory, asks, answers = map(int, sys.argv[1:])
    shared = memoryview(mmap.mmap(memory, 0))
    with open(asks, "rb") as asked, open(answers, "wb", buffering=0) as answered:
        while len(ask := asked.read(ASK.size)) == ASK.size:
            try:
                answered.write(_answer(shared, ask))
            except BrokenPipeError:
                return


if __name__ == "__main__":
    main()
