"""The file port, over real sockets."""

import hashlib
import json
import os
import re
import socket
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import datetimeToString, stringToDatetime

from tests.support.file_port import BODY, FilesTestCase
from tests.support.published_zip import publish
from tests.support.reactor import reactor
from twisted_bulk.files.open_zips import Zips
from twisted_bulk.files.resource import disposition
from twisted_bulk.node.values import networks


class FileAnswerTests(FilesTestCase):
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

    async def test_ranges(self) -> None:
        """Several, as one body of several parts."""
        spans = [(100, 110), (299_990, 300_000), (0, 1)]
        asked = "bytes=" + ",".join(f"{start}-{end - 1}" for start, end in spans)
        answer, body = await self.get(Range=asked)
        kind = answer.headers.getRawHeaders("Content-Type")[0]
        self.assertEqual((answer.code, kind.partition(";")[0]), (206, "multipart/byteranges"))
        self.assertEqual(answer.headers.getRawHeaders("Content-Range"), None)
        self.assertEqual(answer.length, len(body))
        boundary = kind.partition("boundary=")[2].encode()
        parts = (b"\r\n" + body).split(b"\r\n--" + boundary)
        self.assertEqual((parts[0], parts[-1]), (b"", b"--\r\n"))
        expected = [
            f"\r\nContent-Type: application/zip\r\nContent-Range: bytes {start}-{end - 1}/"
            f"{len(BODY)}\r\n\r\n".encode()
            + BODY[start:end]
            for start, end in spans
        ]
        self.assertEqual(parts[1:-1], expected)
        answer, body = await self.get(Range="bytes=0-9,5-19,400000-")
        self.assertEqual((answer.code, body), (206, BODY[:20]))
        answer, body = await self.get(Range="bytes=400000-,500000-")
        self.assertEqual(answer.code, 416)

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
        for asked, status, code in (
            ({"If_Match": '"x"'}, 412, "precondition_failed"),
            ({"Range": "bytes=900000-"}, 416, "range_not_satisfiable"),
        ):
            answer, body = await self.get(**asked)
            self.assertEqual((answer.code, json.loads(body)["code"]), (status, code))
            self.assertEqual(answer.headers.getRawHeaders("Cache-Control"), ["no-store"])
            self.assertIsNone(answer.headers.getRawHeaders("ETag"))

    async def test_not_there(self) -> None:
        """Never was: 404; was once: 410; nothing leads out of the folder."""
        folder = self.link.split("/")[0]
        outside = self.folders.public / "x.zip"
        outside.write_bytes(b"secret")
        (self.folders.public / folder / "link.zip").symlink_to(outside)
        (self.folders.public / folder / "dir.zip").mkdir()
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
        (self.folders.public / folder / "dir.zip").rmdir()
        self.folders.withdraw(self.folders.public / folder)
        answer, body = await self.get()
        self.assertEqual((answer.code, b'"gone"' in body), (410, True))
        link = publish(self.folders, BODY)
        self.folders.withdraw(self.folders.public / link.split("/")[0], "*.zip")
        answer, body = await self.get(link)
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
        # Fewer, where the test before this one had some that have closed meanwhile.
        self.assertLessEqual(len(os.listdir("/proc/self/fd")), before)


