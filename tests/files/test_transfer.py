"""Bodies on their way, to clients that take them and to those that do not."""

import hashlib
import math
import os
import re
import resource
import socket
import ssl
import time
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.file_port import BODY, FilesTestCase
from tests.support.published_zip import publish
from tests.support.reactor import reactor
from twisted_bulk.files import transfer
from twisted_bulk.files.resource import Files
from twisted_bulk.files.timer import ThrottleTimer
from twisted_bulk.files.transfer import MIN_SPEED, STALL_SECONDS, SWEEP_SECONDS
from twisted_bulk.http_server.client_address import Clients
from twisted_bulk.http_server.site import BoundedSite
from twisted_bulk.storage.folders import DataFolders
from twisted_bulk.throttle import Throttle

RATE = 100_000


class MemoryTests(SynchronousTestCase):
    """Through a transport that is no socket, in a time of its own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.folders = DataFolders(Path(self.mktemp()))
        self.link = publish(self.folders, BODY)
        self.timer = ThrottleTimer(Throttle(RATE), self.clock)
        files = Files(self.folders, self.timer, Clients())
        self.transfers = files.transfers
        self.site = BoundedSite(files, self.clock, 1000)

    def ask(self, *heads: str) -> tuple[Any, StringTransport]:
        """A new connection that asks for the file, or for several things at once."""
        transport = StringTransport(peerAddress=IPv4Address("TCP", "1.2.3.4", 4711))
        channel: Any = self.site.buildProtocol(transport.getPeer())
        channel.makeConnection(transport)
        lines = heads or (f"GET /{self.link} HTTP/1.1\r\n",)
        channel.dataReceived("".join(f"{line}Host: x\r\n\r\n" for line in lines).encode())
        return channel, transport

    def run_for(self, seconds: float) -> None:
        self.clock.pump([0.02] * round(seconds / 0.02))

    def test_at_the_rate(self) -> None:
        """Byte by byte what the file has, head and all at the rate, and then done."""
        _, sent = self.ask()
        self.run_for(2)
        self.assertApproximates(len(sent.value()), 2 * RATE, 8192)
        self.run_for(1.5)
        head, _, body = sent.value().partition(b"\r\n\r\n")
        self.assertEqual((head[:15], body), (b"HTTP/1.1 200 OK", BODY))
        self.assertEqual(self.transfers.count, 0)

    def test_stalled(self) -> None:
        """Who takes nothing is cut off; the others have its share meanwhile."""
        channel, stalled = self.ask()
        _, reading = self.ask()
        self.run_for(1)
        channel.pauseProducing()
        before = len(reading.value())
        self.run_for(1)
        self.assertApproximates(len(reading.value()) - before, RATE, 8192)
        had = len(stalled.value())
        self.run_for(STALL_SECONDS - 2)
        self.assertFalse(stalled.disconnected)
        self.run_for(2 + SWEEP_SECONDS)
        self.assertTrue(stalled.disconnected)
        self.assertEqual(len(stalled.value()), had)

    def test_limit_is_no_stall(self) -> None:
        """The clock runs while the client is what is waited for, and not otherwise."""
        self.timer.set_rate(1000, 0)
        channel, sent = self.ask()
        self.run_for(STALL_SECONDS + 20)
        self.assertFalse(sent.disconnected)
        for _ in range(5):  # away for less than the limit each time, and taking enough
            channel.pauseProducing()
            self.run_for(STALL_SECONDS / 5)
            channel.resumeProducing()
            self.run_for(STALL_SECONDS / 2)
        self.assertFalse(sent.disconnected)
        self.assertGreater(len(sent.value()), 150_000)

    def test_too_slow(self) -> None:
        """Who takes less than so much, over that time, is cut off, too."""
        channel, sent = self.ask()
        self.run_for(0.1)
        spent = 0.0
        while not sent.disconnected and spent < 3 * STALL_SECONDS:
            channel.pauseProducing()
            self.run_for(10)
            spent += 10
            channel.resumeProducing()
            self.run_for(0.04)
        self.assertTrue(sent.disconnected)
        self.assertLess(len(sent.value()), 2 * STALL_SECONDS * MIN_SPEED)

    def test_full_before(self) -> None:
        """What begins while the transport is still full of something else waits for it."""
        self.timer.charge("1.2.3.4", RATE * 2)
        channel, sent = self.ask()
        channel.pauseProducing()
        self.run_for(3)
        self.assertLess(len(sent.value()), 1000)
        self.assertEqual(self.transfers.count, 1)
        channel.resumeProducing()
        self.run_for(1)
        self.assertGreater(len(sent.value()), RATE / 2)

    def test_pipelined(self) -> None:
        """What a body's end sets off in its turn costs nobody else's round."""
        byte = f"GET /{self.link} HTTP/1.1\r\nRange: bytes=0-0\r\n"
        nothing = "GET /nothing HTTP/1.1\r\n"
        for rate in (0, 5_000, RATE, 10**9):
            self.timer.set_rate(rate, 0)
            asked = [self.ask(byte, nothing, byte, nothing)[1] for _ in range(3)]
            _, other = self.ask()
            asked += [self.ask(byte, nothing, byte, nothing)[1] for _ in range(3)]
            self.run_for(1 + (len(BODY) + 10_000) / (rate or RATE))
            for sent in asked:
                self.assertEqual(
                    re.findall(rb"HTTP/1.1 (\d+)", sent.value()), [b"206", b"404"] * 2, rate
                )
            self.assertEqual(other.value().partition(b"\r\n\r\n")[2], BODY)
            self.assertEqual((self.transfers.count, len(self.timer.throttle)), (0, 0))

    def test_seen_while_parked(self) -> None:
        """An address is shown while it is served, also while its client is slow."""
        channel, _ = self.ask()
        self.run_for(1)
        channel.pauseProducing()
        self.assertEqual(list(self.transfers.meters), ["1.2.3.4"])
        before = self.transfers.meters["1.2.3.4"].speed(self.clock.seconds())
        self.assertGreater(before, 1000)
        self.run_for(5)
        after = self.transfers.meters["1.2.3.4"].speed(self.clock.seconds())
        self.assertApproximates(after / before, math.exp(-1), 0.01)
        channel.connectionLost(Failure(ConnectionError()))
        self.assertEqual(self.transfers.meters, {})

    def test_shrunk(self) -> None:
        """A file that is shorter than it was ends the connection, not the body."""
        _, sent = self.ask()
        self.run_for(1)
        os.truncate(self.folders.public / self.link, RATE * 2)
        self.run_for(3)
        self.assertTrue(sent.disconnected)
        self.assertLess(len(sent.value()), RATE * 2 + 1000)

    def test_gone(self) -> None:
        """A client that leaves takes everything with it."""
        before = len(os.listdir("/proc/self/fd"))
        for parked in (False, True):
            channel, _ = self.ask()
            self.run_for(0.5)
            if parked:
                channel.pauseProducing()
            channel.connectionLost(Failure(ConnectionError()))
        self.run_for(5)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        self.assertEqual((self.transfers.count, len(self.site.limits)), (0, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TransferSocketTests(FilesTestCase):
    """Through real sockets."""

    def read_link(self, link: str) -> tuple[int, str]:
        """The size and hash of what a client gets."""
        with socket.create_connection(("127.0.0.1", self.port.getHost().port)) as sock:
            sock.sendall(f"GET /{link} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            data = b"".join(iter(lambda: sock.recv(1 << 20), b""))
        body = data.partition(b"\r\n\r\n")[2]
        return len(body), hashlib.sha256(body).hexdigest()

    async def test_large(self) -> None:
        """More than any buffer holds, to a client that reads and to one that does not."""
        self.patch(transfer, "STALL_SECONDS", 1.0)
        self.patch(transfer, "SWEEP_SECONDS", 0.1)
        body = os.urandom(1 << 20) * 30
        link = publish(self.folders, body)
        sleeper = socket.create_connection(("127.0.0.1", self.port.getHost().port))
        self.addCleanup(sleeper.close)
        sleeper.sendall(f"GET /{link} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        got = await deferToThread(self.read_link, link)
        self.assertEqual(got, (len(body), hashlib.sha256(body).hexdigest()))
        while len(self.limits):
            await deferLater(reactor, 0.05)

    async def asleep(self, port: int, context: ssl.SSLContext | None) -> None:
        """Ask for a range and for all of 30 MB, read nothing, and see what is sent all the same."""
        link = publish(self.folders, 30 << 20)
        sleeper = socket.socket()
        self.addCleanup(sleeper.close)
        sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sleeper.connect(("127.0.0.1", port))
        if context is not None:
            sleeper = await deferToThread(context.wrap_socket, sleeper)
            self.addCleanup(sleeper.close)
        head = f"GET /{link} HTTP/1.1\r\nHost: x\r\n"
        before = self.timer.throttle.sent
        sleeper.sendall(f"{head}Range: bytes=0-99999\r\n\r\n{head}\r\n".encode())
        sent, seen = before, -1
        while sent == before or sent > seen:
            await deferLater(reactor, 0.2)
            sent, seen = self.timer.throttle.sent, sent
        self.assertGreater(sent - before, 100_000)
        self.assertLess(sent - before, 600_000)

    async def test_asleep(self) -> None:
        """For a client that reads nothing, next to nothing is kept."""
        await self.asleep(self.port.getHost().port, None)

    async def test_asleep_tls(self) -> None:
        """Over TLS, too."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        await self.asleep(self.listen_tls(), context)

    async def test_refused_tls(self) -> None:
        """A refusal can be read over TLS, though it is decided before the handshake."""
        self.patch(self.limits, "_each", 1)
        await self.get()  # by a connection that stays
        url = f"https://127.0.0.1:{self.listen_tls()}/{self.link}"
        done = await self.run_client("curl", "-s", "-k", "-i", url)
        self.assertIn(b"HTTP/1.1 429", done.stdout)
        self.assertIn(b"Retry-After: 30", done.stdout)

    async def test_no_descriptors(self) -> None:
        """When the process may open no more files, the client is told to come again."""
        with socket.create_connection(("127.0.0.1", self.port.getHost().port)) as sock:
            sock.sendall(f"HEAD /{self.link} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            self.assertIn(b"HTTP/1.1 200", await deferToThread(sock.recv, 65536))
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            free = os.dup(0)
            os.close(free)
            sock.sendall(f"GET /{self.link} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
            try:
                answer = await deferToThread(sock.recv, 65536)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            self.assertIn(b"HTTP/1.1 503", answer)
            self.assertIn(b"Retry-After: ", answer)

    async def test_tls(self) -> None:
        """The same over TLS, where nothing can be sent past the transport."""
        out = self.mktemp()
        url = f"https://127.0.0.1:{self.listen_tls()}/{self.link}"
        done = await self.run_client("curl", "-s", "-k", "-o", out, url)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(Path(out).read_bytes(), BODY)


class TransferRateTests(FilesTestCase):
    """The rate, as it arrives."""

    rate = 200_000

    async def test_tls_is_as_exact(self) -> None:
        """One and a half seconds' worth takes as long, on a socket and over TLS."""
        for url in (self.url, f"https://127.0.0.1:{self.listen_tls()}/"):
            began = time.monotonic()
            done = await self.run_client("curl", "-s", "-k", "-o", self.mktemp(), url + self.link)
            self.assertEqual(done.returncode, 0)
            # Not faster; how much slower is the machine's matter, and bench.files'.
            self.assertGreater(time.monotonic() - began, (len(BODY) - 40_000) / self.rate)
            await self.idle()
