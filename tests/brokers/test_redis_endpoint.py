"""A Redis that moves, and one behind TLS."""

import shutil
import ssl
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from tests.support.eventually import eventually
from tests.support.reactor import reactor
from tests.support.redis_servers import free_port, need
from tests.support.sentinels import SentinelSet
from twisted_bulk.brokers.redis import Redis, connection
from twisted_bulk.dialing.guard import Guard
from twisted_bulk.errors import MemberError, QueueUnavailable
from twisted_bulk.jobs.model import Work
from twisted_bulk.jobs.scripted import ScriptedQueue
from twisted_bulk.queue import SyncPublisher


class Connected(TestCase):
    """Connections that end with the test."""

    timeout = 120

    def connect(self, url: str) -> Redis:
        redis = connection(reactor, url)
        redis.connect()
        self.addCleanup(lambda: Deferred.fromCoroutine(redis.disconnect()))
        return redis


class SentinelTests(Connected):
    """Fail-overs."""

    async def test_follows(self) -> None:
        """After the master's death the same queue goes on, with all that was accepted."""
        servers: SentinelSet = await deferToThread(SentinelSet)
        self.addCleanup(servers.close)
        queue = ScriptedQueue(self.connect(servers.url), "q")
        await eventually(lambda: queue.ping(), 20)
        accepted = []
        for n in range(100):
            await queue.enqueue([Work(id=f"{n}", payload=b"x")])
            accepted.append(f"{n}")
        publisher = SyncPublisher(servers.url, "sync", timeout=30)
        self.addCleanup(publisher.close)
        await deferToThread(publisher.push, 1)
        heard: list[bool] = []
        queue.listen(lambda: heard.append(True))
        await deferToThread(servers.fail_over)
        jobs = (await eventually(lambda: queue.reserve("w", 500), 30)).jobs
        self.assertEqual([job.id for job in jobs], accepted)
        await deferToThread(publisher.push, 2)
        self.assertEqual((await deferToThread(publisher.stats)).counts["todo"], 2)
        heard.clear()
        await eventually(lambda: queue.enqueue([Work(id="more", payload=b"x")]), 30)
        while not heard:
            await deferLater(reactor, 0.05)
            await eventually(lambda: queue.enqueue([Work(id=f"{time.time()}", payload=b"x")]), 30)

    async def test_guarded(self) -> None:
        """The port of the server that Sentinel names is closed to downloads, like its own."""
        servers: SentinelSet = await deferToThread(SentinelSet, 0)
        self.addCleanup(servers.close)
        redis = self.connect(servers.url)
        guard = Guard([ip_network("127.0.0.0/8")], queue=redis.ports)
        await eventually(lambda: redis.command("PING"), 20)
        for port in (servers.master(), *servers.sentinels):
            error = self.assertRaises(MemberError, guard.check, "h", ["127.0.0.1"], port)
            self.assertEqual(error.code, "port_refused")
        guard.check("h", ["127.0.0.1"], 80)

    async def test_unreplicated(self) -> None:
        """What no replica has is not answered for."""
        servers: SentinelSet = await deferToThread(SentinelSet, 0)
        self.addCleanup(servers.close)
        queue = ScriptedQueue(self.connect(servers.url), "q")
        await eventually(lambda: queue.enqueue([Work(id="a", payload=b"")]), 20)
        (replica,) = set(servers.ports) - {servers.master()}
        servers.processes[replica].kill()
        servers.processes[replica].wait()
        with self.assertRaisesRegex(QueueUnavailable, "0 of 1 replicas"):
            await queue.enqueue([Work(id="b", payload=b"")])


def certificate(folder: Path, name: str) -> None:
    """A key and a certificate that is its own authority, for ``name``."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "key.pem").write_bytes(private)


class TlsTests(Connected):
    """``rediss://``: with the right certificate only."""

    async def setUp(self) -> None:  # type: ignore[override]
        program = need("redis-server")
        self.folder = Path(tempfile.mkdtemp(prefix="bw"))
        self.addCleanup(shutil.rmtree, self.folder)
        certificate(self.folder, "localhost")
        self.port = free_port()
        words = f"--port 0 --tls-port {self.port} --tls-auth-clients no --requirepass pw"
        words += f" --tls-cert-file {self.folder}/cert.pem --tls-key-file {self.folder}/key.pem"
        words += f" --dir {self.folder} --logfile log"
        process = subprocess.Popen([program, *words.split()])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        end = time.monotonic() + 10
        while True:
            try:
                ssl.get_server_certificate(("localhost", self.port))
                return
            except OSError:
                if process.poll() is not None:
                    raise SkipTest("this redis-server has no TLS") from None
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    async def test_trusted(self) -> None:
        """Commands get through, password and all."""
        ca = f"{self.folder}/cert.pem"
        redis = self.connect(f"rediss://:pw@localhost:{self.port}/2?ca={ca}")
        self.assertEqual(await redis.command("PING"), b"PONG")
        await self.both_ways(f"rediss://:pw@localhost:{self.port}/2?ca={ca}", "")
        await self.both_ways(
            f"rediss://:pw@127.0.0.1:{self.port}/2?ca={ca}", "certificate|match|verify"
        )

    async def both_ways(self, url: str, wrong: str) -> None:
        """A server whose name is not in its certificate is refused by a publisher as well."""
        publisher = SyncPublisher(url, timeout=0.2)
        self.addCleanup(publisher.close)
        if not wrong:
            await deferToThread(publisher.push, 1)
            return
        with self.assertRaisesRegex(QueueUnavailable, wrong):
            await deferToThread(publisher.push, 1)

    async def test_untrusted(self) -> None:
        """Nothing is sent to a server that cannot prove who it is."""
        redis = self.connect(f"rediss://:pw@localhost:{self.port}/2")
        with self.assertRaises(QueueUnavailable):
            await redis.command("PING", deadline=1)
