"""Zips made by the writer, and read again."""

import hashlib
import io
import random
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from twisted_bulk.archive.encoder import Encoder
from twisted_bulk.archive.writer import Archive
from twisted_bulk.archive.zip_member import Source, ZipMember

NOISE = random.Random(5).randbytes(300_000)


TEXT = b"all work and no play makes jack a dull boy\n" * 9000


LAST = "manifest.json"


def add(archive: Archive, data: bytes, *names: str, **about: Any) -> list[ZipMember]:
    """A member in ``archive``, given to the encoder in two pieces."""
    encoder = Encoder(archive.mode)
    pieces = [encoder.update(piece) for piece in (data[:70_000], data[70_000:]) if piece]
    pieces.append(encoder.flush())
    return archive.add(
        dict(enumerate(names, 1)), encoder.encoded, lambda: pieces, 784111777, Source(**about)
    )


def finish(archive: Archive) -> list[bytes]:
    """The files of ``archive``."""
    found = []
    for path, size, sha256, members in archive.close(lambda *_: LAST, b"[]", 0):
        data = path.read_bytes()
        assert (size, sha256) == (len(data), hashlib.sha256(data).hexdigest())
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            assert opened.testzip() is None
            assert len(opened.namelist()) == members + 1
        found.append(data)
    return found


def content(data: bytes) -> dict[str, bytes]:
    """The members of a zip, without the last."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {n: archive.read(n) for n in archive.namelist() if n != LAST}


def streamed(data: bytes) -> dict[str, bytes]:
    """The members of a zip as they stand in it, one behind the other, up to its directory."""
    at, found = 0, {}
    while data[at : at + 4] == b"PK\x03\x04":
        fields = struct.unpack("<5H3L2H", data[at + 4 : at + 30])
        flags, method, crc, packed, size, name, extra = (fields[n] for n in (1, 2, 5, 6, 7, 8, 9))
        begin = at + 30 + name + extra
        body = data[begin : begin + packed]
        body = zlib.decompress(body, -15) if method == 8 else body
        assert (flags & 8, zlib.crc32(body), len(body)) == (0, crc, size)
        found[data[at + 30 : at + 30 + name].decode()] = body
        at = begin + packed
    assert data[at : at + 4] == b"PK\x01\x02"
    return found


def build(members: dict[str, bytes], mode: str = "auto") -> bytes:
    """An archive of ``members``."""
    archive = Archive(Path(tempfile.mkdtemp(prefix="bw")), mode, 1 << 40)
    for name, data in members.items():
        add(archive, data, name)
    (found,) = finish(archive)
    return found
