"""The API, over real sockets and a real queue."""

import gc
import json
import socket
import weakref
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.support.api import BATCH, ApiTestCase
from tests.support.reactor import reactor
from tests.support.redis_servers import RedisServer
from twisted_bulk.api import messages
from twisted_bulk.api.messages import MAX_AT_ONCE
from twisted_bulk.batch.model import PartResult
from twisted_bulk.errors import InvalidRequest
from twisted_bulk.jobs.model import Ack
from twisted_bulk.management import listing


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
            "code=A",
            "id=a/b",
            "since=now",
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

        self.patch(messages, "read_order", refuse)
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
        page = {"Content-Type": "text/plain", "Origin": f"http://127.0.0.1:{self.port}"}
        await self.refused(415, "unsupported_media_type", "POST", "/", b"{}", **page)
        for encoding in ("br", "gzip, gzip"):
            head = {"Content-Encoding": encoding}
            await self.refused(415, "unsupported_media_type", "POST", "/", b"{}", **head)
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


class RedisAwayTests(ApiTestCase):
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
