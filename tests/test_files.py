"""The file port, over real sockets."""

import hashlib
import os
import random
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from tests.reactor import reactor
from tests.servers import need
from twisted_bulk.files import Files
from twisted_bulk.shelf import Shelf
from twisted_bulk.site import BoundedSite
from twisted_bulk.throttle import Throttle, Ticker

BODY = random.Random(3).randbytes(300_000)


class FilesTestCase(TestCase):
    """One zip (its content does not matter here) behind a real port."""

    timeout = 60
    rate = 0

    def setUp(self) -> None:
        self.shelf = Shelf(Path(tempfile.mkdtemp(prefix="bw")))
        self.link = self.publish(BODY)
        self.ticker = Ticker(Throttle(self.rate), reactor)
        site = BoundedSite(Files(self.shelf, self.ticker), reactor, 1000)
        self.port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port.getHost().port}/"
        self.addCleanup(self.port.stopListening)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.idle()))
        pool = HTTPConnectionPool(reactor)
        self.addCleanup(pool.closeCachedConnections)
        self.client = HTTPClient(Agent(reactor, pool=pool))

    async def idle(self) -> None:
        """Wait until nobody is served and no address is remembered any more."""
        while len(self.ticker.throttle):
            await deferLater(reactor, 0.01)

    def publish(self, body: bytes) -> str:
        workspace = self.shelf.enlist()
        self.addCleanup(workspace.close)
        folder = workspace.make_folder("b@0/1")
        (folder / "b.zip").write_bytes(body)
        note = f"{hashlib.sha256(body).hexdigest()}  b.zip\n".encode()
        return workspace.publish(folder, "b", {"b.zip.sha256": note}) + "/b.zip"

    async def get(self, path: str | None = None, method: str = "GET", **headers: str) -> Any:
        path = self.link if path is None else path
        given: Any = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.client.request(method, self.url + path, headers=given)
        return answer, await answer.content()

    async def run_client(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        done: subprocess.CompletedProcess[bytes] = await deferToThread(
            subprocess.run, [need(words[0]), *words[1:]], capture_output=True, timeout=50
        )
        return done


class AnswerTests(FilesTestCase):
    """What is answered."""

    async def test_whole(self) -> None:
        """The file, with everything that tells what it is."""
        answer, body = await self.get()
        self.assertEqual((answer.code, body), (200, BODY))
        value = {
            name.decode().lower(): values[0].decode()
            for name, values in answer.headers.getAllRawHeaders()
        }
        sha256 = hashlib.sha256(BODY)
        self.assertEqual(value["etag"], f'"{sha256.hexdigest()}"')
        self.assertEqual(value["content-type"], "application/zip")
        self.assertEqual(value["content-disposition"], 'attachment; filename="b.zip"')
        self.assertEqual(value["accept-ranges"], "bytes")
        self.assertIn("SHA-256=", value["digest"])
        self.assertIn("sha-256=:", value["repr-digest"])
        self.assertEqual(value["server"], "bulkwav")

    async def test_head(self) -> None:
        """The same without the body, and without the range."""
        answer, body = await self.get(method="HEAD", Range="bytes=0-9")
        self.assertEqual((answer.code, body), (200, b""))
        self.assertEqual(answer.headers.getRawHeaders("Content-Length"), [str(len(BODY))])

    async def test_range(self) -> None:
        """A part, and what cannot be a part."""
        answer, body = await self.get(Range="bytes=100-199")
        self.assertEqual((answer.code, body), (206, BODY[100:200]))
        span = answer.headers.getRawHeaders("Content-Range")
        self.assertEqual(span, [f"bytes 100-199/{len(BODY)}"])
        answer, _ = await self.get(Range="bytes=300000-")
        self.assertEqual(answer.code, 416)
        self.assertEqual(answer.headers.getRawHeaders("Content-Range"), ["bytes */300000"])
        answer, body = await self.get(Range="bytes=0-1,5-6")
        self.assertEqual((answer.code, len(body)), (200, len(BODY)))

    async def test_conditions(self) -> None:
        """Validators are compared as the RFC says."""
        tag = f'"{hashlib.sha256(BODY).hexdigest()}"'
        answer, body = await self.get(If_None_Match=tag)
        self.assertEqual((answer.code, body), (304, b""))
        answer, body = await self.get(Range="bytes=0-9", If_Range='"other"')
        self.assertEqual((answer.code, len(body)), (200, len(BODY)))
        answer, body = await self.get(Range="bytes=0-9", If_Range=tag)
        self.assertEqual((answer.code, len(body)), (206, 10))
        date = answer.headers.getRawHeaders("Last-Modified")[0]
        answer, _ = await self.get(If_Modified_Since=date)
        self.assertEqual(answer.code, 304)
        answer, _ = await self.get(If_Match='"other"')
        self.assertEqual(answer.code, 412)

    async def test_not_there(self) -> None:
        """Never was: 404; was once: 410; nothing leads out of the folder."""
        folder = self.link.split("/")[0]
        outside = self.shelf.public / "x.zip"
        outside.write_bytes(b"secret")
        (self.shelf.public / folder / "link.zip").symlink_to(outside)
        (self.shelf.public / folder / "dir.zip").mkdir()
        for path in (
            "",
            "x.zip",
            folder,
            f"{folder}/",
            f"{folder}/sha256",
            f"{folder}/other.zip",
            f"{folder}/link.zip",
            f"{folder}/dir.zip",
            f"{folder}/../x.zip",
            f"{folder}/%2e%2e/x.zip",
            f"{folder}%00/b.zip",
            f"b-{'0' * 32}/b.zip",
            "%ff%fe/b.zip",
            "a" * 3000,
        ):
            answer, body = await self.get(path)
            self.assertEqual(answer.code, 404, path)
            self.assertIn(b"no_such_file", body)
        (self.shelf.public / folder / "dir.zip").rmdir()
        self.shelf.withdraw(self.shelf.public / folder)
        answer, body = await self.get()
        self.assertEqual((answer.code, b'"gone"' in body), (410, True))

    async def test_methods(self) -> None:
        """Only reading."""
        answer, _ = await self.get(method="POST")
        self.assertEqual(answer.code, 405)
        self.assertEqual(answer.headers.getRawHeaders("Allow"), ["GET, HEAD, OPTIONS"])
        answer, _ = await self.get(method="OPTIONS")
        self.assertEqual(answer.code, 204)

    async def test_no_descriptor_stays(self) -> None:
        """Every file that was opened is closed again, however it ended."""
        await self.get()
        before = len(os.listdir("/proc/self/fd"))
        asked: list[dict[str, Any]] = [
            *({}, {"Range": "bytes=0-9"}, {"Range": "bytes=900000-"}, {"If_Match": '"x"'}),
            *({name: [b"\xff"]} for name in ("If_Match", "If_None_Match", "If_Range", "Range")),
        ]
        for headers in asked:
            await self.get(**headers)
            await self.get(method="HEAD", **headers)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)


