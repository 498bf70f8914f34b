"""Both clients against a real daemon, and what they make of odd servers."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from standardwebhooks.webhooks import Webhook
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent

from tests.support import thread_server
from tests.support.daemon import environment
from tests.support.daemon_case import DaemonTestCase
from tests.support.reactor import reactor
from tests.support.redis_servers import free_port
from twisted_bulk.api.answers import Part
from twisted_bulk.api_client import download, event_parser, fields
from twisted_bulk.api_client.blocking import BlockingTransport
from twisted_bulk.api_client.event_parser import EventParser
from twisted_bulk.api_client.extraction import extract
from twisted_bulk.api_client.session import checked_server
from twisted_bulk.client import (
    AsyncClient,
    BadSignature,
    Client,
    DownloadFailed,
    NotBulkwav,
    Refused,
    Unreachable,
    WaitTimeout,
    verify,
)
from twisted_bulk.orders.queries import BatchFilter, MembersQuery
from twisted_bulk.orders.submission import Submission
from twisted_bulk.system import disk
from twisted_bulk.system.at_once import finish

SECRET = "whsec_" + "A" * 43 + "="


class SyncClientTests(DaemonTestCase):
    """The client that blocks."""

    def test_whole_way(self) -> None:
        """From a list of URLs to the files."""
        daemon = self.daemon("--rate=0", "--retries=0", "--part-files=3")
        client = Client(daemon.api)
        self.addCleanup(client.close)
        seen: list[int] = []
        self.source.gate.clear()
        accepted = client.submit([*self.urls(4), "http://127.0.0.1:1/x"], priority=3)
        with self.assertRaises(WaitTimeout):
            client.wait(accepted.task_id, timeout=0)
        self.source.gate.set()
        batch = client.wait(accepted.task_id, progress=lambda b: seen.append(b.schedule))
        self.assertEqual((batch.status, batch.done, batch.failed), ("partial", 4, 1))
        self.assertEqual((seen, seen[-1]), (sorted(seen), 100))
        failed = list(client.members(batch.task_id, status="failed"))
        self.assertEqual([one.code for one in failed], ["port_refused"])
        self.assertEqual(len(list(client.manifest(batch.task_id))), 5)
        folder = Path(self.mktemp())
        told: list[download.Fetched] = []
        zips = client.download(batch.task_id, folder, progress=told.append)
        self.assertEqual([now.number for now in told if now.bytes == now.size], [1, 2])
        self.assertEqual(extract(zips, folder), 4)
        wanted = {path.lstrip("/"): data for path, data in self.source.files.items()}
        for name in list(wanted)[:4]:
            self.assertEqual((folder / name).read_bytes(), wanted[name])
        self.assertEqual(len(json.loads((folder / "manifest.json").read_text())), 5)
        self.assertEqual(client.retry(batch.task_id, only={"code": "port_refused"}).run, 2)
        client.wait(batch.task_id)
        self.assertEqual([one.task_id for one in client.batches(status="partial")],
                         [batch.task_id])  # fmt: skip
        self.assertEqual(client.delete(batch.task_id).task_id, batch.task_id)
        with self.assertRaises(Refused) as caught:
            client.batch(batch.task_id)
        self.assertEqual((caught.exception.status, caught.exception.code), (404, "no_such_batch"))
        checked = client.check({"download": ["ftp://x/"]})
        self.assertEqual(checked.refused[0].code, "bad_url")
        self.assertEqual(client.secrets()[0][:6], "whsec_")
        self.assertTrue(client.who().everybody)

    def test_server_restarts(self) -> None:
        """A wait goes on over a restart of the server; the end is heard once."""
        daemon = self.daemon("--rate=0")
        client = Client(daemon.api, patience=0)
        self.source.gate.clear()
        accepted = client.submit(self.urls(1))
        ended: list[str] = []
        heard = threading.Event()

        def wait() -> None:
            batch = client.wait(accepted.task_id, progress=lambda batch: heard.set())
            ended.append(batch.status)

        waiting = threading.Thread(target=wait)
        waiting.start()
        heard.wait(20)
        daemon.kill()
        daemon.start()
        self.source.gate.set()
        waiting.join(40)
        self.assertEqual(ended, ["done"])


class AsyncClientTests(TestCase):
    """The client on the reactor, over the test's own servers."""

    def server(self, *answers: tuple[int, bytes, dict[str, str]]) -> tuple[str, list[Any]]:
        """A server that gives these answers in turn, the last one again and again."""
        left, asked = list(answers), list[Any]()

        class Handler(thread_server.Handler):
            def do_GET(self) -> None:
                asked.append((self.command, self.path, dict(self.headers)))
                if length := int(self.headers.get("Content-Length", 0)):
                    self.rfile.read(length)
                status, data, headers = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_DELETE = do_GET

        server = thread_server.Server(Handler)
        self.addCleanup(server.close)
        return server.url, asked

    async def both(
        self, url: str, call: Callable[[Any], Any], token: str = "", patience: float = 0.0
    ) -> list[Any]:
        """What a call ends with in each client: a value or an error."""
        ends: list[Any] = []
        client = AsyncClient(url, token, patience=patience, reactor=reactor, agent=Agent(reactor))
        try:
            ends.append(await call(client))
        except Exception as error:
            ends.append(error)
        blocking = Client(url, token, patience=patience)
        self.addCleanup(blocking.close)
        try:
            ends.append(await deferToThread(call, blocking))
        except Exception as error:
            ends.append(error)
        return ends

    async def test_refused(self) -> None:
        """Problems have their code; what is no bulkwav is said to be none."""
        problem = {"type": "t", "title": "T", "status": 404, "code": "no_such_batch", "detail": "d"}
        for answer, kind, code in (
            ((404, json.dumps(problem).encode(), {}), Refused, "no_such_batch"),
            ((502, b"<html>bad gateway", {}), Refused, "http_502"),
            ((302, b"", {"Location": "/elsewhere"}), Refused, "http_302"),
            ((200, b"<html>a router", {}), NotBulkwav, "not_bulkwav"),
            ((200, b'{"a": 1}', {}), NotBulkwav, "not_bulkwav"),
            ((200, b'{"', {"Content-Length": "100"}), Unreachable, "unreachable"),
            ((200, b"[" * 100_000, {}), NotBulkwav, "not_bulkwav"),
            ((404, b"[" * 100_000, {"Retry-After": "\xb2"}), Refused, "http_404"),
        ):
            url, _ = self.server(answer)
            for error in await self.both(url, lambda client: client.batch("x")):
                self.assertIsInstance(error, kind)
                self.assertEqual(error.code, code)

    async def test_endless_pages(self) -> None:
        """A cursor that leads to the page that it is of has an end."""
        url, asked = self.server((200, b'{"batches": [], "cursor": "7"}', {}))
        with self.assertRaises(NotBulkwav):
            await deferToThread(lambda: list(Client(url).batches()))
        self.assertEqual(len(asked), 2)

    async def test_away(self) -> None:
        """Names, ports and protocols that are wrong are told in words."""
        url, _ = self.server((200, b"", {}))
        for where, words in (
            (f"http://127.0.0.1:{free_port()}", "connection refused"),
            ("http://nowhere.invalid", "the name cannot be resolved"),
            (url.replace("http:", "https:"), ""),
        ):
            for error in await self.both(where, lambda client: client.batch("x")):
                self.assertIsInstance(error, Unreachable, error)
                self.assertIn(words, str(error))

    async def test_repeated(self) -> None:
        """What may pass is tried again; what may have been done already is not."""
        busy = (503, b"{}", {"Retry-After": "0"})
        good: Any = (200, b'{"secrets": ["s"]}', {})
        for _ in range(2):
            url, asked = self.server(busy, busy, good, busy, busy, good)
            ends = await self.both(url, lambda client: client.secrets(), "tok", patience=9)
            self.assertEqual((ends, len(asked)), ([["s"], ["s"]], 6))
            self.assertEqual(asked[0][2]["Authorization"], "Bearer tok")
        url, asked = self.server((500, b"{}", {}))
        await self.both(url, lambda client: client.cancel("x"), patience=5)
        self.assertEqual(len(asked), 2)  # once by each

    async def test_cancelled(self) -> None:
        """A call that its caller cancels ends at once, and is not made again."""
        gate = threading.Event()
        self.addCleanup(gate.set)
        asked: list[str] = []

        class Handler(thread_server.Handler):
            def do_GET(self) -> None:
                asked.append(self.path)
                gate.wait(20)

            do_POST = do_GET

        server = thread_server.Server(Handler)
        self.addCleanup(server.close)
        client = AsyncClient(server.url, patience=60, reactor=reactor, agent=Agent(reactor))
        for call in (client.batch("x"), client.wait("x"), client.submit(["http://h/"])):
            asked.clear()
            calling = Deferred.fromCoroutine(call)
            while not asked:
                await deferLater(reactor, 0.01)
            calling.cancel()
            with self.assertRaises(CancelledError):
                await calling
            await deferLater(reactor, 0.3)
            self.assertEqual(len(asked), 1)

    def test_forked(self) -> None:
        """A child process does not use its parent's connections."""
        transport = BlockingTransport(5.0)
        pool = transport._pool("http://h/")
        self.assertIs(transport._pool("http://h/"), pool)
        self.patch(os, "getpid", lambda: 1)
        self.assertIsNot(transport._pool("http://h/"), pool)

    def test_servers(self) -> None:
        """URLs of servers, short and wrong ones."""
        for text, url in (
            ("h", "http://h:10000"), ("h:81", "http://h:81"), ("http://h", "http://h"),
            ("https://h:1/bulk/", "https://h:1/bulk"), ("[::1]", "http://[::1]:10000"),
        ):  # fmt: skip
            self.assertEqual(checked_server(text), url)
        for wrong in ("", "ftp://h", "http://", "http://u:p@h", "http://h?x=1", "h:99999", "h:x"):
            self.assertRaises(ValueError, checked_server, wrong)
        self.assertRaises(ValueError, AsyncClient, "h", "två", reactor=reactor)


