"""The zip writer, judged by other people's readers."""

import contextlib
import hashlib
import io
import os
import random
import shutil
import struct
import subprocess
import tempfile
import threading
import zipfile
import zlib
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support.reactor import reactor
from tests.support.redis_servers import need
from twisted_bulk.archive import member_sink as member
from twisted_bulk.archive import writer as module
from twisted_bulk.archive.encoder import Encoder
from twisted_bulk.archive.fair_queue import LONGEST_WAITING_EVERY, FairQueue
from twisted_bulk.archive.journal import Journal
from twisted_bulk.archive.member_sink import MAX_IN_MEMORY, MAX_MEMORY, PIECE_BYTES, MemberSink
from twisted_bulk.archive.pack_threads import PackThreads
from twisted_bulk.archive.spool import ReservedPlace, Scratch
from twisted_bulk.archive.volume import Volume
from twisted_bulk.archive.writer import Archive
from twisted_bulk.archive.zip_member import ZipMember
from twisted_bulk.archive.zip_records import (
    DEFLATED,
    MARK,
    STORED,
    Entry,
    central_header,
    end_records,
    local_header,
)
from twisted_bulk.errors import MemberError
from twisted_bulk.system.disk import WRITE_BYTES, write_at

NOISE = random.Random(5).randbytes(300_000)
TEXT = b"all work and no play makes jack a dull boy\n" * 9000


LAST = "manifest.json"


def add(archive: Archive, data: bytes, *names: str, **about: Any) -> list[ZipMember]:
    """A member in ``archive``, given to the encoder in two pieces."""
    encoder = Encoder(archive.mode)
    pieces = [encoder.update(piece) for piece in (data[:70_000], data[70_000:]) if piece]
    pieces.append(encoder.flush())
    return archive.add(names, encoder.encoded, lambda: pieces, 784111777, **about)


def finish(archive: Archive) -> list[bytes]:
    """The files of ``archive``."""
    found = []
    for path, size, sha256, members in archive.close(LAST, b"[]", 0):
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


class FormatTests(SynchronousTestCase):
    """Records, and archives as wholes."""

    def test_readers(self) -> None:
        """Python, unzip, bsdtar and 7-Zip accept it and find the same content."""
        members = {"noise.bin": NOISE, "text.txt": TEXT, "empty": b"", "你好/😀 é.wav": b"RIFF" * 9}
        path = Path(self.mktemp())
        path.write_bytes(build(members))
        with zipfile.ZipFile(path) as archive:
            self.assertEqual(content(path.read_bytes()), members)
            info = archive.getinfo("noise.bin")
            self.assertEqual(info.date_time, (1994, 11, 6, 8, 49, 36))
            self.assertEqual(info.external_attr >> 16, 0o100644)
            self.assertEqual(archive.getinfo("text.txt").compress_type, zipfile.ZIP_DEFLATED)
            self.assertEqual(info.compress_type, zipfile.ZIP_STORED)
        for words in (["unzip", "-tqq"], ["bsdtar", "-tf"], ["7z", "t", "-bso0"]):
            done = subprocess.run([need(words[0]), *words[1:], str(path)], capture_output=True)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_as_a_stream(self) -> None:
        """Sizes and checksum stand before the data: no descriptors, no gaps, nothing after."""
        data = build({"a": TEXT, "b": NOISE, "c": b""})
        found = streamed(data)
        self.assertEqual(found, {"a": TEXT, "b": NOISE, "c": b"", LAST: b"[]"})
        self.assertEqual(data[-22:-18], b"PK\x05\x06")

    @settings(max_examples=40, deadline=None)
    @given(
        st.dictionaries(
            st.text(
                st.characters(codec="utf-8", exclude_characters="\x00/\\"), min_size=1, max_size=30
            ),
            st.binary(max_size=2000),
            max_size=8,
        ),
        st.sampled_from(["auto", "store", "deflate"]),
    )
    def test_any_members(self, members: dict[str, bytes], mode: str) -> None:
        """Whatever goes in comes out, in each mode."""
        members = {n: d for n, d in members.items() if n != LAST} or {"one": b""}
        self.assertEqual(content(build(members, mode)), members)

    def test_huge(self) -> None:
        """A member over 4 GiB, and one that begins behind it, in a sparse file."""
        size, path = 5 << 30, self.mktemp()
        big = Entry(b"big", STORED, 0, size, size, 0, 0)
        behind = len(local_header(big)) + size
        small = Entry(b"small", STORED, zlib.crc32(b"hello"), 5, 5, 0, behind)
        with open(path, "wb") as file:
            file.write(local_header(big))
            file.seek(behind)
            file.write(local_header(small) + b"hello")
            start = file.tell()
            directory = central_header(big) + central_header(small)
            file.write(directory + end_records([big, small], start, len(directory)))
        with zipfile.ZipFile(path) as archive:
            self.assertEqual(archive.read("small"), b"hello")
            self.assertEqual(archive.getinfo("big").file_size, size)
        done = subprocess.run([need("unzip"), "-p", path, "small"], capture_output=True)
        self.assertEqual(done.stdout, b"hello", done.stderr)

    def test_the_mark_as_a_size(self) -> None:
        """A member of exactly 2^32 - 1 bytes behind 4 GiB: its size is what else marks zip64."""
        size, path = 0xFFFFFFFF, self.mktemp()
        first = Entry(b"first", STORED, 0, 5 << 30, 5 << 30, 0, 0)
        edge = Entry(b"edge", STORED, 0, size, size, 0, first.end)
        last = Entry(b"last", STORED, zlib.crc32(b"hello"), 5, 5, 0, edge.end)
        with open(path, "wb") as file:
            for entry in (first, edge, last):
                file.seek(entry.offset)
                file.write(local_header(entry))
            file.write(b"hello")
            start = file.tell()
            directory = b"".join(map(central_header, (first, edge, last)))
            file.write(directory + end_records([first, edge, last], start, len(directory)))
        with zipfile.ZipFile(path) as archive:
            self.assertEqual([i.file_size for i in archive.infolist()], [5 << 30, size, 5])
            self.assertEqual(archive.getinfo("edge").header_offset, edge.offset)
            self.assertEqual(archive.read("last"), b"hello")
        done = subprocess.run([need("7z"), "x", "-so", path, "last"], capture_output=True)
        self.assertEqual(done.stdout, b"hello", done.stderr)

    def test_the_mark_begins_a_file(self) -> None:
        """unzip 6.00 cannot read that one, so behind 4 GiB it goes into the next file."""
        volume = Volume(Path(self.mktemp()), "x+b")
        self.addCleanup(volume.file.close)
        self.assertEqual(volume.take(5 << 30, 1 << 40), 0)
        self.assertIsNone(volume.take(100, 1 << 40, MARK))
        self.assertEqual(volume.take(100, 1 << 40), 5 << 30)
        volume.free(5 << 30)
        archive = Archive(Path(tempfile.mkdtemp()), "store", 1 << 40)
        self.addCleanup(archive.abandon)
        places = [archive.reserve("a", size, 0.0).blank for size in (5 << 30, MARK, 5, MARK)]
        self.assertEqual([place.volume for place in places], [1, 2, 2, 3])

    def test_no_zip64_without_need(self) -> None:
        """Small archives can be read by the oldest programs."""
        entry = Entry(b"a", DEFLATED, 1, 0xFFFFFFFE, 5, 0, 0xFFFFFFFE)
        self.assertEqual(len(local_header(entry)), 31)
        self.assertEqual(len(central_header(entry)), 47)
        self.assertEqual(len(end_records([entry], 0xFFFFFFFE, 47)), 22)

    def test_dates(self) -> None:
        """Times that zip files do not know become the nearest that they do."""
        for seconds, year in ((0, 1980), (-1e30, 1980), (5e9, 2107), (9e99, 1980)):
            words = struct.unpack("<5H", local_header(Entry(b"", 0, 0, 0, 0, seconds, 0))[4:14])
            self.assertEqual(
                (words[4] >> 9) + 1980, year if seconds < 5e9 or year == 1980 else 2107
            )


