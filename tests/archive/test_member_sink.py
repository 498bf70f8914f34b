"""Members on their way into an archive, with real threads."""

import hashlib
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.support.archives import NOISE, TEXT, content, finish
from tests.support.reactor import reactor
from twisted_bulk.archive import member_sink as member
from twisted_bulk.archive import writer as module
from twisted_bulk.archive.encoder import Encoder
from twisted_bulk.archive.member_sink import MAX_IN_MEMORY, MAX_MEMORY, PIECE_BYTES, MemberSink
from twisted_bulk.archive.pack_threads import PackThreads
from twisted_bulk.archive.spool import ReservedPlace, Scratch
from twisted_bulk.archive.writer import Archive
from twisted_bulk.errors import MemberError


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
        return MemberSink(self.threads, self.archive, {1: name}, **given | options)

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
                {1: f"{number}"},
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
        sink = MemberSink(self.threads, other, {1: "small"}, length=None, modified=0)
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
            self.archive.add({1: "half"}, encoder.encoded, pieces, 0)
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