class AsyncDaemonTests(DaemonTestCase):
    """The client on the reactor against a real daemon, in a process with a reactor of its own."""

    def test_whole_way(self) -> None:
        """Submit, events, members, download."""
        daemon = self.daemon("--rate=0", "--retries=0")
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        program = folder / "program.py"
        program.write_text(PROGRAM)
        given = json.dumps([daemon.api, str(folder), *self.urls(3)])
        told = run_python(str(program), given)
        self.assertEqual(told["status"], "done")
        self.assertEqual((told["seen"][-1], told["members"]), (100, 3))
        with zipfile.ZipFile(told["zips"][0]) as archive:
            self.assertEqual(len(archive.namelist()), 4)


PROGRAM = """
import json, sys
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react
from twisted_bulk.client import AsyncClient

async def main(reactor):
    server, folder, *urls = json.loads(sys.argv[1])
    client = AsyncClient(server, reactor=reactor)
    accepted = await client.submit(urls)
    seen = []
    batch = await client.wait(accepted.task_id, progress=lambda b: seen.append(b.schedule))
    members = [one async for one in client.members(accepted.task_id)]
    zips = [str(path) for path in await client.download(accepted.task_id, folder)]
    await client.close()
    print(json.dumps({"status": batch.status, "seen": seen, "members": len(members), "zips": zips}))

react(lambda reactor: ensureDeferred(main(reactor)))
"""


