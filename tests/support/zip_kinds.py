"""Fifty kinds of archive, and other people's readers to judge them.

    python -m tests.support.zip_kinds

also makes those that take too long for the suite: a member of more than 4 GiB, and offsets
behind it.
"""

import hashlib
import io
import random
import struct
import subprocess
import tempfile
import wave
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock

from tests.support.redis_servers import need
from twisted_bulk.archive.encoder import Encoder
from twisted_bulk.archive.writer import Archive
from twisted_bulk.batch.model import Member, PartSpec
from twisted_bulk.batch.names import MANIFEST
from twisted_bulk.parts.state import PartState

NOISE = random.Random(7).randbytes(200_000)
TEXT = b"the quick brown fox jumps over the lazy dog\n" * 3000
BLOCK = 1 << 20
NOTE = '[{"name":"你"}]'.encode()


@dataclass(frozen=True)
class Zeros:
    """Content that is too large to be written down."""

    size: int

    def __iter__(self) -> Iterator[bytes]:
        for at in range(0, self.size, BLOCK):
            yield bytes(min(BLOCK, self.size - at))


Content = bytes | Zeros


@dataclass(frozen=True)
class Kind:
    """What is put in, and how.

    :param members: the names that users ask for, with their content
    :param broken: times that the writer is killed and goes on
    """

    members: Iterable[tuple[str, Content]]
    mode: str = "auto"
    layout: str = "flat"
    limit: int = 1 << 50
    modified: float = 784111777
    broken: int = 0


def named(*names: str) -> Kind:
    """Small members with these names."""
    return Kind([(name, f"{n}: {name!r}".encode()) for n, name in enumerate(names)])


def recording() -> bytes:
    """A WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(struct.pack("<4000h", *(n * n % 9001 - 4500 for n in range(4000))))
    return file.getvalue()


def zipped() -> bytes:
    """A zip, which stands as a member with all its records."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("inner", "x")
        archive.comment = b"PK\5\6"
    return file.getvalue()


KINDS = {
    "one empty member": Kind([("empty", b"")]),
    "one byte": Kind([("one", b"1")]),
    "a thousand empty members": Kind([(str(n), b"") for n in range(1000)]),
    "70,000 members": Kind([(f"{n}.txt", b"%d" % n) for n in range(70_000)]),
    "stored text": Kind([("text", TEXT)], "store"),
    "stored noise": Kind([("noise", NOISE)], "store"),
    "stored nothing": Kind([("nothing", b"")], "store"),
    "stored zeros": Kind([("zeros", bytes(500_000))], "store"),
    "deflated text": Kind([("text", TEXT)], "deflate"),
    "deflated noise": Kind([("noise", NOISE)], "deflate"),
    "deflated nothing": Kind([("nothing", b"")], "deflate"),
    "deflated zeros": Kind([("zeros", bytes(500_000))], "deflate"),
    "deflated single bytes": Kind([(f"{n:02x}", bytes([n])) for n in range(256)], "deflate"),
    "some stored, some deflated": Kind([("noise", NOISE), ("text", TEXT), ("more", NOISE[1:])]),
    "recordings": Kind([(f"{n}.wav", recording()) for n in range(20)]),
    "members of many sizes": Kind([(str(n), (TEXT + NOISE)[: 2**n + 1]) for n in range(18)]),
    "members of tens of megabytes": Kind([("a", Zeros(50 << 20)), ("b", Zeros((30 << 20) + 7))]),
    "a deflated member": Kind([("text.gz", zlib.compress(TEXT, wbits=31))]),
    "a zip in a zip": Kind([("inner.zip", zipped())], "store"),
    "an end record as content": Kind([("end", b"PK\5\6" + bytes(18))], "store"),
    "a local header as content": Kind([("header", b"PK\3\4" + bytes(26) + NOISE)], "store"),
    "a directory as content": Kind([("directory", b"PK\1\2" + bytes(42) + b"PK\6\6")], "store"),
    "Chinese": named("录音/你好.wav", "測試.wav", "𠀀.wav"),
    "Japanese and Korean": named("録音テスト.wav", "ハンカク.wav", "녹음.wav"),
    "Arabic and Hebrew": named("تسجيل.wav", "הקלטה.wav", "abc אבג 123.wav"),
    "Cyrillic, Greek, Thai, Hindi": named("запись", "εγγραφή", "บันทึก", "रिकॉर्डिंग"),
    "accents": named("é", "e\u0301", "ÅÄÖ.wav", "Ǆ.wav", "ß", "SS", "İ"),
    "emoji": named("😀.wav", "👩‍👩‍👧‍👦.wav", "🇩🇪.wav", "❤️"),
    "marks that turn text": named("\u202egnp.exe", "a\u200fb", "\u2066x\u2069"),
    "half characters": named("\ud800", "a\udfffb"),
    "control characters": named("a\nb", "a\rb", "a\0b", "a\x1b[31mb", "\x7f"),
    "300-byte names": named("x" * 300, "y" * 296 + ".wav", "你" * 100, "😀" * 75),
    "1,000-character names": named("long/" * 199 + "file", "z" * 1000, "é" * 999 + "."),
    "duplicates": named(*["a.wav"] * 100),
    "duplicates but for the case": named("a.wav", "A.WAV", "A.wav", "ä", "Ä", "Σ", "ς"),
    "duplicates of made names": named("a", "a", "a (2)", "a (2)", "a (2) (2)", "a"),
    "the manifest's name": named("manifest.json", "MANIFEST.JSON", "manifest.json/x"),
    "reserved names": named("con", "NUL.txt", "com1", "lpt9.wav", "aux", "prn.tar.gz", "a/nul/b"),
    "upwards": named("../../etc/passwd", "..", "a/../../b", "..\\..\\x"),
    "absolute": named("/etc/passwd", "C:\\windows\\x", "\\\\server\\share\\x", "//x"),
    "dots, spaces and dashes": named(".hidden", "x.", "x ", " x", "...", "-rf", "--help"),
    "what shells and globs take apart": named("a*b?", "[a]", "{b}", "'q'", '"q"', "$x", "`y`", "!"),
    "what Windows refuses": named('a<b>c:d"e|f', "file.txt:stream"),
    "folders": named("a/b/c/d.wav", "a/b/e.wav", "a/f.wav", "g.wav"),
    "fifty folders deep": named("/".join(["d"] * 50) + "/x.wav"),
    "files with folders' names": named("a", "a/b", "A/c", "x/y/z", "x/y", "x"),
    "sharded": Kind([(f"{n}.jpg", b"%d" % n) for n in range(300)], layout="sharded"),
    "sharded, with hostile names": Kind(
        [(name, b"") for name in ("../x", "con", "你", "a/b", "")], layout="sharded"
    ),
    "before 1980": Kind([("old", b"x")], modified=-1e9),
    "after 2107": Kind([("new", b"x")], modified=1e10),
    "several volumes": Kind([(str(n), NOISE[n:]) for n in range(9)], "store", limit=500_000),
    "a volume for each member": Kind([(str(n), TEXT) for n in range(5)], "store", limit=1),
    "gone on with after a crash": Kind([(str(n), TEXT[n:]) for n in range(9)], broken=3),
    "broken volumes": Kind([(str(n), NOISE[n:]) for n in range(9)], limit=500_000, broken=8),
}

