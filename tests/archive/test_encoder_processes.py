"""Members are encoded, in place and in processes of their own."""

import contextlib
import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support.daemon import Daemon, environment
from tests.support.daemon_case import DaemonTestCase, until
from tests.support.processes import alive
from tests.support.reactor import reactor
from twisted_bulk.archive import encoder_processes as module
from twisted_bulk.archive.encoder import (
    MODES,
    REPLY,
    REQUEST,
    SAMPLE_BYTES,
    SLOT_BYTES,
    Data,
    Encoded,
    Encoder,
    encode,
)
from twisted_bulk.archive.encoder_processes import Encoders, EncodingFailed
from twisted_bulk.archive.member_sink import MAX_IN_MEMORY
from twisted_bulk.archive.zip_records import DEFLATED, STORED

NOISE = random.Random(7).randbytes(MAX_IN_MEMORY - 1)
TEXT = (b"all work and no play makes jack a dull boy\n" * 30_000)[: MAX_IN_MEMORY - 1]
CONTENTS = {
    "nothing": b"",
    "a byte": b"a",
    "a sample": TEXT[:SAMPLE_BYTES],
    "more than a sample": TEXT[: SAMPLE_BYTES + 1],
    "the largest": TEXT,
    "little noise": NOISE[:1000],
    "a sample of noise": NOISE[:SAMPLE_BYTES],
    "the largest noise": NOISE,
    "noise behind a sample of text": TEXT[:SAMPLE_BYTES] + NOISE[SAMPLE_BYTES:],
    "text behind a sample of noise": NOISE[:SAMPLE_BYTES] + TEXT[SAMPLE_BYTES:],
}


def decoded(encoded: Encoded, packed: Data) -> bytes:
    """The content again."""
    return zlib.decompress(packed, -15) if encoded.method == DEFLATED else bytes(packed)


class EncodeTests(SynchronousTestCase):
    """What came of a member."""

    def check(self, encoded: Encoded, packed: Data, data: bytes) -> None:
        self.assertEqual(decoded(encoded, packed), data)
        self.assertEqual(
            (encoded.crc, encoded.size, encoded.packed, encoded.sha256),
            (zlib.crc32(data), len(data), len(packed), hashlib.sha256(data).hexdigest()),
        )

    def test_whole(self) -> None:
        """Every content in every mode; none is longer than its slot."""
        for mode in MODES:
            for data in CONTENTS.values():
                encoded, packed = encode(mode, data)
                self.check(encoded, packed, data)
                self.assertLessEqual(len(packed), SLOT_BYTES)
                if mode == "auto":
                    self.assertLessEqual(len(packed), len(data))

    def test_method(self) -> None:
        """What was asked for; or by a sample, and by all of it."""
        methods = {
            mode: {name: encode(mode, data)[0].method for name, data in CONTENTS.items()}
            for mode in MODES
        }
        self.assertEqual(set(methods["store"].values()), {STORED})
        self.assertEqual(set(methods["deflate"].values()), {DEFLATED})
        deflated = {name for name, method in methods["auto"].items() if method == DEFLATED}
        self.assertEqual(
            deflated,
            {"a sample", "more than a sample", "the largest", "noise behind a sample of text"},
        )

    def test_pieces(self) -> None:
        """The same in pieces."""
        for mode in MODES:
            for data in CONTENTS.values():
                encoder = Encoder(mode)
                pieces = [data[at : at + 100_000] for at in range(0, len(data), 100_000)]
                packed = b"".join(map(encoder.update, pieces)) + encoder.flush()
                self.check(encoder.encoded, packed, data)