def run_python(*words: str) -> Any:
    """Run a program; returns the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, *words], env=environment(), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class FieldTests(SynchronousTestCase):
    """The types of what a client may ask for, beside the server's own."""

    def test_same_fields(self) -> None:
        """They have the fields that the server takes, and no others."""
        order = set(Submission.__struct_fields__) - {"download", "task_id"}
        self.assertEqual(set(fields.OrderFields.__annotations__), order)
        batches = set(BatchFilter.__struct_fields__)
        self.assertEqual(set(fields.BatchConditions.__annotations__), batches)
        members = set(MembersQuery.__struct_fields__) - {"limit", "cursor", "count", "full"}
        self.assertEqual(set(fields.MemberConditions.__annotations__), members)


class EventParserTests(SynchronousTestCase):
    """Server-sent events, however they are cut."""

    def test_pieces(self) -> None:
        """All cuts give the same events."""
        text = (
            b'retry: 3\n\n:\n\nid: 7\nevent: batch\r\ndata: {"a":\r\ndata: 1}\n\ndata:x\n\nid: 8\n'
        )
        for size in range(1, len(text)):
            parser, found = EventParser(), list[Any]()
            for begin in range(0, len(text), size):
                found += parser.feed(text[begin : begin + size])
            self.assertEqual(
                [(one.id, one.kind, one.data) for one in found],
                [("7", "batch", '{"a":\n1}'), ("7", "message", "x")],
            )

    def test_too_large(self) -> None:
        """An event without an end is not kept; comments count for nothing."""
        self.patch(event_parser, "MAX_EVENT_BYTES", 100)
        parser = EventParser()
        for _ in range(100):
            self.assertEqual(list(parser.feed(b":\n\n")), [])
        self.assertRaises(NotBulkwav, list, parser.feed(b"data: " + b"x" * 100))
        parser = EventParser()
        with self.assertRaises(NotBulkwav):
            for _ in range(100):
                list(parser.feed(b"data: x\n:\n"))