SLOW = {
    "65,534 members and the manifest": Kind([(str(n), b"") for n in range(65_534)]),
    "a deflated member of 4 GiB": Kind([("big", Zeros((1 << 32) + 5)), ("small", b"behind it")]),
    "a stored member of 4 GiB": Kind(
        [("big", Zeros((1 << 32) + 5)), ("small", b"behind it")], "store"
    ),
    "a stored member of 4 GiB less a byte": Kind([("edge", Zeros((1 << 32) - 1))], "store"),
}


def _add(archive: Archive, name: str, data: Content, modified: float) -> None:
    encoder = Encoder(archive.mode)
    pieces = data if isinstance(data, Zeros) else [data]
    with tempfile.TemporaryFile() as spool:
        for piece in pieces:
            spool.write(encoder.update(piece))
        spool.write(encoder.flush())
        spool.seek(0)
        blocks = iter(lambda: spool.read(BLOCK), b"")
        archive.add({1: name}, encoder.encoded, lambda: blocks, modified)


def make(folder: Path, kind: Kind) -> tuple[list[str], list[Path]]:
    """Write the archive; returns the members' names in it, in order, and its files."""
    members = list(kind.members)
    spec = PartSpec("b", 1, 1, 0, layout=kind.layout)
    wanted = [Member("http://h/", name) for name, _ in members]
    names = PartState(spec, wanted, cast(IReactorTime, Clock())).naming.names
    archive = Archive(folder, kind.mode, kind.limit)
    for number, (name, (_, data)) in enumerate(zip(names, members, strict=True)):
        if number and number <= kind.broken:
            archive.abandon()
            archive = Archive(folder, kind.mode, kind.limit)
            assert len(archive.resume()) == number
        _add(archive, name, data, kind.modified)
    return names, [path for path, *_ in archive.close(lambda *_: MANIFEST, NOTE, kind.modified)]


def _hashed(command: list[str]) -> str:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    digest, (out, err) = hashlib.sha256(), (process.stdout, process.stderr)
    assert out is not None
    assert err is not None
    while block := out.read(BLOCK):
        digest.update(block)
    said = err.read()
    process.communicate()
    if process.returncode or said:
        raise AssertionError(f"{command}: {process.returncode}, {said.decode()}")
    return digest.hexdigest()


def check(kind: Kind, names: list[str], paths: list[Path]) -> None:
    """Hold what Python, unzip, bsdtar and 7-Zip find in the files against what was put in."""
    contents = [data for _, data in kind.members]
    found: list[str] = []
    for path in paths:
        whole = hashlib.sha256()
        with zipfile.ZipFile(path) as archive:
            there = archive.namelist()
            for name in there[:-1]:
                expected, seen = hashlib.sha256(), hashlib.sha256()
                data = contents[len(found)]
                found.append(name)
                for piece in data if isinstance(data, Zeros) else [data]:
                    expected.update(piece)
                    whole.update(piece)
                with archive.open(name) as member:
                    while block := member.read(BLOCK):
                        seen.update(block)
                assert seen.digest() == expected.digest(), name
            assert (there[-1], archive.read(MANIFEST)) == (MANIFEST, NOTE)
        whole.update(NOTE)
        _hashed([need("unzip"), "-tqq", str(path)])
        _hashed([need("7z"), "t", "-bso0", str(path)])
        for reader in ("unzip -p", "bsdtar -xOf", "7z x -so"):
            program, *flags = reader.split()
            assert _hashed([need(program), *flags, str(path)]) == whole.hexdigest(), reader
    assert found == names, "other names"
    assert len({name.casefold() for name in found}) == len(contents), "a name twice"


def main() -> None:
    """Make and check all of them."""
    for title, kind in (KINDS | SLOW).items():
        with tempfile.TemporaryDirectory(prefix="bw") as folder:
            check(kind, *make(Path(folder), kind))
        print("right:", title, flush=True)


if __name__ == "__main__":
    main()
