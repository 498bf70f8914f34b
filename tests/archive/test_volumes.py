"""The volumes of an archive: their limit, and going on after a crash."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.archives import LAST, NOISE, TEXT, add, content, finish, streamed
from twisted_bulk.archive import writer as module
from twisted_bulk.archive.encoder import Encoder
from twisted_bulk.archive.journal import Journal
from twisted_bulk.archive.writer import Archive
from twisted_bulk.archive.zip_member import ZipMember


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
                archive.add({1: "b"}, encoder.encoded, broken, 0)
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