class ExtractionTests(SynchronousTestCase):
    """Zips unpacked."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def zip(self, name: str, **files: str) -> Path:
        path = self.folder / name
        with zipfile.ZipFile(path, "w") as archive:
            for member, text in files.items():
                archive.writestr(member.replace("__", "/"), text)
        return path

    def test_other_files_stay(self) -> None:
        """Nothing is written where another file is in the way, not even what could be."""
        zips = [self.zip("1.zip", a="1", d__b="2"), self.zip("2.zip", c="3")]
        target = self.folder / "out"
        target.mkdir()
        (target / "c").write_text("mine")
        self.assertRaises(DownloadFailed, extract, zips, target)
        self.assertEqual([path.name for path in target.iterdir()], ["c"])
        self.assertEqual(extract(zips, target, force=True), 3)
        self.assertEqual((target / "c").read_text(), "3")
        self.assertEqual(extract(zips, target), 3)  # once more: all are there
        self.assertEqual((target / "d" / "b").read_text(), "2")

    def test_hostile_names(self) -> None:
        """A name that leads out of the folder is refused."""
        for name in ("../x", "/etc/x", "a/../../x", "a\\..\\x"):
            path = self.folder / "h.zip"
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(name, "x")
            self.assertRaises(DownloadFailed, extract, [path], self.folder / "out")
        self.assertFalse((self.folder / "x").exists())

    def test_other_manifests(self) -> None:
        """A manifest of another batch, or a file of that name, stays; one of this batch goes on."""

        def lines(*urls: str) -> str:
            return json.dumps([{"url": u, "status": "", "code": "", "sha256": ""} for u in urls])

        target = self.folder / "m"
        target.mkdir()
        (target / "manifest.json").write_text("mine")
        first = self.zip("one.part001.zip", **{"manifest.part001.json": lines("a", "b")})
        extract([first], target)
        self.assertEqual((target / "manifest.json").read_text(), "mine")
        self.assertEqual(len(json.loads((target / "manifest one.json").read_text())), 2)
        (target / "manifest.json").unlink()
        extract([first], target)
        extract([self.zip("two.zip", **{"manifest.json": lines("c")})], target)
        extract([self.zip("one.zip", **{"manifest.json": lines("a", "b", "d")})], target)
        self.assertEqual(len(json.loads((target / "manifest.json").read_text())), 3)
        self.assertEqual(len(json.loads((target / "manifest two.json").read_text())), 1)

    def test_broken(self) -> None:
        """A zip that is none, damaged or encrypted is told as an error of the download."""
        path = self.zip("x.zip", a="content" * 99)
        whole = path.read_bytes()
        broken = [b"no zip", whole[:-30], whole.replace(b"content", b"CONTENT", 1)]
        broken.append(whole[:6] + b"\x01" + whole[7:])
        at = whole.index(b"PK\x01\x02") + 8
        broken[-1] = broken[-1][:at] + b"\x01" + broken[-1][at + 1 :]
        for data in broken:
            path.write_bytes(data)
            with self.assertRaises(DownloadFailed) as caught:
                extract([path], self.folder / "out")
            self.assertEqual(caught.exception.code, "bad_zip")
            self.assertFalse((self.folder / "out" / "a").exists())

    def test_not_a_manifest(self) -> None:
        """A JSON file that is the last one, and no manifest, is a file."""
        self.assertEqual(extract([self.zip("j.zip", **{"x.json": "[1]"})], self.folder), 1)
        self.assertEqual((self.folder / "x.json").read_text(), "[1]")


class VerifyTests(SynchronousTestCase):
    """Callbacks, for their receivers."""

    def signed(self, body: str, secret: str = SECRET, age: float = 0) -> dict[str, str]:
        now = datetime.fromtimestamp(datetime.now(UTC).timestamp() - age, UTC)
        sign = Webhook(secret).sign("m", now, body)
        stamp = str(int(now.timestamp()))
        return {"Webhook-Id": "m", "WEBHOOK-TIMESTAMP": stamp, "webhook-signature": sign}

    def test_good(self) -> None:
        """JSON and forms, with one secret or one of several."""
        body = '{"task_id": "2", "schedule": "100", "done": 3}'
        self.assertEqual(verify(body.encode(), self.signed(body), SECRET)["done"], 3)
        other = SECRET.replace("A", "B")
        self.assertEqual(verify(body.encode(), self.signed(body), [other, SECRET])["done"], 3)
        form = "task_id=2&schedule=100&done=3&parts=%5B%5D&eta=null&download="
        found = verify(form.encode(), self.signed(form), SECRET)
        self.assertEqual(found, {"task_id": "2", "schedule": "100", "done": 3, "parts": [],
                                 "eta": None, "download": ""})  # fmt: skip

    def test_bad(self) -> None:
        """Another secret, another body, an old one, no or odd signatures."""
        body = '{"task_id": "2"}'
        good = self.signed(body)
        for sent, headers in (
            (body, self.signed(body, SECRET.replace("A", "B"))),
            (body + " ", good),
            (body, self.signed(body, age=400)),
            (body, {}),
            (body, good | {"webhook-signature": "v1"}),
            (body, good | {"webhook-signature": "v1,\xff"}),
            (body, {name: value for name, value in good.items() if name != "Webhook-Id"}),
        ):
            self.assertRaises(BadSignature, verify, sent.encode(), headers, SECRET)
        self.assertRaises(ValueError, verify, body.encode(), good, "whsec_*")


class ZipDownloadTests(SynchronousTestCase):
    """One zip fetched from odd servers."""

    data = bytes(range(256)) * 400
    count = 0  # requests so far

    def serve(self, behave: Callable[[Any, int], None]) -> str:
        """A server of one file; ``behave`` answers, with the number of the request."""
        case = self

        class Handler(thread_server.Handler):
            def do_GET(self) -> None:
                case.count += 1
                behave(self, case.count)

        server = thread_server.Server(Handler)
        self.addCleanup(server.close)
        return f"{server.url}/x/a.zip"

    def fetch(self, link: str, data: bytes | None = None, **more: Any) -> Path:
        digest = hashlib.sha256(data or self.data).hexdigest()
        part = Part(1, 1, "done", link, 1, len(self.data), digest)
        self.folder = getattr(self, "folder", Path(self.mktemp()))
        self.folder.mkdir(exist_ok=True)
        given: dict[str, Any] = {"patience": 5.0, "force": False} | more
        one = download.ZipDownload(BlockingTransport(5.0), part, self.folder, **given)
        return finish(one.run(lambda here: None))

    def ranged(self, handler: Any) -> None:
        begin = int((handler.headers["Range"] or "bytes=0-").partition("=")[2].rstrip("-"))
        handler.send_response(206 if begin else 200)
        handler.send_header("Content-Length", str(len(self.data) - begin))
        handler.end_headers()
        handler.wfile.write(self.data[begin:])

    def test_resumed(self) -> None:
        """A connection that breaks, a server that is busy, one that ignores Range."""

        def breaking(handler: Any, number: int) -> None:
            if number == 1:
                handler.reply(self.data[:5000], length=len(self.data))
            elif number == 2:
                handler.send_response(503)
                handler.send_header("Retry-After", "0")
                handler.end_headers()
            else:
                self.ranged(handler)

        def deaf(handler: Any, number: int) -> None:
            sent = self.data[:7000] if number == 1 else self.data
            handler.reply(sent, length=len(self.data))

        for behave, requests in ((breaking, 3), (deaf, 2)):
            self.count = 0
            path = self.fetch(self.serve(behave))
            self.assertEqual((path.read_bytes(), self.count), (self.data, requests))
            self.assertEqual([one.name for one in self.folder.iterdir()], ["a.zip"])
            path.unlink()

    def test_wrong(self) -> None:
        """Other bytes than the batch names are not kept; a link that is gone is said to be."""
        link = self.serve(lambda handler, number: self.ranged(handler))
        with self.assertRaises(DownloadFailed) as caught:
            self.fetch(link, data=b"other")
        self.assertEqual(caught.exception.code, "checksum_mismatch")
        self.assertEqual(list(self.folder.iterdir()), [])
        (self.folder / "a.zip.part").write_bytes(b"an older zip's beginning")
        self.assertEqual(self.fetch(link).read_bytes(), self.data)
        (self.folder / "a.zip").unlink()
        gone = self.serve(lambda handler, number: handler.reply(b"", code=410))
        with self.assertRaises(DownloadFailed) as caught:
            self.fetch(gone)
        self.assertEqual(caught.exception.code, "gone")
        for name in ("..", "%2e%2e", "a%2fb", "", ".profile"):
            with self.assertRaises(DownloadFailed):
                self.fetch(f"http://h/x/{name}")

    def test_endless(self) -> None:
        """A server that sends more than it said fills no disk."""

        def endless(handler: Any, number: int) -> None:
            handler.send_response(200)
            handler.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(10_000):
                    handler.wfile.write(self.data)

        path = self.fetch(self.serve(endless))
        self.assertEqual(path.stat().st_size, len(self.data))

    def test_shared_folder(self) -> None:
        """Two that fetch one zip into one folder do not mix their bytes."""
        link = self.serve(lambda handler, number: self.ranged(handler))
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        with open(disk.lock(self.folder / "a.zip.part"), "ab"):
            with self.assertRaises(DownloadFailed) as caught:
                self.fetch(link)
            self.assertIn("by another process", str(caught.exception))
        self.assertEqual(self.fetch(link).read_bytes(), self.data)