class VolumeTests(SynchronousTestCase):
    """More than one file, members under several names, and going on after a crash."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bw"))

    def archive(self, limit: int = 1 << 40) -> Archive:
        return Archive(self.folder, "store", limit)

    def test_limit(self) -> None:
        """A member that would make a file too large begins another; one is never divided."""
        archive = self.archive(limit=250_000)
        sizes = (100_000, 100_000, 100_000, 300_000, 10, 200_000)
        placed = [add(archive, NOISE[:size], f"{n}")[0].volume for n, size in enumerate(sizes)]
        self.assertEqual(placed, [1, 1, 2, 3, 4, 4])
        found = [content(data) for data in finish(archive)]
        self.assertEqual([sorted(one) for one in found], [["0", "1"], ["2"], ["3"], ["4", "5"]])
        self.assertEqual(found[2]["3"], NOISE)

    def test_names(self) -> None:
        """One content under several names, in whichever file it falls."""
        archive = self.archive(limit=250_000)
        placed = add(archive, NOISE[:100_000], "a", "b", "c")
        self.assertEqual([(one.name, one.volume) for one in placed], [("a", 1), ("b", 1), ("c", 2)])
        merged = {n: d for data in finish(archive) for n, d in content(data).items()}
        self.assertEqual(merged, dict.fromkeys("abc", NOISE[:100_000]))

    def left(self) -> list[ZipMember]:
        """What a process that was killed has left."""
        archive = self.archive(limit=250_000)
        for name in "abc":
            add(archive, NOISE[:100_000], name, verified=name != "b", attempts=2)
        archive.abandon()
        volumes = Journal(self.folder).read().values()
        return [placed for volume in volumes for placed in volume.values()]

    def test_resume(self) -> None:
        """All that was noted is there, and the rest can follow; also a second time."""
        noted = self.left()
        archive = self.archive(limit=250_000)
        self.patch(module, "HASH_BYTES", 300_000)
        self.assertEqual(archive.background_work(), [])
        self.assertEqual(archive.resume(), noted)
        self.assertEqual(archive.background_work(), [archive._hash])
        self.assertEqual([one.verified for one in noted], [True, False, True])
        add(archive, b"d" * 100_000, "d")
        archive.abandon()
        archive = self.archive(limit=250_000)
        self.assertEqual(len(archive.resume()), 4)
        add(archive, b"e", "e")
        found = [content(data) for data in finish(archive)]
        self.assertEqual([sorted(one) for one in found], [["a", "b"], ["c", "d", "e"]])

    def test_resume_damaged(self) -> None:
        """What a power cut has spoilt is cut off: data, journal, or a whole file."""

        def halve(path: Path) -> None:
            os.truncate(path, path.stat().st_size // 2 + 9)

        def flip(path: Path) -> None:
            with open(path, "r+b") as file:
                file.seek(150_000)
                file.write(b"\0\0\0\0")

        def rename(path: Path) -> None:
            with open(path, "r+b") as file:
                file.seek(100_031 + 30)
                file.write(b"B")

        def garble(path: Path) -> None:
            with open(path, "ab") as file:
                file.write(b"half a mem")

        cases: list[tuple[str, Any, str]] = [
            ("1.zip", halve, "ac"),
            ("1.zip", flip, "ac"),
            ("1.zip", rename, "ac"),
            ("1.zip", garble, "abc"),
            ("1.zip", os.unlink, "c"),
            ("1.zip", lambda path: os.truncate(path, 0), "c"),
            ("2.zip", os.unlink, "ab"),
            ("journal", halve, "a"),
            ("journal", garble, "abc"),
            ("journal", lambda path: os.truncate(path, 0), ""),
        ]
        for file, damage, kept in cases:
            shutil.rmtree(self.folder)
            self.folder.mkdir()
            self.left()
            damage(self.folder / file)
            archive = self.archive(limit=250_000)
            right = archive.resume()
            self.assertEqual([one.name for one in right], list(kept), (file, damage))
            for volume in archive._volumes:
                self.assertEqual(volume.path.stat().st_size, volume.offset)
            archive.abandon()  # once more, as it is now
            archive = self.archive(limit=250_000)
            self.assertEqual(archive.resume(), right)
            add(archive, b"x" * 9, "x")
            merged = {n for data in finish(archive) for n in content(data)}
            self.assertEqual(merged, {*kept, "x"})

    def test_deflated(self) -> None:
        """Deflated members are read again as well, and refused when spoilt."""
        for spoil, kept in ((False, ["a", "b"]), (True, ["a"])):
            shutil.rmtree(self.folder)
            self.folder.mkdir()
            archive = Archive(self.folder, "deflate", 1 << 40)
            add(archive, TEXT, "a")
            (placed,) = add(archive, TEXT, "b")
            archive.abandon()
            if spoil:
                with open(self.folder / "1.zip", "r+b") as file:
                    file.seek(placed.offset + 50)
                    file.write(b"\xff" * 20)
            archive = Archive(self.folder, "deflate", 1 << 40)
            self.assertEqual([one.name for one in archive.resume()], kept)
            archive.abandon()

    def test_half_a_member(self) -> None:
        """One whose writing fails leaves a gap, which is closed in the end, or after a crash."""

        def broken() -> Any:
            yield b"half"
            raise OSError(28, "full")

        for crash in (False, True):
            shutil.rmtree(self.folder)
            self.folder.mkdir()
            archive = self.archive()
            add(archive, NOISE, "a")
            place = archive.reserve("slow", 5000, 0)
            place.write(NOISE[:5000])
            encoder = Encoder("store")
            encoder.update(NOISE)
            with self.assertRaises(OSError):
                archive.add(["b"], encoder.encoded, broken, 0)
            (after,) = add(archive, NOISE[5:], "c")
            self.assertEqual(after.offset, place.blank.end)
            if crash:
                archive.abandon()
                archive = self.archive()
                self.assertEqual([one.name for one in archive.resume()], ["a", "c"])
                # What was moved is noted where it is: also when the next crash comes at once.
                archive.abandon()
                archive = self.archive()
                self.assertEqual([one.name for one in archive.resume()], ["a", "c"])
            else:
                place.close()
            add(archive, b"d", "d")
            (found,) = finish(archive)
            self.assertEqual(content(found), {"a": NOISE, "c": NOISE[5:], "d": b"d"})
            self.assertEqual(sorted(streamed(found)), ["a", "c", "d", LAST])


class PlacesTests(SynchronousTestCase):
    """Whatever is filled, given back or lost in whatever order: what is whole comes out."""

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("put"), st.integers(0, 3000)),
                st.tuples(st.just("reserve"), st.integers(0, 3000)),
                st.tuples(st.just("complete"), st.integers(0, 5)),
                st.tuples(st.just("free"), st.integers(0, 5)),
                st.tuples(st.just("hash"), st.just(0)),
                st.tuples(st.just("crash"), st.just(0)),
            ),
            max_size=40,
        ),
        st.sampled_from([5000, 1 << 40]),
    )
    def test_any_order(self, steps: list[tuple[str, int]], limit: int) -> None:
        """Members that are put in, that get a place, and what becomes of it."""
        folder = Path(tempfile.mkdtemp(prefix="bw"))
        archive, whole = Archive(folder, "store", limit), {"first": b"1"}
        add(archive, b"1", "first")
        places: list[tuple[str, bytes, ReservedPlace]] = []
        for number, (step, value) in enumerate(steps):
            name, data = f"{number}", NOISE[number : number + value]
            if step == "put":
                add(archive, data, name)
                whole[name] = data
            elif step == "reserve":
                places.append((name, data, archive.reserve(name, value, 0)))
                places[-1][2].write(data[: value // 2])
            elif step == "complete" and value < len(places):
                name, data, place = places.pop(value)
                place.write(data[len(data) // 2 :])
                encoder = Encoder("store")
                encoder.update(data)
                archive.add([name], encoder.encoded, place.read, 0, place=place)
                whole[name] = data
            elif step == "free" and value < len(places):
                places.pop(value)[2].close()
            elif step == "hash":
                archive._hash()
            elif step == "crash":
                archive.abandon()
                archive, places = Archive(folder, "store", limit), []
                self.assertEqual({one.name for one in archive.resume()}, set(whole))
        merged: dict[str, bytes] = {}
        for data in finish(archive):
            merged |= streamed(data)
        self.assertEqual(merged.pop(LAST), b"[]")
        self.assertEqual(merged, whole)
        for _, _, place in places:
            self.assertRaises(ValueError, place.write, b"")
            place.close()
        shutil.rmtree(folder)

    def test_gap_is_used(self) -> None:
        """What is given back goes to the next that fits, so that little has to be moved."""
        archive = Archive(Path(tempfile.mkdtemp(prefix="bw")), "store", 1 << 40)
        place = archive.reserve("gone", 9000, 0)
        (behind,) = add(archive, NOISE, "behind")
        place.close()
        (first,) = add(archive, NOISE[:4000], "first")
        (second,) = add(archive, NOISE[:4000], "second")
        (third,) = add(archive, NOISE[:4000], "third")
        self.assertEqual((first.offset, second.offset), (0, first.end))
        self.assertGreater(third.offset, behind.offset)
        place = archive.reserve("last", 9000, 0)
        place.close()
        self.assertEqual(archive.reserve("end", 5000, 0).blank.offset, third.end)

    def test_gaps_join(self) -> None:
        """Places side by side that are given back are one gap; at the end they are the end."""
        archive = Archive(Path(tempfile.mkdtemp(prefix="bw")), "store", 1 << 40)
        places = [archive.reserve(f"{number}", 3000, 0) for number in range(3)]
        add(archive, b"behind", "behind")
        for number in (0, 2, 1):
            places[number].close()
        self.assertEqual(archive.reserve("all", 9000, 0).blank.offset, 0)
        places = [archive.reserve(f"{number}", 3000, 0) for number in range(3)]
        end = places[0].blank.offset
        for number in (1, 0, 2):
            places[number].close()
        self.assertEqual(archive.reserve("more", 9999, 0).blank.offset, end)

    def test_given_back_once(self) -> None:
        """Who gives a place back twice does not take it from its next owner."""
        archive = Archive(Path(tempfile.mkdtemp(prefix="bw")), "store", 1 << 40)
        first = archive.reserve("a", 3000, 0)
        first.close()
        second = archive.reserve("b", 3000, 0)
        first.close()
        third = archive.reserve("c", 3000, 0)
        self.assertEqual((second.blank.offset, third.blank.offset), (0, second.blank.end))

    def test_hash_waits_for_gaps(self) -> None:
        """What is hashed does not move any more."""
        archive = Archive(Path(tempfile.mkdtemp(prefix="bw")), "store", 1 << 40)
        add(archive, NOISE, "first")
        place = archive.reserve("gone", 3000, 0)
        add(archive, NOISE, "behind")
        archive._hash()
        place.close()
        archive._hash()
        (found,) = finish(archive)
        self.assertEqual(set(streamed(found)), {"first", "behind", LAST})

    def test_close_that_fails(self) -> None:
        """A disk that fails in the very end, when members have moved already, loses none."""
        folder = Path(tempfile.mkdtemp(prefix="bw"))
        archive = Archive(folder, "store", 1 << 40)
        archive.reserve("gone", 3000, 0).write(NOISE[:2000])
        for name in "abc":
            add(archive, NOISE[: 100_000 + ord(name)], name)

        def broken(descriptor: int) -> None:
            raise OSError(5, "broken")

        with self.assertRaises(OSError), self.patch(os, "fsync", broken):
            archive.close(LAST, b"[]", 0)
        archive.abandon()
        archive = Archive(folder, "store", 1 << 40)
        self.assertEqual([one.name for one in archive.resume()], ["a", "b", "c"])
        self.assertEqual(set(streamed(*finish(archive))), {"a", "b", "c", LAST})

    def test_lost_volume(self) -> None:
        """Where nothing of one file was whole, the next takes its place; also the time after."""
        folder = Path(tempfile.mkdtemp(prefix="bw"))
        archive = Archive(folder, "store", 5000)
        archive.reserve("lost", 4000, 0).write(NOISE[:3000])
        add(archive, NOISE[:4000], "a")
        add(archive, NOISE[:4000], "b")
        archive.abandon()
        for _ in range(2):
            archive = Archive(folder, "store", 5000)
            self.assertEqual([(p.name, p.volume) for p in archive.resume()], [("a", 1), ("b", 2)])
            self.assertEqual(sorted(path.name for path in folder.glob("*.zip")), ["1.zip", "2.zip"])
            archive.abandon()

    def test_nested(self) -> None:
        """A member within a member is none, whatever the journal says."""
        folder = Path(tempfile.mkdtemp(prefix="bw"))
        archive = Archive(folder, "store", 1 << 40)
        (inner,) = add(archive, b"inner", "inner")
        data = (folder / "1.zip").read_bytes()
        (outer,) = add(archive, data, "outer")
        archive.abandon()
        journal = Journal(folder)
        journal.restart([outer, msgspec.structs.replace(inner, offset=outer.end - len(data))])
        journal.close()
        archive = Archive(folder, "store", 1 << 40)
        self.assertEqual([one.name for one in archive.resume()], ["outer"])

    def test_crash_while_volumes_move(self) -> None:
        """A second crash, between a file's new name and the journal's new beginning."""
        folder = Path(tempfile.mkdtemp(prefix="bw"))
        archive = Archive(folder, "store", 5000)
        archive.reserve("lost", 4000, 0).write(NOISE[:3000])
        for name in "abc":
            add(archive, NOISE[:4000], name)
        archive.abandon()

        def crash(journal: Journal, members: Any) -> None:
            raise OSError(5, "broken")

        patched = self.patch(Journal, "restart", crash)
        archive = Archive(folder, "store", 5000)
        self.assertRaises(OSError, archive.resume)
        archive.abandon()
        patched.restore()
        archive = Archive(folder, "store", 5000)
        found = [(one.name, one.volume) for one in archive.resume()]
        self.assertEqual(found, [("a", 1), ("b", 2), ("c", 3)])

    def test_nothing_left_in_a_file(self) -> None:
        """A file whose members all failed goes."""
        archive = Archive(Path(tempfile.mkdtemp(prefix="bw")), "store", 5000)
        first = archive.reserve("a", 4000, 0)
        add(archive, NOISE[:4000], "b")
        last = archive.reserve("c", 4000, 0)
        first.close()
        last.close()
        self.assertEqual(archive.used(), [2])
        self.assertEqual([set(streamed(data)) for data in finish(archive)], [{"b", LAST}])
        self.assertEqual(os.listdir(archive.folder), ["2.zip"])

    def test_too_late(self) -> None:
        """While an archive is closed, and after it, nobody gets a place or writes to one."""
        archive = Archive(Path(tempfile.mkdtemp(prefix="bw")), "store", 1 << 40)
        add(archive, NOISE, "a")
        place = archive.reserve("late", 4000, 0)
        fsync, seen = os.fsync, []

        def meanwhile(descriptor: int) -> None:
            for late in (lambda: archive.reserve("b", 9, 0), lambda: place.write(b"x")):
                self.assertRaises(ValueError, late)
            place.close()
            leaving = threading.Thread(target=archive.abandon)
            leaving.start()
            leaving.join(0.1)
            seen.append(leaving)
            self.assertTrue(leaving.is_alive())
            fsync(descriptor)

        self.patch(os, "fsync", meanwhile)
        (found,) = finish(archive)
        self.assertEqual(set(streamed(found)), {"a", LAST})
        seen[0].join(10)
        self.assertFalse(seen[0].is_alive())

    def test_resume_is_waited_for(self) -> None:
        """Who gives up while an archive is read again waits until nobody touches its files."""
        folder = Path(tempfile.mkdtemp(prefix="bw"))
        archive = Archive(folder, "store", 1 << 40)
        archive.reserve("lost", 4000, 0)
        add(archive, NOISE, "a")
        archive.abandon()
        archive = Archive(folder, "store", 1 << 40)
        leaving = threading.Thread(target=archive.abandon)
        check = Volume._check

        def slowly(volume: Volume, one: ZipMember, wanted: Any) -> bool:
            leaving.start()
            leaving.join(0.1)
            self.assertTrue(archive._abandoned and leaving.is_alive())
            return check(volume, one, wanted)

        self.patch(Volume, "_check", slowly)
        self.assertRaises(ValueError, archive.resume)
        leaving.join(10)
        self.assertFalse(leaving.is_alive())

    def test_half_a_line(self) -> None:
        """What is noted after half a line can be read."""
        folder = Path(tempfile.mkdtemp(prefix="bw"))
        archive = Archive(folder, "store", 1 << 40)
        add(archive, b"a", "a")
        add(archive, b"b", "b")
        archive.abandon()
        size = (folder / "journal").stat().st_size
        os.truncate(folder / "journal", size - 9)
        archive = Archive(folder, "store", 1 << 40)  # whose resume is not called
        archive._journal.note(ZipMember("c", 1, 0, 0, 0, 0, 0, 0, ""))
        self.assertEqual(set(Journal(folder).read()[1]), {"a", "c"})

    def leave(self, how: Callable[[Archive], Any]) -> Any:
        """Do that in a thread while another one writes; it has to wait."""
        archive = Archive(Path(tempfile.mkdtemp(prefix="bw")), "store", 1 << 40)
        writing, go = threading.Event(), threading.Event()
        add(archive, b"first", "first")

        def pieces() -> Any:
            writing.set()
            go.wait(10)
            yield b"late"

        encoder, found = Encoder("store"), list[Any]()
        encoder.update(b"late")

        def write() -> None:
            with contextlib.suppress(ValueError):
                archive.add(["late"], encoder.encoded, pieces, 0)

        adding = threading.Thread(target=write)
        adding.start()
        writing.wait(10)
        leaving = threading.Thread(target=lambda: found.append(how(archive)))
        leaving.start()
        leaving.join(0.1)
        self.assertTrue(leaving.is_alive())
        self.assertFalse(archive._volumes.latest[0].file.closed)
        go.set()
        adding.join(10)
        leaving.join(10)
        self.assertTrue(archive._volumes.latest[0].file.closed)
        return found[0]

    def test_waits_for_writers(self) -> None:
        """Files are not closed, nor left to others, while a thread writes to them."""
        self.leave(Archive.abandon)
        (found,) = self.leave(finish)
        self.assertEqual(set(streamed(found)), {"first", "late", LAST})

    def test_no_more_than_it_takes(self) -> None:
        """A place cannot be overrun, and not be left half-filled."""
        archive = Archive(Path(tempfile.mkdtemp(prefix="bw")), "store", 1 << 40)
        place = archive.reserve("a", 10, 0)
        place.write(b"123456789")
        self.assertRaises(ValueError, place.write, b"01")
        encoder = Encoder("store")
        encoder.update(b"123456789")
        self.assertRaises(
            ValueError, archive.add, ["a"], encoder.encoded, place.read, 0, place=place
        )


class TurnsTests(SynchronousTestCase):
    """What is next of what many wait for."""

    def test_order(self) -> None:
        """Owners in turn; of each the lowest rank, and of two alike the first."""
        turns: FairQueue[str] = FairQueue()
        for rank, item in ((5, "e"), (1, "b"), (1, "c"), (0, "a")):
            turns.add("big", rank, item)
        turns.add("small", 9, "z")
        self.assertEqual("".join(turns.take() for _ in range(3)), "azb")
        turns.add("new", 0, "n")
        self.assertEqual("".join(turns.take() for _ in range(3)), "cne")

    def test_nobody_waits_for_ever(self) -> None:
        """The youngest has its turn, however many older ones come meanwhile."""
        turns: FairQueue[int] = FairQueue()
        turns.add("a", 99, 99)
        for rank in range(LONGEST_WAITING_EVERY):
            turns.add("a", rank, rank)
        self.assertEqual(
            [turns.take() for _ in range(LONGEST_WAITING_EVERY + 1)],
            [*range(LONGEST_WAITING_EVERY - 1), 99, LONGEST_WAITING_EVERY - 1],
        )


class WriteTests(SynchronousTestCase):
    """What stands in front, and what comes behind it, in one call."""

    def test_in_parts(self) -> None:
        """However much of it a file takes at once."""
        path, write = Path(self.mktemp()), os.pwritev
        for most in (1, 3, 5, 100):
            calls: list[int] = []

            def some(file: int, pieces: Any, at: int, most: int = most, to: Any = calls) -> int:
                to.append(at)
                return write(file, [b"".join(pieces)[:most]], at)

            self.patch(os, "pwritev", some)
            for head, data in ((b"head", b"data" * 9), (b"head", b""), (b"", b"data"), (b"", b"")):
                calls.clear()
                with open(path, "wb", buffering=0) as file:
                    self.assertEqual(write_at(file, data, 7, head), 7 + len(head + data))
                self.assertEqual(path.read_bytes()[7:], head + data)
                self.assertEqual(len(calls), -(-len(head + data) // most))

    def test_large_ones(self) -> None:
        """They are written in pieces."""
        sizes: list[int] = []
        data, write = os.urandom(WRITE_BYTES * 2 + 1), os.pwritev

        def noted(file: int, pieces: Any, at: int) -> int:
            sizes.append(sum(map(len, pieces)))
            return write(file, pieces, at)

        self.patch(os, "pwritev", noted)
        with tempfile.TemporaryFile(buffering=0) as file:
            write_at(file, data, 0, b"head")
            file.seek(0)
            self.assertEqual(file.read(), b"head" + data)
        self.assertEqual(sizes, [WRITE_BYTES + 4, WRITE_BYTES, 1])

    def test_nothing_behind_it(self) -> None:
        """A member without a piece has its header."""
        archive = Archive(Path(tempfile.mkdtemp(prefix="bw")), "store", 1 << 40)
        archive.add(["empty"], Encoder("store").encoded, list, 0.0)
        (found,) = finish(archive)
        self.assertEqual(content(found), {"empty": b""})


class PackerTests(SynchronousTestCase):
    """How the reactor's thread hears of what was done on others."""

    def setUp(self) -> None:
        self.woken: list[Callable[[], None]] = []
        self.threads = PackThreads(SimpleNamespace(callFromThread=self.woken.append), 1)
        self.threads.startService()
        self.addCleanup(self.threads.stopService)
        self.got: list[Any] = []

    def run_to_end(self, *works: Callable[[], Any]) -> None:
        """Until all that is on the thread by then is done."""
        for work in works:
            self.threads.run(work).addBoth(self.got.append)
        self.threads._threads.submit(str).result()

    def test_woken_once(self) -> None:
        """It is woken once for all that ends before it comes to that, and nothing is lost."""
        self.run_to_end(*[partial(int, number) for number in ("0", "1", "x")])
        self.assertEqual((len(self.woken), self.got), (1, []))
        self.woken.pop()()
        self.assertEqual(self.got[:2], [0, 1])
        self.assertIsInstance(self.got[2].value, ValueError)
        self.run_to_end(partial(int, 3))
        self.woken.pop()()
        self.assertEqual((self.got[3:], self.woken), ([3], []))

    def test_stopped(self) -> None:
        """Nothing is begun any more, and that is no error."""
        self.threads.stopService()
        for run in (self.threads.run, self.threads.run_long, self.threads.run_small):
            run(self.got.append, 1)
        self.threads.run_in_turn("owner", 1, self.got.append, 1)
        self.assertEqual((self.got, self.woken), ([], []))

    def test_threads_are_there(self) -> None:
        """No thread has to be begun when there is work: that may fail."""

        def refused(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        self.patch(threading.Thread, "start", refused)
        self.run_to_end(partial(int, 1))
        self.woken.pop()()
        self.assertEqual(self.got, [1])

    def test_too_late_for_this_turn(self) -> None:
        """What ends just as the reactor's thread has told all is told in another turn."""
        late, more = [2], self.run_to_end

        class Results(deque[Any]):
            def __bool__(self) -> bool:
                found = len(self) > 0
                if not found and late:
                    more(late.pop)
                return found

        self.threads._results = Results()
        self.run_to_end(partial(int, 1))
        while self.woken:
            self.woken.pop(0)()
        self.assertEqual(self.got, [1, 2])


class SinkTests(TestCase):
    """Members on their way in, with real threads."""

    timeout = 30

    def setUp(self) -> None:
        self.threads = PackThreads(reactor, 2)
        self.threads.startService()
        self.addCleanup(self.threads.stopService)
        self.archive = Archive(Path(tempfile.mkdtemp(prefix="bw")), "auto", 1 << 40)

    def sink(self, name: str, **options: Any) -> MemberSink:
        given = {"length": None, "modified": 0.0}
        return MemberSink(self.threads, self.archive, [name], **given | options)

    async def put(self, sink: MemberSink, data: bytes, piece: int = 100_000) -> None:
        for at in range(0, len(data), piece):
            busy = sink.write(data[at : at + piece])
            if busy is not None:
                await busy
        await sink.finish()

    async def content(self) -> dict[str, bytes]:
        (found,) = await self.threads.run(finish, self.archive)
        self.assertEqual(os.listdir(self.archive.folder), ["1.zip"])
        while self.threads.held:  # writes of discarded members that are still under way
            await deferLater(reactor, 0.001)
        return content(found)

    async def test_sizes(self) -> None:
        """Through memory or through a file, known length or not, all at once."""
        members = {
            "empty": b"",
            "small": NOISE,
            "text": TEXT,
            "edge": TEXT[:1] * MAX_IN_MEMORY,
            "large": NOISE * 20,
            "large text": TEXT * 20,
        }
        putting = []
        for name, data in members.items():
            for length in (None, len(data)):
                sink = self.sink(f"{name} {length}", length=length)
                putting.append(Deferred.fromCoroutine(self.put(sink, data)))
        for done in putting:
            await done
        found = await self.content()
        expected = {f"{name} {n}": d for name, d in members.items() for n in (None, len(d))}
        self.assertEqual(found, expected)

    async def test_oldest_first(self) -> None:
        """What came first is packed first, of each archive; archives take turns."""
        sizes: list[int] = []
        archives = [
            Archive(Path(tempfile.mkdtemp(prefix="bw")), "store", 1 << 40, sizes.append)
            for _ in range(2)
        ]
        threads, go = PackThreads(reactor, 1), threading.Event()
        threads.startService()
        self.addCleanup(threads.stopService)
        blocked = threads.run(go.wait, 10)
        sinks = [
            MemberSink(
                threads,
                archives[number // 3],
                [f"{number}"],
                length=MAX_IN_MEMORY * 2,
                modified=0.0,
            )
            for number in range(4)
        ]
        for number in (2, 0, 1, 3):
            self.assertIsNone(sinks[number].write(b"x" * (MAX_IN_MEMORY + number)))
        go.set()
        await blocked
        while any(sink._flushing for sink in sinks):
            await deferLater(reactor, 0.001)
        for sink in sinks:
            sink.discard()
        self.assertEqual([size - MAX_IN_MEMORY for size in sizes], [0, 3, 1, 2])
        for archive in archives:
            await threads.run(archive.abandon)

    async def test_full_while_in_turn(self) -> None:
        """What goes wrong on the thread is told to whom it concerns."""

        def full(size: int) -> None:
            raise OSError("full")

        self.archive._room = full
        sink = self.sink("a", length=MAX_IN_MEMORY * 4)
        sink.write(b"x" * MAX_IN_MEMORY)
        busy = sink.write(b"x" * MAX_IN_MEMORY)
        assert busy is not None
        with self.assertRaises(OSError):
            await busy
        sink.discard()

    async def test_disk_keeps_up(self) -> None:
        """What was written goes to the disk, and is hashed, before the end."""
        asked: list[int] = []
        self.patch(module, "SYNC_BYTES", 2 * len(NOISE))
        self.patch(module, "HASH_BYTES", 2 * len(NOISE))
        self.patch(module, "begin_writing", asked.append)
        for number in range(8):
            await self.put(self.sink(str(number)), NOISE)
            while self.archive.syncing or self.archive.hashing:
                await deferLater(reactor, 0.001)
        self.assertEqual(len(asked), 4)
        (volume,) = self.archive._volumes
        self.assertEqual(volume.hashed, volume.offset)
        self.assertGreater(volume.hashed, 8 * len(NOISE))

    async def test_bounded_memory(self) -> None:
        """A sink that is not waited for says so; many together spill into files."""
        sinks = [self.sink(str(n)) for n in range(80)]
        most = 0
        for _ in range(9):
            for sink in sinks:
                busy = sink.write(NOISE[:100_000])
                most = max(most, self.threads.held)
                if busy is not None:
                    await busy
        # Beyond the limit each may have one piece in hand and one being written.
        self.assertGreater(most, MAX_MEMORY)
        self.assertLess(most, MAX_MEMORY + 80 * 2 * 100_000)
        for sink in sinks:
            await sink.finish()
        self.assertEqual(await self.content(), {str(n): NOISE[:100_000] * 9 for n in range(80)})

    async def test_large_ones_wait_in_small_pieces(self) -> None:
        """Of one that is known to be large little is kept while it waits to be written."""
        go = threading.Event()
        blocked = [self.threads.run(go.wait, 10) for _ in range(2)]
        sink = self.sink("a", length=MAX_IN_MEMORY * 9)
        written = 0
        while (busy := sink.write(NOISE[:50_000])) is None:
            written += 50_000
        self.assertLess(written, 2 * PIECE_BYTES + 50_000)
        go.set()
        for each in blocked:
            await each
        await busy
        sink.discard()

    async def test_checksum(self) -> None:
        """Content with another SHA-256 than was asked for stays out, small or large."""
        for name, data in (("small", TEXT), ("large", TEXT * 20)):
            right = hashlib.sha256(data).hexdigest()
            await self.put(self.sink(name, sha256=right.upper()), data)
            wrong = self.sink("wrong", sha256="0" * 64)
            with self.assertRaises(MemberError) as caught:
                await self.put(wrong, data)
            wrong.discard()
            self.assertEqual(caught.exception.code, "checksum_mismatch")
        self.assertEqual(set(await self.content()), {"small", "large"})

    async def test_discarded(self) -> None:
        """Nothing is left of an attempt that failed half-way."""
        for size in (1000, 5 * MAX_IN_MEMORY):
            sink = self.sink("gone", length=size)
            for _ in range(size // 2000):
                busy = sink.write(NOISE[:1000])
                if busy is not None:  # it may fail once the sink is discarded under it
                    busy.addErrback(lambda _: None)
                    break
            sink.discard()
        await self.put(self.sink("kept"), TEXT)
        self.assertEqual(set(await self.content()), {"kept"})

    async def test_reserved(self) -> None:
        """A place is kept for what is stored, is not too large, and tells how large it is."""
        self.patch(member, "MAX_RESERVED", 20 * len(NOISE))
        for length, data, kind in (
            (None, NOISE, Scratch),
            (20 * len(NOISE), TEXT, Scratch),
            (20 * len(NOISE), NOISE, ReservedPlace),
            (20 * len(NOISE) + 1, NOISE, Scratch),
        ):
            sink = self.sink("a", length=length)
            sink.write(data * (1 + MAX_IN_MEMORY // len(data)))
            while sink._spool is None:
                await deferLater(reactor, 0.001)
            self.assertIsInstance(sink._spool, kind)
            sink.discard()
            while sink._flushing is not None:
                await deferLater(reactor, 0.001)
            with self.assertRaises(ValueError):  # a thread that comes late
                sink._to_spool([b"late"])
        await self.put(self.sink("kept"), TEXT)
        self.assertEqual(set(await self.content()), {"kept"})

    async def test_dropped_while_it_writes(self) -> None:
        """The file stays open under the thread that writes to it: its number may be another's."""
        sink, writing, go = self.sink("gone"), threading.Event(), threading.Event()
        sink.write(NOISE * 4)
        while sink._flushing is not None:
            await deferLater(reactor, 0.001)
        spool = sink._spool
        assert isinstance(spool, Scratch)

        def claim(size: int) -> None:
            writing.set()
            go.wait(10)

        self.patch(self.archive, "claim", claim)
        sink.write(NOISE * 4)
        await deferToThread(writing.wait, 10)
        sink.discard()
        await deferLater(reactor, 0.05)
        self.assertFalse(spool.file.closed)
        go.set()
        while not spool.file.closed:
            await deferLater(reactor, 0.001)

    async def test_large_one_holds_up_nobody(self) -> None:
        """While a large member is copied others wait without a thread."""
        started, go = threading.Event(), threading.Event()

        def claim(size: int) -> None:
            if size > 5 * MAX_IN_MEMORY:
                started.set()
                go.wait(10)

        self.patch(self.archive, "claim", claim)
        large = Deferred.fromCoroutine(self.put(self.sink("large"), NOISE * 20))
        await deferToThread(started.wait, 10)
        beside = [Deferred.fromCoroutine(self.put(self.sink(f"{n}"), NOISE)) for n in range(3)]
        other = Archive(Path(tempfile.mkdtemp(prefix="bw")), "auto", 1 << 40)
        sink = MemberSink(self.threads, other, ["small"], length=None, modified=0)
        await self.put(sink, TEXT)
        self.assertEqual([one.name for one in sink.placed], ["small"])
        self.assertFalse(large.called)
        for done in beside:
            await done
        self.assertFalse(large.called)
        go.set()
        await large
        self.assertEqual(set(await self.content()), {"large", "0", "1", "2"})

    async def test_abandoned_half_way(self) -> None:
        """A member that is being copied in ends with the archive, not with its last byte."""
        sink = self.sink("large")
        await self.put(self.sink("whole"), NOISE)

        def pieces() -> Any:
            yield NOISE[:100]
            self.archive._abandoned = True
            yield NOISE[100:]

        encoder = Encoder("store")
        encoder.update(NOISE)
        with self.assertRaises(ValueError):
            self.archive.add(["half"], encoder.encoded, pieces, 0)
        sink.discard()
        again = Archive(self.archive.folder, "auto", 1 << 40)
        self.assertEqual([one.name for one in again.resume()], ["whole"])

    async def test_abandoned(self) -> None:
        """What still comes after the archive was given up goes nowhere."""
        sink = self.sink("late")
        sink.write(TEXT)
        self.archive.abandon()
        with self.assertRaises(ValueError):
            await sink.finish()
        self.assertEqual(os.listdir(self.archive.folder), ["journal"])