class VectorTests(FilesTestCase):
    """One request, one status and one length, as RFC 9110 has it, on a file of 1,000 bytes."""

    def setUp(self) -> None:
        super().setUp()
        self.link = publish(self.folders, BODY[:1000])
        self.empty = publish(self.folders, b"")

    async def test_vectors(self) -> None:
        """What others get wrong."""
        answer, _ = await self.get()
        etag, date = (answer.headers.getRawHeaders(n)[0] for n in ("ETag", "Last-Modified"))
        then = stringToDatetime(date.encode())
        old, new = (datetimeToString(then + n).decode() for n in (-9, 9))
        vectors: list[tuple[dict[str, str], int, int]] = [
            ({}, 200, 1000),
            ({"Range": "bytes=0-8"}, 206, 9),
            ({"Range": "Bytes=0-8"}, 206, 9),
            ({"Range": "bytes=-5000"}, 206, 1000),
            ({"Range": "bytes=-1"}, 206, 1),
            ({"Range": "bytes=999-"}, 206, 1),
            ({"Range": "bytes=999-5000"}, 206, 1),
            ({"Range": "bytes=1000-"}, 416, -1),
            ({"Range": "bytes=-0"}, 416, -1),
            ({"Range": "bytes=5000-,6000-"}, 416, -1),
            ({"Range": "bytes="}, 200, 1000),
            ({"Range": "bytes=-"}, 200, 1000),
            ({"Range": "bytes=8-0"}, 200, 1000),
            ({"Range": "bytes=1_0-2_0"}, 200, 1000),
            ({"Range": "bytes=+0-+8"}, 200, 1000),
            ({"Range": "bytes=0-8,x"}, 200, 1000),
            ({"Range": "\xff"}, 200, 1000),
            ({"Range": "lines=0-8"}, 200, 1000),
            ({"Range": "bytes=0-8,4-20"}, 206, 21),
            ({"Range": "bytes=" + "0-," * 40}, 200, 1000),
            ({"Range": "bytes=0-8", "If-Range": etag}, 206, 9),
            ({"Range": "bytes=0-8", "If-Range": f"W/{etag}"}, 200, 1000),
            ({"Range": "bytes=0-8", "If-Range": '"x"'}, 200, 1000),
            ({"Range": "bytes=0-8", "If-Range": date}, 206, 9),
            ({"Range": "bytes=0-8", "If-Range": old}, 200, 1000),
            ({"Range": "bytes=0-8", "If-Range": new}, 200, 1000),
            ({"Range": "bytes=0-8", "If-Range": "nonsense"}, 200, 1000),
            ({"If-None-Match": etag}, 304, 0),
            ({"If-None-Match": f"W/{etag}"}, 304, 0),
            ({"If-None-Match": f'"a", "b,c", {etag}'}, 304, 0),
            ({"If-None-Match": "*"}, 304, 0),
            ({"If-None-Match": '"x"'}, 200, 1000),
            ({"If-None-Match": '"x"', "If-Modified-Since": new}, 200, 1000),
            ({"If-None-Match": etag, "Range": "bytes=0-8"}, 304, 0),
            ({"If-Modified-Since": date}, 304, 0),
            ({"If-Modified-Since": new}, 304, 0),
            ({"If-Modified-Since": old}, 200, 1000),
            ({"If-Modified-Since": "nonsense"}, 200, 1000),
            ({"If-Match": etag}, 200, 1000),
            ({"If-Match": "*"}, 200, 1000),
            ({"If-Match": '"x"'}, 412, -1),
            ({"If-Match": f"W/{etag}"}, 412, -1),
            ({"If-Match": '"x"', "If-None-Match": etag}, 412, -1),
            ({"If-Match": etag, "If-Unmodified-Since": old}, 200, 1000),
            ({"If-Unmodified-Since": old}, 412, -1),
            ({"If-Unmodified-Since": date}, 200, 1000),
            ({"If-Match": '"x"', "Range": "bytes=0-8"}, 412, -1),
        ]
        for headers, status, length in vectors:
            for method in ("GET", "HEAD"):
                raw: Any = {n.replace("-", "_"): [v.encode("latin-1")] for n, v in headers.items()}
                answer, body = await self.get(method=method, **raw)
                expected = status, length
                if method == "HEAD" and "Range" in headers and status in (206, 416):
                    expected = 200, 1000  # a range means nothing to it
                self.assertEqual(answer.code, expected[0], (method, headers))
                if method == "GET" and length >= 0:
                    self.assertEqual(len(body), length, headers)
                if method == "HEAD":
                    self.assertEqual(body, b"")
                if answer.code == 200:
                    self.assertEqual(answer.headers.getRawHeaders("Accept-Ranges"), ["bytes"])
                if answer.code in (200, 206, 304):
                    self.assertEqual(answer.headers.getRawHeaders("ETag"), [etag], headers)
        for text, status in (("bytes=-5", 416), ("bytes=0-", 416), ("x", 200)):
            answer, body = await self.get(self.empty, Range=text)
            self.assertEqual((answer.code, b"range" in body), (status, status == 416))
        answer, _ = await self.get("nothing", If_Match='"x"')
        self.assertEqual(answer.code, 404)

    async def test_across_buffers(self) -> None:
        """Ranges far apart in a large file, with boundaries wherever they fall."""
        link = publish(self.folders, BODY)
        for first in (65_399, 65_535, 65_536, 131_072):
            asked = f"bytes=0-{first},200000-200099"
            answer, body = await self.get(link, Range=asked)
            self.assertEqual((answer.code, len(body)), (206, answer.length))
            self.assertIn(BODY[: first + 1] + b"\r\n--", body)
            self.assertIn(BODY[200_000:200_100] + b"\r\n--", body)


