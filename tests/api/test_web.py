"""The API, over real sockets and a real queue."""

import gc
import hashlib
import json
import socket
import subprocess
import tempfile
import weakref
from pathlib import Path
from typing import Any

import msgspec
from treq.client import HTTPClient
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import Agent
from twisted.web.test.requesthelper import DummyRequest

from tests.support.reactor import reactor
from tests.support.redis_servers import RedisServer, RedisTestCase, need
from twisted_bulk import web
from twisted_bulk.api import listing
from twisted_bulk.api.admission import MAX_CLIENTS, RequestRate
from twisted_bulk.api.intake import Intake
from twisted_bulk.api.messages import MAX_AT_ONCE
from twisted_bulk.api.order import read_order
from twisted_bulk.api.tokens import Access, Token, parse_tokens
from twisted_bulk.batch.model import PartResult
from twisted_bulk.brokers.redis import Redis
from twisted_bulk.errors import ConfigError, Forbidden, InvalidRequest, ProtectedMode, Unauthorized
from twisted_bulk.http_server import deadline
from twisted_bulk.http_server.site import BoundedSite
from twisted_bulk.jobs.group_model import Group, GroupPart
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.jobs.model import Ack
from twisted_bulk.jobs.scripted import ScriptedQueue
from twisted_bulk.notify.signer import load_signer
from twisted_bulk.web import Api

MAX_BODY = 20_000_000
BATCH = {"task_id": "b", "download": ["http://h.example/a.wav", "http://h.example/b.wav"]}