class TruncatedTests(FilesTestCase):
    """A file that shrinks while it is served."""

    rate = 100_000

    async def test_shrinks(self) -> None:
        """The connection ends; the client cannot take what it has for the whole."""
        answer = await self.client.get(self.url + self.link, unbuffered=True)
        os.truncate(self.shelf.public / self.link, 1000)
        with self.assertRaises(Exception) as caught:
            await answer.content()
        self.assertIn("ResponseFailed", type(caught.exception).__name__)


class ClientTests(FilesTestCase):
    """Real clients, slow enough that they overlap."""

    rate = 250_000

    def check(self, path: str) -> None:
        self.assertEqual(Path(path).read_bytes(), BODY)

    async def test_curl_resumes(self) -> None:
        """An interrupted curl goes on where it stopped."""
        out = self.mktemp()
        first = await self.run_client("curl", "-s", "-m", "0.5", "-o", out, self.url + self.link)
        self.assertEqual(first.returncode, 28)
        self.assertTrue(0 < os.path.getsize(out) < len(BODY))
        await self.run_client("curl", "-s", "-C", "-", "-o", out, self.url + self.link)
        self.check(out)

    async def test_wget_resumes(self) -> None:
        """So does wget, which is content with a 416 when it has everything."""
        out = self.mktemp()
        Path(out).write_bytes(BODY[:123_456])
        for _ in range(2):
            done = await self.run_client("wget", "-q", "-c", "-O", out, self.url + self.link)
            self.assertEqual(done.returncode, 0)
        self.check(out)

    async def test_aria2(self) -> None:
        """Sixteen connections put the file together, and its digest is verified."""
        out = Path(self.mktemp()).absolute()
        done = await self.run_client(
            "aria2c", "-x16", "-s16", "-k1M", "--min-split-size=1M", "--console-log-level=info",
            "-d", str(out), "-o", "b.zip", self.url + self.link,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout)
        self.check(str(out / "b.zip"))
        self.assertIn(b"Verification finished successfully", done.stdout)

    async def test_gone_client(self) -> None:
        """A client that leaves takes its transfer with it."""
        await self.run_client("curl", "-s", "-m", "0.3", "-o", "/dev/null", self.url + self.link)
        await self.idle()