class DispositionTests(SynchronousTestCase):
    """Content-Disposition."""

    def test_names(self) -> None:
        """Whatever a file is called, the header is one line that every client reads."""
        for name, expected in (
            ("2.zip", 'filename="2.zip"'),
            ("a b.zip", 'filename="a b.zip"'),
            ('a"b\\c.zip', "filename=\"a_b_c.zip\"; filename*=UTF-8''a%22b%5Cc.zip"),
            ("é.zip", "filename=\"_.zip\"; filename*=UTF-8''%C3%A9.zip"),
            ("a\r\nX: y", "filename=\"a__X: y\"; filename*=UTF-8''a%0D%0AX%3A%20y"),
        ):
            self.assertEqual(disposition(name), f"attachment; {expected}")


class OriginTests(FilesTestCase):
    """Whose rate it is."""

    rate = 20_000
    exempt = networks("127.0.0.9/32")
    proxies = networks("127.0.0.1/32")

    async def test_exempt(self) -> None:
        """All at once, though others would need a quarter of a minute."""
        out = self.mktemp()
        local = ("--interface", "127.0.0.9")
        done = await self.run_client(
            "curl", "-s", "-m", "8", *local, "-o", out, self.url + self.link
        )
        self.assertEqual((done.returncode, Path(out).read_bytes() == BODY), (0, True))

    async def test_forwarded(self) -> None:
        """Each client behind a proxy has a rate of its own."""
        going = [
            Deferred.fromCoroutine(self.get(X_Forwarded_For=f"9.9.9.{n}", Range="bytes=0-19999"))
            for n in range(3)
        ]
        while len(self.files.transfers.meters) < 3:
            await deferLater(reactor, 0.01)
        self.assertEqual(
            sorted(self.files.transfers.meters),
            [f"9.9.9.{number}" for number in range(3)],
        )
        for one in going:
            await one