class ApiTestCase(RedisTestCase):
    """An API on a free port of loopback."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.serve(self.redis)

    def serve(self, redis: Redis, request_rate: int = 0, access: Access | None = None) -> None:
        self.deleted: list[str] = []
        self.queue = GroupQueue(redis, "parts", 200_000, ScriptedQueue(redis, "calls"))
        batches = Intake(
            self.queue, link_base=lambda: "http://l", part_files=10_000, compress="auto",
            callback_tries=8, keep=60, deleted=self.deleted.append,
        )  # fmt: skip
        signer = load_signer("", Path(tempfile.mkdtemp(prefix="bw")))
        self.api = Api(
            batches, access or Access(), 150_000, signer.secrets, request_rate=request_rate
        )
        factory = BoundedSite(self.api.resource, reactor, MAX_BODY, unwelcome=self.api.unwelcome)
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        self.client = HTTPClient(Agent(reactor))

    async def call(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any, Any]:
        data = (
            body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        )
        given: Any = {"Content-Type": "application/json"} | headers
        url = f"http://127.0.0.1:{self.port}{path}"
        answer = await self.client.request(method, url, data=data, headers=given)
        return answer.code, json.loads(await answer.content() or b"null"), answer.headers

    async def refused(self, status: int, code: str, *asked: Any, **headers: str) -> dict[str, Any]:
        """A call that must end in this problem."""
        got, body, answered = await self.call(*asked, **headers)
        self.assertEqual((got, body["code"]), (status, code), body)
        self.assertEqual(answered.getRawHeaders("Content-Type"), ["application/problem+json"])
        self.assertEqual(body["status"], status)
        self.assertNotIn("Traceback", str(body))
        return dict(body)


class BatchTests(ApiTestCase):
    """The calls on batches."""

    async def test_submit(self) -> None:
        """Both paths take a batch; again it is the same one; another body is a conflict."""
        status, body, headers = await self.call("POST", "/", BATCH)
        expected = {
            "task_id": "b",
            "status": "queued",
            "total": 2,
            "position": 1,
            "self": "/v1/batches/b",
        }
        self.assertEqual((status, body), (202, expected))
        self.assertEqual(headers.getRawHeaders("Location"), ["/v1/batches/b"])
        status, body, _ = await self.call("POST", "/v1/batches", BATCH)
        self.assertEqual((status, body["task_id"], body["status"]), (200, "b", "queued"))
        other = BATCH | {"policy": "strict"}
        await self.refused(409, "task_conflict", "POST", "/v1/batches", other)

    async def test_at_once(self) -> None:
        """Twenty clients with the same id make one batch."""
        calls = [Deferred.fromCoroutine(self.call("POST", "/", BATCH)) for _ in range(20)]
        statuses = sorted([(await call)[0] for call in calls])
        self.assertEqual(statuses, [200] * 19 + [202])
        self.assertEqual(len((await self.queue.reserve("w", 99)).jobs), 1)

    async def test_made_id(self) -> None:
        """Without an id one is made; a number is one."""
        _, body, _ = await self.call("POST", "/", {"download": ["http://h/"]})
        self.assertRegex(body["task_id"], r"^[0-9a-f]{16}$")
        _, body, _ = await self.call("POST", "/", {"download": ["http://h/"], "task_id": 7})
        self.assertEqual(body["task_id"], "7")

    async def test_show_and_list(self) -> None:
        """One batch, and all of them."""
        await self.call("POST", "/", BATCH)
        status, body, _ = await self.call("GET", "/v1/batches/b")
        self.assertEqual((status, body["total"], body["schedule"]), (200, 2, 0))
        await self.refused(404, "no_such_batch", "GET", "/v1/batches/c")
        for n in range(3):
            await self.call("POST", "/", BATCH | {"task_id": f"n{n}"})
        status, body, _ = await self.call("GET", "/v1/batches?limit=3")
        self.assertEqual([b["task_id"] for b in body["batches"]], ["n2", "n1", "n0"])
        status, body, _ = await self.call("GET", f"/v1/batches?limit=3&cursor={body['cursor']}")
        self.assertEqual(([b["task_id"] for b in body["batches"]], body["cursor"]), (["b"], None))
        status, body, _ = await self.call("GET", "/v1/batches?status=running")
        self.assertEqual(body["batches"], [])
        for query in (
            "status=odd",
            "limit=0",
            "limit=x",
            "limit=%C2%B2",
            "cursor=x",
            "cursor=%C2%B2",
            "limit=101",
            "callback=delivered",
            "callback=undelivered&status=done",
        ):
            await self.refused(400, "invalid_request", "GET", f"/v1/batches?{query}")

    async def test_paths(self) -> None:
        """What Klein would answer by itself."""
        for path in ("/v1/batches/%ff", "/%c3%28"):
            await self.refused(400, "bad_request", "GET", path)
        for path in ("/v1/batches/%252e", "/v1/batches/%00", "/nothing"):
            self.assertEqual((await self.call("GET", path))[0], 404)

    async def test_refused_bodies_go(self) -> None:
        """A body that was refused is not kept by the error that refused it."""
        seen: list[Any] = []

        class Large:
            """Something that a frame holds."""

        def refuse(body: Any, most: int) -> None:
            held = Large()
            seen.append(weakref.ref(held))
            try:
                raise ValueError
            except ValueError:
                raise InvalidRequest("no") from None

        self.patch(web, "read_order", refuse)
        gc.disable()
        self.addCleanup(gc.enable)
        for size in (10, MAX_AT_ONCE):
            await self.refused(400, "invalid_request", "POST", "/", b" " * size)
        await deferLater(reactor, 0.05)
        self.assertEqual([held() for held in seen], [None, None])

    async def test_not_changed(self) -> None:
        """What a client has already is not sent again."""
        await self.call("POST", "/", BATCH)
        for path in ("/v1/batches/b", "/v1/batches", "/v1/batches?limit=1"):
            status, _, headers = await self.call("GET", path)
            (tag,) = headers.getRawHeaders("ETag")
            for given, expected in ((tag, 304), (f'"x", W/{tag}', 304), ('"x"', 200)):
                status, _, again = await self.call("GET", path, **{"If-None-Match": given})
                self.assertEqual((status, again.getRawHeaders("ETag")), (expected, [tag]), given)
        await self.call("PATCH", "/v1/batches/b", {"priority": 5})
        await self.call("DELETE", "/v1/batches/b")
        status, body, _ = await self.call("GET", "/v1/batches", **{"If-None-Match": tag})
        self.assertEqual((status, body["batches"][0]["status"]), (200, "cancelled"))

    async def test_too_many_requests(self) -> None:
        """So many a second of one address; whether it lives may be asked by anybody."""
        self.serve(self.redis, request_rate=5)
        codes = [(await self.call("GET", "/v1/batches"))[0] for _ in range(12)]
        self.assertEqual(codes[:5], [200] * 5)
        self.assertGreaterEqual(codes.count(429), 5)
        _, body, headers = await self.call("GET", "/v1/batches")
        self.assertEqual(body["code"], "too_many_requests")
        self.assertEqual(headers.getRawHeaders("Retry-After"), ["1"])
        self.assertEqual((await self.call("GET", "/healthz"))[0], 200)

    async def test_everything_counts(self) -> None:
        """What is for everybody counts, too, and what is not there; health ten times less."""
        for method, path, good in (
            ("GET", "/openapi.json", 200), ("GET", "/nothing", 404), ("PUT", "/v1/stats", 405),
            ("GET", "/%ff", 400), ("GET", "/healthz", 200), ("GET", "/readyz", 200),
        ):  # fmt: skip
            self.serve(self.redis, request_rate=2)
            most = 20 if path in ("/healthz", "/readyz") else 2
            codes = [(await self.call(method, path))[0] for _ in range(2 * most)]
            self.assertEqual(set(codes[:most]), {good}, path)
            self.assertIn(429, codes, path)

    async def test_not_possible(self) -> None:
        """What a batch, or a node, cannot do; and what breaks, without its inside."""
        await self.call("POST", "/", BATCH)
        await self.refused(409, "not_retryable", "POST", "/v1/batches/b/retry")
        await self.refused(404, "no_file_port", "GET", "/v1/files")
        await self.redis.command("HSET", f"{self.queue.prefix}g:b", "total", "/usr/lib")
        body = await self.refused(500, "internal", "GET", "/v1/batches/b")
        self.assertNotIn("/usr/lib", str(body))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_undelivered(self) -> None:
        """Batches whose last callback was given up; it can be sent again, as often as it failed."""
        query, calls = "/v1/batches?callback=undelivered", self.queue.after
        for number in range(3):
            body = BATCH | {"task_id": f"n{number}", "url": "http://h.example/n"}
            await self.call("POST", "/", body)
            await self.refused(409, "not_undelivered", "POST", f"/v1/batches/n{number}/notify")
            (part,) = (await self.queue.reserve("w", 1)).jobs
            await self.queue.ack("w", [Ack(part, 2, b"")])
            (call,) = (await calls.reserve("w", 1)).jobs
            await calls.nack("w", call, 0, "gone", fatal=True)
        _, shown, _ = await self.call("GET", f"{query}&limit=2")
        self.assertEqual([one["task_id"] for one in shown["batches"]], ["n2", "n1"])
        await self.queue.after.revive("n2")  # in vain: what goes moves no other one
        _, shown, _ = await self.call("GET", f"{query}&limit=2&cursor={shown['cursor']}")
        self.assertEqual(([one["task_id"] for one in shown["batches"]], shown["cursor"]),
                         (["n0"], None))  # fmt: skip
        status, shown, _ = await self.call("POST", "/v1/batches/n1/notify")
        self.assertEqual((status, shown["task_id"]), (202, "n1"))
        (call,) = (await calls.reserve("w", 1)).jobs
        self.assertEqual((call.id.partition("@")[0], call.attempt), ("n1", 1))
        await self.refused(409, "not_undelivered", "POST", "/v1/batches/n1/notify")
        await self.queue.forget("n0")
        _, shown, _ = await self.call("GET", query)
        self.assertEqual([one["task_id"] for one in shown["batches"]], ["n2"])
        await self.refused(404, "no_such_batch", "POST", "/v1/batches/n0/notify")

    async def test_delete(self) -> None:
        """First it is cancelled, then it goes, and its files with it."""
        await self.call("POST", "/", BATCH)
        status, body, _ = await self.call("DELETE", "/v1/batches/b")
        self.assertEqual((status, body["status"], self.deleted), (200, "cancelled", []))
        status, body, _ = await self.call("DELETE", "/v1/batches/b")
        self.assertEqual((status, body["status"], self.deleted), (200, "cancelled", ["b"]))
        await self.refused(404, "no_such_batch", "GET", "/v1/batches/b")
        await self.refused(404, "no_such_batch", "DELETE", "/v1/batches/b")
        self.assertEqual((await self.call("POST", "/", BATCH))[0], 202)

    async def test_bounded(self) -> None:
        """A page of the worst batches has a bound; nothing that was asked for is left out."""
        long = "http://h.example/" + "x" * 8000
        errors = [
            {"member": n, "url": long, "code": "http_error", "detail": "no", "attempts": 1}
            for n in range(100)
        ]
        result = PartResult(folder="f", zips=[], done=0, failed=100, bytes=0, errors=errors)
        for number in range(100):
            await self.call("POST", "/", {"task_id": f"n{number:03}", "download": [long] * 100})
            (part,) = (await self.queue.reserve("w", 1)).jobs
            await self.queue.ack("w", [Ack(part, 0, msgspec.json.encode(result))])
        _, shown, _ = await self.call("GET", "/v1/batches?limit=100")
        self.assertEqual(len(shown["batches"]), 100)
        self.assertLess(len(json.dumps(shown)), 200_000)
        self.patch(listing, "MAX_PAGE_BYTES", 10_000)
        seen, cursor = list[str](), ""
        while cursor is not None:
            _, shown, _ = await self.call("GET", f"/v1/batches?limit=70&cursor={cursor}")
            self.assertLess(len(json.dumps(shown)), 15_000)
            seen += [batch["task_id"] for batch in shown["batches"]]
            cursor = shown["cursor"]
        self.assertEqual(seen, [f"n{number:03}" for number in reversed(range(100))])
        _, shown, _ = await self.call("GET", "/v1/batches/n001")
        self.assertEqual(len(shown["errors"]), 100)
        self.assertLess(len(json.dumps(shown)), 100_000)

    async def test_client_gone(self) -> None:
        """A POST whose client goes away leaves nothing in the queue."""
        urls = [f"http://h.example/{n}" for n in range(30_000)]
        body = json.dumps({"download": urls}).encode()
        stored: list[str] = []
        gone: Deferred[None] = Deferred()
        attach = self.queue.attach

        async def slowly(key: str, data: bytes) -> None:
            await attach(key, data)
            stored.append(key)
            if len(stored) == 2:
                gone.callback(None)
                await deferLater(reactor, 60)

        self.patch(self.queue, "attach", slowly)
        connection = socket.create_connection(("127.0.0.1", self.port), 10)
        head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        words = f"{head}Content-Type: application/json\r\n\r\n".encode() + body
        await deferToThread(connection.sendall, words)
        await gone
        connection.close()
        while await self.redis.command("KEYS", f"{self.queue.prefix}a:*"):
            await deferLater(reactor, 0.01)
        self.assertEqual(len(stored), 2)

    async def test_large_answers(self) -> None:
        """Of any call, and what is repeated has a bound as well."""
        url = "http://h.example/" + "x" * 3000
        body = {"task_id": "b", "download": [url] * 120}
        errors = [
            {"member": n, "url": url, "code": "http_error", "detail": "d" * 300, "attempts": 1}
            for n in range(100)
        ]
        result = PartResult(folder="f", zips=[], done=0, failed=120, bytes=0, errors=errors)
        await self.call("POST", "/", body)
        (part,) = (await self.queue.reserve("w", 1)).jobs
        await self.queue.ack("w", [Ack(part, 0, msgspec.json.encode(result))])
        for method, path in (("GET", "/v1/batches/b"), ("POST", "/"), ("DELETE", "/v1/batches/b")):
            _, shown, _ = await self.call(method, path, body if method == "POST" else None)
            self.assertEqual((shown["task_id"], len(shown["errors"])), ("b", 100), method)
            self.assertGreater(len(json.dumps(shown)), MAX_AT_ONCE)

    async def test_again_after_a_failure(self) -> None:
        """The same body after a batch that failed is told how to go on."""
        await self.call("POST", "/", BATCH)
        (part,) = (await self.queue.reserve("w", 1)).jobs
        await self.queue.ack("w", [Ack(part, 0, b"")])
        status, shown, _ = await self.call("POST", "/", BATCH)
        self.assertEqual((status, shown["status"]), (200, "failed"))
        self.assertEqual(shown["retry"], "/v1/batches/b/retry")
        self.assertEqual((await self.call("POST", shown["retry"]))[0], 202)
        _, shown, _ = await self.call("POST", "/", BATCH)
        self.assertNotIn("retry", shown)

    async def test_callback(self) -> None:
        """Each try of a last callback is shown, with what came of it, and when the next one is."""
        body = BATCH | {"url": "http://h.example/n"}
        await self.call("POST", "/", body)

        async def callback() -> dict[str, Any]:
            return dict((await self.call("GET", "/v1/batches/b"))[1]["callback"])

        self.assertEqual(await callback(), {"state": "pending", "tries": [], "next": None})
        (part,) = (await self.queue.reserve("w", 1)).jobs
        await self.queue.ack("w", [Ack(part, 2, b"")])
        self.assertEqual((await callback())["state"], "sending")
        calls = self.queue.after
        (call,) = (await calls.reserve("w", 1)).jobs
        await calls.nack("w", call, 0.05, "HTTP 503")
        shown = await callback()
        self.assertEqual(shown["state"], "waiting")
        self.assertEqual([(t["status"], t["detail"]) for t in shown["tries"]], [(503, "HTTP 503")])
        self.assertGreaterEqual(shown["next"], shown["tries"][0]["at"])
        await deferLater(reactor, 0.1)
        (call,) = (await calls.reserve("w", 1)).jobs
        await calls.nack("w", call, 0, "address_refused: no\npublic address", fatal=True)
        shown = await callback()
        self.assertEqual((shown["state"], shown["next"]), ("undelivered", None))
        last = shown["tries"][1]
        self.assertEqual((last["status"], last["detail"]),
                         (None, "address_refused: no public address"))  # fmt: skip
        await self.call("POST", "/v1/batches/b/notify")
        (call,) = (await calls.reserve("w", 1)).jobs
        await calls.ack("w", [Ack(call, 1, b"HTTP 200")])
        shown = await callback()
        self.assertEqual((shown["state"], shown["tries"][-1]["status"]), ("delivered", 200))
        await self.call("POST", "/", {"task_id": "n", "download": ["http://h/"]})
        self.assertNotIn("callback", (await self.call("GET", "/v1/batches/n"))[1])

    async def test_large(self) -> None:
        """100,000 URLs in one POST, in ten parts."""
        urls = [f"http://h.example/recordings/{n:09}.wav" for n in range(100_000)]
        status, body, _ = await self.call("POST", "/", {"task_id": "big", "download": urls})
        self.assertEqual((status, body["total"]), (202, 100_000))
        jobs = (await self.queue.reserve("w", 99)).jobs
        self.assertEqual(len(jobs), 10)
        self.assertIsNotNone(await self.queue.attachment(jobs[9].attachment))
        await self.refused(400, "invalid_request", "POST", "/", {"download": urls + urls[:60_000]})

    async def test_full(self) -> None:
        """Over the cap: 503 and when to come back."""
        urls = ["http://h/"] * 150_000
        await self.call("POST", "/", {"task_id": "1", "download": urls})
        await self.refused(503, "queue_full", "POST", "/", {"task_id": "2", "download": urls})
        _, _, headers = await self.call("POST", "/", {"task_id": "3", "download": urls})
        self.assertEqual(headers.getRawHeaders("Retry-After"), ["30"])

    async def test_refused(self) -> None:
        """What is wrong is said, by field and with a code."""
        await self.refused(
            415, "unsupported_media_type", "POST", "/", b"{}", **{"Content-Type": "text/plain"}
        )
        await self.refused(400, "invalid_request", "POST", "/", b"{")
        body = await self.refused(
            400, "invalid_request", "POST", "/", {"download": ["http://h/", 1]}
        )
        self.assertIn("$.download[1]", body["detail"])
        await self.refused(404, "not_found", "GET", "/v2")
        await self.refused(405, "method_not_allowed", "PUT", "/v1/batches")

    async def test_health(self) -> None:
        """Alive, and ready until it stops."""
        self.assertEqual((await self.call("GET", "/healthz"))[0], 200)
        self.assertEqual((await self.call("GET", "/readyz"))[0], 200)
        self.api._admission.stopping = True
        await self.refused(503, "stopping", "GET", "/readyz")
        await self.refused(503, "stopping", "POST", "/", BATCH)


class BodyTests(ApiTestCase):
    """Bodies over the limit."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.patch(deadline, "LINGER_SECONDS", 0.3)
        # The connections that were refused end after that time.
        self.addCleanup(deferLater, reactor, 0.4)
        await super().setUp()

    async def curl(self, *words: str) -> str:
        where = f"http://127.0.0.1:{self.port}/"
        command = [need("curl"), "-s", "-w", "%{http_code}", *words, where]
        done = await deferToThread(subprocess.run, command, capture_output=True, text=True)
        return str(done.stdout)

    async def test_announced_and_not(self) -> None:
        """413 for a length that is too large, with or without asking first, and in chunks."""
        path = Path(tempfile.mkdtemp(prefix="bw"), "body")
        path.write_bytes(b" " * (MAX_BODY + 1))
        send = ["-H", "Content-Type: application/json", "--data-binary", f"@{path}"]
        for more in ([], ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"]):
            printed = await self.curl(*send, *more)
            self.assertIn("body_too_large", printed, more)
            self.assertTrue(printed.endswith("413"), more)

    async def test_read_no_further(self) -> None:
        """An endless body is not read: the client cannot get rid of it."""

        def flood() -> int:
            with socket.create_connection(("127.0.0.1", self.port), 10) as sock:
                sock.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
                sent, piece = 0, b"10000\r\n" + b" " * 65536 + b"\r\n"
                try:
                    while sent < 10 * MAX_BODY:
                        sock.sendall(piece)
                        sent += len(piece)
                except OSError:
                    pass
                return sent

        self.assertLess(await deferToThread(flood), MAX_BODY + (20 << 20))


class AwayTests(ApiTestCase):
    """The API while Redis is not there."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.server = RedisServer()
        self.addCleanup(self.server.close)
        self.server.kill()
        self.serve(self.connect(self.server.url))

    async def test_recovers(self) -> None:
        """Alive but not ready; ready again by itself."""
        self.assertEqual((await self.call("GET", "/healthz"))[0], 200)
        body = await self.refused(503, "queue_unavailable", "GET", "/readyz")
        self.assertEqual(body["detail"], "the queue does not answer")  # and not where it is
        self.server.start()
        while (await self.call("GET", "/readyz"))[0] != 200:
            pass
        self.assertEqual((await self.call("POST", "/", BATCH))[0], 202)


class AccessTests(SynchronousTestCase):
    """Who is let in."""

    def request(self, address: Any, token: str = "") -> Any:
        request: Any = DummyRequest([b""])
        request.peer = getattr(address, "host", "")
        request.is_forwarded = False
        if token:
            request.requestHeaders.setRawHeaders("Authorization", [token])
        if request.peer:
            request.requestHeaders.setRawHeaders("Host", ["localhost"])
        return request

    def test_protected_mode(self) -> None:
        """Without tokens, only clients of the same machine, for anything."""
        near = [
            *(IPv4Address("TCP", host, 1) for host in ("127.0.0.1", "127.9.9.9")),
            *(IPv6Address("TCP", host, 1) for host in ("::1", "::ffff:127.0.0.1")),
            UNIXAddress("/s"),
        ]
        for address in near:
            self.assertIsNone(Access().check(self.request(address), "admin").owner)
        for far in (IPv4Address("TCP", "192.0.2.1", 1), IPv6Address("TCP", "2001:db8::1", 1)):
            self.assertRaises(ProtectedMode, Access().check, self.request(far), "read")
            Access(open=True).check(self.request(far), "admin")

    def test_forwarded(self) -> None:
        """What came through a proxy does not come from this machine; the answer says what to do."""
        request = self.request(IPv4Address("TCP", "127.0.0.1", 1))
        request.is_forwarded = True
        error = self.assertRaises(ProtectedMode, Access().check, request, "read")
        self.assertIn("--tokens", str(error))
        Access(open=True).check(request, "read")

    def test_other_sites_pages(self) -> None:
        """Nor what a page of another site lets a browser on this machine ask for."""
        near = IPv4Address("TCP", "127.0.0.1", 1)
        for host, origin, meant in (
            ("127.0.0.1:10000", "", True),
            ("LocalHost:10000", "", True),
            (f"{socket.gethostname()}:10000", "", True),
            ("[::1]:10000", "http://[::1]:10000", True),
            ("localhost:10000", "http://localhost:10000", True),
            ("localhost:10000", "http://localhost:8080", False),
            ("localhost:10000", "https://evil.example", False),
            ("localhost:10000", "null", False),
            ("evil.example:10000", "", False),
            ("evil.example", "http://evil.example", False),
            ("192.0.2.1", "", False),
            ("[1]", "", False),
            ("", "", False),
            ("", "null", False),
        ):
            request = self.request(near)
            request.requestHeaders.setRawHeaders("Host", [host])
            if origin:
                request.requestHeaders.setRawHeaders("Origin", [origin])
            if meant:
                Access().check(request, "admin")
            else:
                self.assertRaises(ProtectedMode, Access().check, request, "admin")
            Access(open=True).check(request, "admin")

    def test_tokens(self) -> None:
        """With tokens, whoever has one, from wherever, for what it is for, and nobody else."""
        path = self.mktemp()
        one, two = (hashlib.sha256(token).hexdigest() for token in (b"one", b"two"))
        Path(path).write_text(f"# clients\n{one} office submit,read # x\n\n{two.upper()}\n")
        access = Access.load(path, open=False)
        far, near = IPv4Address("TCP", "192.0.2.1", 1), IPv4Address("TCP", "127.0.0.1", 1)
        found = access.check(self.request(far, "Bearer one"), "submit")
        self.assertEqual((found.name, found.owner), ("office", "office"))
        self.assertRaises(Forbidden, access.check, self.request(near, "Bearer one"), "admin")
        for scope in ("submit", "read", "admin"):
            self.assertIsNone(access.check(self.request(far, "bearer two"), scope).owner)
        strange = hashlib.sha256("tökén".encode()).hexdigest()
        known = Access([Token(bytes.fromhex(strange), "s", frozenset(("read",)))])
        self.assertEqual(known.check(self.request(far, "Bearer tökén"), "read").name, "s")
        for token in ("", "Bearer three", "Basic one", "Bearer", "one", "Bearer " + one):
            self.assertRaises(Unauthorized, access.check, self.request(near, token), "read")

    def test_read_again(self) -> None:
        """A file that has changed counts at once; one with a mistake changes nothing."""
        path = Path(self.mktemp())
        lines = [f"{hashlib.sha256(token).hexdigest()} {token.decode()} read"
                 for token in (b"one", b"two")]  # fmt: skip
        path.write_text(lines[0])
        access = Access.load(str(path), open=False)
        near = IPv4Address("TCP", "127.0.0.1", 1)

        def known() -> list[bool]:
            asked = [self.request(near, f"Bearer {token}") for token in ("one", "two")]
            found = []
            for request in asked:
                try:
                    found.append(bool(access.check(request, "read")))
                except Unauthorized:
                    found.append(False)
            return found

        for text, expected in (
            (lines[0], [True, False]),
            ("\n".join(lines), [True, True]),
            ("nonsense", [True, True]),
            (lines[1], [False, True]),
            ("", [False, True]),  # as one that is being written is for a moment
            (lines[0], [True, False]),
        ):
            path.unlink()
            path.write_text(text)
            self.assertEqual(known(), expected, text)
        path.unlink()
        self.assertEqual(known(), [True, False])

    def test_bad_file(self) -> None:
        """A token itself in the file is a mistake, named by its line."""
        path, good = self.mktemp(), "a" * 64
        for text in (
            "\nsecret-token\n",
            f"\n{good} name read more\n",
            f"\n{good} na/me read\n",
            f"\n{good} name reed\n",
            f"{good} name read\n{good.upper()} other read\n",
        ):
            Path(path).write_text(text)
            error = self.assertRaises(ConfigError, Access.load, path, False)
            self.assertRegex(str(error), "tokens: .*line 2", text)
            self.assertNotIn("secret-token", str(error))


class OwnerTests(ApiTestCase):
    """Several tokens and their batches."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        path = self.mktemp()
        Path(path).write_text(
            "".join(
                f"{hashlib.sha256(name.encode()).hexdigest()} {name} {scopes}\n"
                for name, scopes in (
                    ("one", "submit,read"), ("two", "submit,read"), ("viewer", "read"),
                    ("root", "admin"),
                )
            )
        )  # fmt: skip
        self.access = Access.load(path, False)
        self.serve(self.redis, access=self.access)

    async def test_large_body(self) -> None:
        """One that is nobody's is not let in; the headers are enough to say so."""

        def post(token: str, framing: str) -> str:
            with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
                head = f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n{framing}"
                connection.sendall(f"{head}\r\n\r\n".encode())
                connection.settimeout(0.5)
                try:
                    return connection.recv(1000).decode()
                except TimeoutError:
                    return ""

        for framing in ("Content-Length: 1000000", "Transfer-Encoding: chunked"):
            answer = await deferToThread(post, "nobody", framing)
            self.assertIn("HTTP/1.1 401 ", answer)
            self.assertIn('WWW-Authenticate: Bearer realm="bulkwav"', answer)
            self.assertIn("HTTP/1.1 403 ", await deferToThread(post, "viewer", framing))
            self.assertEqual(await deferToThread(post, "one", framing), "")
        await deferLater(reactor, deadline.LINGER_SECONDS + 0.1)

    async def test_invited_body(self) -> None:
        """Who waits for leave to send a small body is told at once that there is none."""

        def post(token: str) -> str:
            with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
                head = f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n"
                more = "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n"
                connection.sendall(f"{head}{more}".encode())
                return connection.recv(1000).decode().partition("\r\n")[0]

        for token, said in (("nobody", "401"), ("viewer", "403"), ("one", "100")):
            self.assertIn(f"HTTP/1.1 {said} ", await deferToThread(post, token))
        self.api.stop()
        self.assertIn("HTTP/1.1 503 ", await deferToThread(post, "one"))
        await deferLater(reactor, deadline.LINGER_SECONDS + 0.1)

    async def test_guesses(self) -> None:
        """Who guesses too often is not told that a guess was right."""
        self.serve(self.redis, 5, self.access)
        told = [(await self.ask(f"guess{n}", "GET", "/v1/batches"))[0] for n in range(8)]
        self.assertEqual(told, [401] * 5 + [429] * 3)
        self.assertEqual((await self.ask("one", "GET", "/v1/batches"))[0], 429)

    async def ask(self, token: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        status, answer, _ = await self.call(method, path, body, **headers)
        return status, answer

    async def test_owners(self) -> None:
        """Each sees its own, and an admin all; another's id is taken, and says nothing more."""
        for number, owner in enumerate(("one", "two", "one", "root")):
            status, _ = await self.ask(owner, "POST", "/", BATCH | {"task_id": f"b{number}"})
            self.assertEqual(status, 202)
        seen = {}
        for token in ("one", "two", "viewer", "root"):
            _, page = await self.ask(token, "GET", "/v1/batches")
            seen[token] = sorted(batch["task_id"] for batch in page["batches"])
        self.assertEqual(
            seen,
            {"one": ["b0", "b2"], "two": ["b1"], "viewer": [], "root": ["b0", "b1", "b2", "b3"]},
        )
        status, page = await self.ask("two", "GET", "/v1/batches?limit=1")
        self.assertEqual([batch["task_id"] for batch in page["batches"]], ["b1"])
        for method, what, body in (
            ("GET", "", None), ("GET", "/manifest", None), ("DELETE", "", None),
            ("POST", "/retry", None), ("POST", "/notify", None), ("PATCH", "", {"priority": 1}),
        ):  # fmt: skip
            status, said = await self.ask("two", method, f"/v1/batches/b0{what}", body)
            self.assertEqual((status, said["code"]), (404, "no_such_batch"), (method, what))
        self.assertEqual((await self.ask("one", "POST", "/", BATCH | {"task_id": "b0"}))[0], 200)
        self.assertEqual((await self.ask("root", "DELETE", "/v1/batches/b0"))[0], 404)
        self.assertEqual((await self.ask("root", "DELETE", "/v1/batches/one:b0"))[0], 200)

    async def test_one_id_of_two(self) -> None:
        """An id is its token's: another's with the same one is another batch."""
        body = BATCH | {"task_id": "invoice-7", "url": "http://h.example/n"}
        for token in ("one", "two", "root"):
            status, said = await self.ask(token, "POST", "/", body)
            self.assertEqual((status, said["task_id"]), (202, "invoice-7"), token)
            self.assertEqual((await self.ask(token, "POST", "/", body))[0], 200)
        status, shown = await self.ask("one", "GET", "/v1/batches/invoice-7")
        self.assertEqual((status, shown["task_id"], shown["owner"]), (200, "invoice-7", "one"))
        await self.ask("one", "DELETE", "/v1/batches/invoice-7")
        states = {}
        for token, asked in (("one", "invoice-7"), ("two", "invoice-7"), ("root", "invoice-7"),
                             ("root", "one:invoice-7"), ("root", "two:invoice-7"),
                             ("two", "two:invoice-7")):  # fmt: skip
            _, shown = await self.ask(token, "GET", f"/v1/batches/{asked}")
            states[token, asked] = shown["owner"], shown["status"]
        self.assertEqual(set(states.values()),
                         {("one", "cancelled"), ("two", "queued"), ("root", "queued")})  # fmt: skip
        self.assertEqual(states["root", "one:invoice-7"], ("one", "cancelled"))
        self.assertEqual((await self.ask("two", "GET", "/v1/batches/one:invoice-7"))[0], 404)
        secrets = [(await self.ask(t, "GET", "/v1/secret"))[1]["secrets"] for t in ("one", "two")]
        self.assertNotEqual(*secrets)
        self.assertEqual((await self.ask("viewer", "GET", "/v1/secret"))[0], 403)

    async def test_from_before(self) -> None:
        """A batch that was taken in when ids were everybody's is found by its owner still."""
        spec = b'{"owner": "one"}'
        parts = [GroupPart(size=1, payload=b"{}", data=b"x")]
        await self.queue.submit(
            Group(id="old", digest="", spec=spec, need=1, parts=parts, owner="one")
        )
        for token, asked, status in (
            ("one", "old", 200), ("two", "old", 404), ("root", "old", 200), ("one", "one:old", 200),
            ("root", "one:old", 200), ("root", "two:old", 404), ("root", ":old", 404),
        ):  # fmt: skip
            found = await self.ask(token, "GET", f"/v1/batches/{asked}")
            self.assertEqual(found[0], status, (token, asked))
        body = BATCH | {"task_id": "old"}
        self.assertEqual((await self.ask("one", "POST", "/", body))[0], 409)  # it is another body
        self.assertEqual((await self.ask("two", "POST", "/", body))[0], 202)
        await self.queue.submit(Group(id="free", digest="", spec=b"{}", need=1, parts=parts))
        self.assertEqual((await self.ask("root", "GET", "/v1/batches/:free"))[0], 200)
        self.assertEqual((await self.ask("one", "GET", "/v1/batches/:free"))[0], 404)

    def test_rotation(self) -> None:
        """Two tokens of one name are one client."""
        digests = [hashlib.sha256(word).digest() for word in (b"old", b"new")]
        tokens = parse_tokens("".join(f"{digest.hex()} name submit\n" for digest in digests))
        self.assertEqual([(t.digest, t.owner) for t in tokens], [(d, "name") for d in digests])

    async def test_scopes(self) -> None:
        """What a token is not for is refused by name."""
        for token, method, path, status in (
            ("viewer", "POST", "/v1/batches", 403),
            ("viewer", "DELETE", "/v1/batches/b", 403),
            ("viewer", "GET", "/metrics", 200),
            ("one", "GET", "/v1/stats", 403),
            ("one", "PATCH", "/v1/queue", 403),
            ("one", "PATCH", "/v1/files", 403),
            ("root", "GET", "/v1/stats", 200),
            ("nobody", "GET", "/v1/batches", 401),
        ):
            url = f"http://127.0.0.1:{self.port}{path}"
            headers: Any = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            answer = await self.client.request(method, url, headers=headers, data=b"{}")
            text = await answer.content()
            self.assertEqual(answer.code, status, (token, path))
            self.assertEqual(b'"forbidden"' in text, status == 403)


class QuotaTests(SynchronousTestCase):
    """Requests a second, with time as an argument."""

    def test_rate(self) -> None:
        """So many at once, and then so many a second; each client has its own."""
        quota, allowed = RequestRate(10), 0
        for tick in range(3000):
            allowed += not quota.wait("a", tick / 100)
        self.assertApproximates(allowed, 10 * 30 + 10, 1)
        self.assertEqual(quota.wait("b", 30), 0)
        while not quota.wait("a", 30):
            allowed += 1
        self.assertApproximates(allowed, 10 * 30 + 10, 1)
        self.assertTrue(0 < quota.wait("a", 30) < 0.1001)

    def test_forgotten(self) -> None:
        """Who has not asked for a while takes no memory; nobody gains by that."""
        quota = RequestRate(1000)
        for number in range(MAX_CLIENTS * 2):
            self.assertEqual(quota.wait(f"{number}", number), 0)
        self.assertLessEqual(len(quota), MAX_CLIENTS)

    def test_no_limit(self) -> None:
        """0 is any number."""
        quota = RequestRate(0)
        self.assertEqual({quota.wait("a", 0) for _ in range(1000)}, {0.0})


class KeyTests(SynchronousTestCase):
    """JSON that two readers would read differently, or that is none."""

    bad = (
        ('{"download":["http://a/"],"download":["http://b/"]}', "'download' stands twice"),
        ('{"download":["http://a/"],"priority":1,"priority":1}', "'priority' stands twice"),
        ('{"task_id":"download","download":["http://a/"],"task_id":1}', "'task_id' stands twice"),
        ('{"download":["http://a/"],"headers":{"A":"1","A":"2"}}', "'A' stands twice"),
        ('{"download":["http://a/",{"url":"http://b/","url":"http://c/"}]}', "'url' stands twice"),
        ('{"downl\\u006fad":["http://a/"],"download":["http://a/"]}', "'download' stands twice"),
        ('{"headers":{"download":"x","download":"y"},"download":["http://a/"]}', "stands twice"),
        ('{"download":["http://a/"],"priority":NaN}', "not JSON"),
        ('{"download":["http://a/"],"expires":Infinity}', "not JSON"),
        ('{"download":["http://a/\\ud800"]}', "not JSON"),
        ('{"download":' + "[" * 100_000 + "]" * 100_000 + "}", "download"),
        ('{"headers":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ('{"download":["http://a/', "not JSON"),
        ('{"download":["http://a/" "http://b/"]}', "$.download[0]"),
        ('{"download":["http://a/",]}', "a comma before the end"),
        ('{"download":[{"url":"http://a/","headers":{"a":{"b":"c"}}}]}', "$.download[0]"),
        ('{"download":["http://a/"],"headers":{"a":"' + "b" * 600_000 + '"}}', "more than"),
        ('{"download":["http://a/' + "b" * 600_000 + '"]}', "$.download[0]"),
        ('{"download":' + "[" * 900 + "]" * 900 + "}", "download"),
        ('{"download":["http://a/"],"priority":' + "9" * 5000 + "}", "priority"),
        ('{"download":["http://a/"],"expires":1e999}', "expires"),
        ('{"download":["http://a/"],"prioritty":1}', "prioritty"),
        ("", "not JSON"),
        ("null", "object"),
        (
            '{"headers":{"download":"v","A":"1","A":"2"},"download":["http://a/xxxxxx"]}',
            "'A' stands",
        ),
        ('{"download":["http://a/"],"task_id":".."}', "task_id"),
        ('{"downl\\u006fad":["http://a/\udcff"]}', "UTF-8"),
        ('{"downl\\u006fad":[' + "9" * 5000 + "]}", "download"),
    )

    def test_refused(self) -> None:
        """Each with what is wrong."""
        for text, said in self.bad:
            body = text.encode("utf-8", "surrogateescape")
            error = self.assertRaises(InvalidRequest, read_order, body, 1000)
            self.assertIn(said, str(error), text[:80])

    def test_taken(self) -> None:
        """What only looks like it is not refused."""
        for text in (
            '{"task_id":"download","download":["http://a/"]}',
            '{"downl\\u006fad":["http://a/"],"task_id":"download"}',
            '{"headers":{"download":"x"},"download" : [ "http://a/" ]}',
            '{"headers":{"A":"1","B":"1"},"download":[{"url":"http://a/","headers":{"A":"1"}}]}',
        ):
            self.assertEqual(len(read_order(text.encode(), 1000)), 1)