class ProcessTests(TestCase):
    """The processes, and the slots that are shared with them."""

    timeout = 60

    def setUp(self) -> None:
        self.encoders = Encoders(reactor, 2)
        self.encoders.startService()
        self.addCleanup(self.encoders.stopService)

    def encode(self, data: bytes, mode: str = "auto", size: int = 100_000) -> Deferred[Any]:
        """Fires with what came of it, and the content again."""
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        return self.encoders.encode(
            mode, pieces, lambda *found: succeed((found[0], decoded(*found)))
        )

    def pids(self) -> list[int]:
        transports: list[Any] = [process.transport for process in self.encoders._processes]
        return [transport.pid for transport in transports]

    async def test_many(self) -> None:
        """More than there are slots, all at once, by two processes."""
        contents = [data[: len(data) - n] for n in range(8) for data in CONTENTS.values()]
        for mode in MODES:
            under_way = [self.encode(data, mode) for data in contents]
            self.assertEqual(len(self.encoders._free), 0)
            for data, done in zip(contents, under_way, strict=True):
                encoded, again = await done
                self.assertEqual(again, data)
                self.assertEqual(encoded, encode(mode, data)[0])
        self.assertEqual(len(self.pids()), 2)
        self.assertEqual(len(self.encoders._free), module.MAX_SLOTS)

    async def test_one_after_the_other(self) -> None:
        """Another process is for what comes at once."""
        for _ in range(3):
            await self.encode(TEXT)
        self.assertEqual(len(self.pids()), 1)

    async def test_killed(self) -> None:
        """Who waited for it is told; others are served by another."""
        await self.encode(TEXT)
        (pid,) = self.pids()
        os.kill(pid, signal.SIGSTOP)
        lost = self.encode(TEXT)
        kept = self.encode(NOISE)
        os.kill(pid, signal.SIGKILL)
        with self.assertRaises(EncodingFailed):
            await lost
        self.assertEqual((await kept)[1], NOISE)
        self.assertEqual((await self.encode(TEXT))[1], TEXT)
        self.assertEqual(len(self.encoders._free), module.MAX_SLOTS)
        self.assertNotIn(pid, self.pids())

    async def test_frozen(self) -> None:
        """One that does not answer is ended; one that has nothing to do is not."""
        await self.encode(TEXT)
        self.patch(module, "REPLY_SECONDS", 0.1)
        (pid,) = self.pids()
        await deferLater(reactor, 0.3)
        self.assertEqual(self.pids(), [pid])
        os.kill(pid, signal.SIGSTOP)
        with self.assertRaises(EncodingFailed):
            await self.encode(TEXT)
        self.patch(module, "REPLY_SECONDS", 60)
        self.assertEqual((await self.encode(TEXT))[1], TEXT)

    async def test_asked_in_vain(self) -> None:
        """Where it cannot be asked any more it is ended, and others are asked."""
        await self.encode(TEXT)
        (process,) = self.encoders._processes
        transport: Any = process.transport
        transport.signalProcess("STOP")
        transport.closeChildFD(module.REQUESTS)
        while module.REQUESTS in transport.pipes:
            await deferLater(reactor, 0.001)
        lost, *others = [self.encode(TEXT) for _ in range(4)]
        with self.assertRaises(EncodingFailed):
            await lost
        for other in others:
            self.assertEqual((await other)[1], TEXT)

    async def test_at_work_though_broken(self) -> None:
        """As long as it may write to its slots they are not another's."""
        self.encoders._free = [0]
        await self.encode(TEXT)
        (process,) = self.encoders._processes
        transport: Any = process.transport
        transport.signalProcess("STOP")
        lost, waiting = self.encode(TEXT), self.encode(NOISE)
        self.patch(process, "kill", lambda: setattr(process, "broken", True))
        transport.closeChildFD(module.REPLIES)
        while not process.broken:
            await deferLater(reactor, 0.001)
        self.assertEqual((lost.called, self.encoders._free), (False, []))
        transport.signalProcess("KILL")
        with self.assertRaises(EncodingFailed):
            await lost
        self.assertEqual((await waiting)[1], NOISE)

    async def test_in_pieces(self) -> None:
        """Answers may come in any pieces."""
        under_way = [self.encode(data) for data in CONTENTS.values()]
        for process in self.encoders._processes:
            whole = process.childDataReceived
            self.patch(
                process,
                "childDataReceived",
                lambda fd, data, whole=whole: [whole(fd, bytes([byte])) for byte in data],
            )
        for data, done in zip(CONTENTS.values(), under_way, strict=True):
            self.assertEqual((await done)[1], data)

    async def test_cannot_be_encoded(self) -> None:
        """It concerns that member, and no other."""
        await self.encode(TEXT)
        (pid,) = self.pids()
        self.patch(module, "MODES", ["store", "deflate", "auto", "unheard of"])
        with self.assertRaises(EncodingFailed):
            await self.encode(TEXT, "unheard of")
        self.assertEqual((await self.encode(TEXT))[1], TEXT)
        self.assertEqual(self.pids(), [pid])

    async def test_too_long(self) -> None:
        """What does not fit into a slot does not get into the next."""
        self.encoders._free = [1, 0]
        with self.assertRaises(ValueError):
            await self.encode(bytes(SLOT_BYTES + 1))
        self.assertEqual((self.encoders._free, self.encoders._slots[SLOT_BYTES]), ([1, 0], 0))

    async def test_then_fails(self) -> None:
        """So does the whole; its slot is free."""

        def then(encoded: Encoded, data: memoryview) -> Deferred[None]:
            raise RuntimeError("no more threads")

        with self.assertRaises(RuntimeError):
            await self.encoders.encode("store", [TEXT], then)
        self.assertEqual(len(self.encoders._free), module.MAX_SLOTS)
        self.assertEqual((await self.encode(NOISE))[1], NOISE)

    async def test_nobody_waits(self) -> None:
        """A slot is another's only when whoever works with it is done."""
        self.encoders._free = [0]
        working: Deferred[None] = Deferred()
        seen: list[memoryview] = []

        def then(encoded: Encoded, data: memoryview) -> Deferred[None]:
            seen.append(data)
            return working

        first = self.encoders.encode("store", [TEXT], then)
        while not seen:
            await deferLater(reactor, 0.001)
        first.addErrback(lambda _: None)
        first.cancel()
        second = self.encode(NOISE)
        await deferLater(reactor, 0.05)
        self.assertEqual((bytes(seen[0]), second.called), (TEXT, False))
        working.callback(None)
        self.assertEqual((await second)[1], NOISE)

    async def test_stop_all(self) -> None:
        """Who stops the whole group means us: it ends what it has."""
        await self.encode(TEXT)
        (pid,) = self.pids()
        for sent in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, sent)
        self.assertEqual((await self.encode(NOISE))[1], NOISE)
        self.assertEqual(self.pids(), [pid])

    async def test_no_process(self) -> None:
        """Where none can be made, that is the error, for however many; the next tries again."""

        def refused(*_: object, **__: object) -> None:
            raise OSError(errno.EAGAIN, "no more processes")

        refusing = self.patch(Encoders, "_spawn", refused)
        self.encoders._free = []
        waiting = [self.encode(b"a") for _ in range(1000)]
        self.encoders._free = list(range(module.MAX_SLOTS))
        self.encoders._begin()
        for done in waiting:
            self.failureResultOf(done, OSError)
        refusing.restore()
        kept = self.encode(TEXT)
        self.patch(Encoders, "_spawn", refused)
        self.assertEqual((await self.encode(NOISE))[1], NOISE)
        self.assertEqual((await kept)[1], TEXT)
        self.assertEqual((len(self.pids()), len(self.encoders._free)), (1, module.MAX_SLOTS))

    async def test_not_begun(self) -> None:
        """What nobody waits for any more is not begun."""
        self.encoders._free = []
        gone, there = self.encode(TEXT), self.encode(NOISE)
        gone.addErrback(lambda _: None)
        gone.cancel()
        filled: list[int] = []
        self.patch(Encoders, "_fill", self.filled(filled))
        self.encoders._free = [0]
        self.encoders._begin()
        self.assertEqual((await there)[1], NOISE)
        self.assertEqual(filled, [len(NOISE)])

    def filled(self, sizes: list[int]) -> Any:
        fill = Encoders._fill

        def filling(encoders: Encoders, number: int, pieces: Any) -> int:
            sizes.append(fill(encoders, number, pieces))
            return sizes[-1]

        return filling

    async def test_stopped(self) -> None:
        """What is under way comes to nothing; the process is gone."""
        await self.encode(TEXT)
        (pid,) = self.pids()
        os.kill(pid, signal.SIGSTOP)
        left = self.encode(TEXT)
        await self.encoders.stopService()
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)
        self.assertFalse(left.called)