class BypassTests(FilesTestCase):
    """Ways round the limit that others have."""

    rate = 40_000
    seconds = 4.0
    proxies = networks("127.0.0.1/32")

    def flood(self, request: bytes, fresh: bool, port: int = 0) -> int:
        """Bytes that come for a request made again and again, on one connection or on new ones."""
        total, end, sock = 0, time.monotonic() + self.seconds, None
        while time.monotonic() < end:
            if sock is None:
                port = port or self.port.getHost().port
                sock = socket.create_connection(("127.0.0.1", port))
                sock.settimeout(0.5)
            sock.sendall(request)
            head = b""
            try:
                while b"\r\n\r\n" not in head:
                    head += sock.recv(65536)
                total += len(head)
                found = re.search(rb"Content-Length: (\d+)", head)
                left = int(found[1]) if found and not request.startswith(b"HEAD") else 0
                left -= len(head.partition(b"\r\n\r\n")[2])
                while left > 0 and time.monotonic() < end:
                    got = len(sock.recv(65536))
                    total, left = total + got, left - got
            except TimeoutError:
                sock.close()
                sock = None
            if fresh and sock is not None:
                sock.close()
                sock = None
        if sock is not None:
            sock.close()
        return total

    async def test_floods(self) -> None:
        """Short ranges, HEAD and 404, on one connection and on fresh ones, by eight at once."""
        for what in (
            "GET /%s HTTP/1.1\r\nRange: bytes=0-9999",
            "HEAD /%s HTTP/1.1",
            "GET /x HTTP/1.1",
        ):
            request = ((what % self.link if "%" in what else what) + "\r\nHost: x\r\n\r\n").encode()
            await self.check([(request, bool(n % 2), 0) for n in range(8)])

    async def test_spellings(self) -> None:
        """One address by IPv4 and as IPv4 within IPv6; any of an IPv6 /64."""
        both: Any = reactor.listenTCP(0, self.site, interface="::")
        self.addCleanup(both.stopListening)
        ports = (0, both.getHost().port)
        head = f"GET /{self.link} HTTP/1.1\r\nHost: x\r\n"
        await self.check([(f"{head}\r\n".encode(), False, ports[n % 2]) for n in range(8)])
        hops = [f"2001:db8::{n * 4369:x}:{n}" for n in range(8)]
        await self.check(
            [(f"{head}X-Forwarded-For: {hop}\r\n\r\n".encode(), False, 0) for hop in hops]
        )

    async def check(self, floods: list[tuple[bytes, bool, int]]) -> None:
        """Together they get what the rate allows, and not much less."""
        going = [deferToThread(self.flood, *flood) for flood in floods]
        total = sum([await one for one in going])
        # The rate, one second's debt, and an answer of each that was let in with it.
        self.assertLess(total, self.rate * (self.seconds + 1.5) + 8 * 1000)
        self.assertGreater(total, self.rate * self.seconds / 2)
        self.timer.set_rate(0, 0)
        await self.idle()
        self.timer.set_rate(self.rate, 0)


class DeletedTests(FilesTestCase):
    """A file that goes while it is served."""

    rate = 200_000

    async def test_goes_on(self) -> None:
        """Who has begun gets all of it; who comes later is told that it is gone."""
        going = Deferred.fromCoroutine(self.get())
        while not self.timer.throttle.sent:
            await deferLater(reactor, 0.01)
        self.folders.withdraw(self.folders.public / self.link.split("/")[0])
        answer, _ = await self.get()
        self.assertEqual(answer.code, 410)
        answer, body = await going
        self.assertEqual((answer.code, body), (200, BODY))


class ZipsTests(FilesTestCase):
    """Files that are open."""

    def test_no_file(self) -> None:
        """What is no file is not there."""
        path = self.folders.public / self.link
        path.unlink()
        path.mkdir()
        before = len(os.listdir("/proc/self/fd"))
        with self.assertRaises(FileNotFoundError):
            Zips(self.folders).open("/" + self.link)
        # Fewer, where the test before this one had some that have closed meanwhile.
        self.assertLessEqual(len(os.listdir("/proc/self/fd")), before)

    def test_shared(self) -> None:
        """Once for all who are served one, and not longer."""
        zips, before = Zips(self.folders), len(os.listdir("/proc/self/fd"))
        one, other = zips.open("/" + self.link), zips.open("/" + self.link)
        another = zips.open("/" + publish(self.folders, BODY))
        self.assertIs(one, other)
        self.assertEqual(len(zips.opened), 2)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before + 2)
        for opened in (one, another):
            opened.release()
        self.assertEqual(os.pread(other.descriptor, 5, 0), BODY[:5])
        other.release()
        self.assertEqual(zips.opened, {})
        with self.assertRaises(OSError):
            os.fstat(other.descriptor)


class TruncatedTests(FilesTestCase):
    """A file that shrinks while it is served."""

    rate = 100_000

    async def test_shrinks(self) -> None:
        """The connection ends; the client cannot take what it has for the whole."""
        answer = await self.client.get(self.url + self.link, unbuffered=True)
        os.truncate(self.folders.public / self.link, 1000)
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
