"""Places in a volume: filled, given back, lost; what is whole comes out."""

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.archives import LAST, NOISE, add, finish, streamed
from twisted_bulk.archive.encoder import Encoder
from twisted_bulk.archive.journal import Journal
from twisted_bulk.archive.spool import ReservedPlace
from twisted_bulk.archive.volume import Volume
from twisted_bulk.archive.writer import Archive
from twisted_bulk.archive.zip_member import ZipMember


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
                archive.add({1: name}, encoder.encoded, place.read, 0, place=place)
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
            archive.close(lambda *_: LAST, b"[]", 0)
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
                archive.add({1: "late"}, encoder.encoded, pieces, 0)

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
            ValueError, archive.add, {1: "a"}, encoder.encoded, place.read, 0, place=place
        )