class ChildTests(SynchronousTestCase):
    """The program itself."""

    def test_parent_gone(self) -> None:
        """It ends with the pipe that it is asked through, also in the middle of a question."""
        for rest in (b"", REQUEST.pack(0, 0, 0)[:3]):
            with tempfile.TemporaryFile() as memory:
                memory.truncate(SLOT_BYTES)
                words = [
                    sys.executable,
                    "-m",
                    "twisted_bulk.archive.encoder",
                    f"{memory.fileno()}",
                    "0",
                    "1",
                ]
                ended = subprocess.run(
                    words, input=REQUEST.pack(0, 0, 0) + rest, stdout=subprocess.PIPE, check=True,
                    env=environment(), pass_fds=[memory.fileno()], timeout=30,
                )  # fmt: skip
            self.assertEqual(len(ended.stdout), REPLY.size)


class DaemonTests(DaemonTestCase):
    """In the daemon."""

    def setUp(self) -> None:
        super().setUp()
        self.source.files = {f"/{n}.wav": TEXT[n:500_000] for n in range(3)}

    def encoders(self, daemon: Daemon) -> list[int]:
        found = []
        for pid in daemon.processes()[1:]:
            with contextlib.suppress(OSError):  # it has ended
                if b"twisted_bulk.archive.encoder" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def begun(self, daemon: Daemon) -> list[int]:
        """A batch of which one member is there, the others are not; the encoders' processes."""
        urls = self.urls(3)
        self.source.gate.clear()
        self.source.held = {url.removeprefix(self.source.url) for url in urls[1:]}
        daemon.post({"task_id": "b", "download": urls, "compress": "deflate"})
        until(lambda: self.encoders(daemon))
        return self.encoders(daemon)

    def test_killed(self) -> None:
        """A batch outlives them."""
        daemon = self.daemon()
        (pid,) = self.begun(daemon)
        os.kill(pid, signal.SIGSTOP)
        self.source.gate.set()
        until(lambda: len(self.encoders(daemon)) == 2)  # as the first has something
        os.kill(pid, signal.SIGKILL)
        self.complete(daemon, "b", 3)
        self.assertRegex(daemon.log.read_text(), "an encoder ended, with [1-3] members")

    def test_parent_killed(self) -> None:
        """They do not outlive the daemon."""
        daemon = self.daemon()
        (pid,) = self.begun(daemon)
        self.addCleanup(os.kill, daemon.redis_pid(), signal.SIGKILL)  # which does outlive it
        daemon.kill()
        until(lambda: not alive(pid))
