"""The list with filters, members, retries of some, plans for many batches, preflight: over HTTP."""

import hashlib
import json
import shutil
from io import BytesIO
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.support.api import BATCH, ApiTestCase, decoded
from tests.support.reactor import reactor
from twisted_bulk.api.answers import MembersPage, Session
from twisted_bulk.api.plans import BulkAction, Preflight, RetryPlan
from twisted_bulk.api.tokens import Access, parse_tokens
from twisted_bulk.batch.manifest_file import RUNNING, encode, note
from twisted_bulk.batch.member_index import INDEX_FILE, MemberIndex, lines_of
from twisted_bulk.batch.model import Outcome, PartResult
from twisted_bulk.batch.names import MANIFEST
from twisted_bulk.errors import MemberError
from twisted_bulk.jobs.model import Ack
from twisted_bulk.management import probing
from twisted_bulk.orders import preflight
from twisted_bulk.orders.order import read_order

URLS = [f"http://{'a' if n % 2 else 'b'}.example/{n}.wav" for n in range(1, 11)]


class ManyTests(ApiTestCase):
    """The worker is the test."""

    async def get(self, path: str) -> Any:
        status, body, _ = await self.call("GET", path)
        self.assertEqual(status, 200, body)
        return body

    async def post(self, name: str, urls: list[str] = URLS) -> None:
        status, body, _ = await self.call("POST", "/", {"task_id": name, "download": urls})
        self.assertEqual(status, 202, body)

    async def work(self, failed: int = 3, url: str = "") -> None:
        """Do the next part: its first members fail, the others are in its results."""
        (job,) = (await self.queue.reserve("w", 1)).jobs
        outcomes = [
            Outcome(
                url or URLS[n - 1], f"{n}.wav", "failed" if n <= failed else "done",
                "too_slow" if n <= failed else "", "", 1, "", 1, 1, member=n,
            )
            for n in range(1, 11)
        ]  # fmt: skip
        folder = self.folders.public / f"b-{abs(hash(job.id)):032x}"
        folder.mkdir()
        text = encode(outcomes)
        (folder / MANIFEST).write_bytes(text)
        (folder / INDEX_FILE).write_bytes(MemberIndex.of(lines_of(text), 0).encode())
        groups = [
            ("too_slow", "a.example", (failed + 1) // 2),
            ("too_slow", "b.example", failed // 2),
        ]
        result = PartResult(
            folder.name, [], 10 - failed, failed, 1, [], self.folders.node,
            failures=[group for group in groups if group[2]],
        )  # fmt: skip
        done = Ack(job, 10 - failed, msgspec.json.encode(result), "too_slow" if failed else "")
        await self.queue.ack("w", [done])

    async def test_list(self) -> None:
        """Conditions together, and how many batches match."""
        for name in ("march-1", "march-2", "april-1"):
            await self.post(name)
        await self.work()
        await self.work(0)
        for query, names in (
            ("status=partial", ["march-1"]),
            ("status=partial,done", ["march-2", "march-1"]),
            ("id=march", ["march-2", "march-1"]),
            ("id=march&code=too_slow", ["march-1"]),
            ("code=too_slow&status=done", []),
            ("since=2020-01-01&before=2020-01-02T00:00:00Z", []),
            ("since=2020-01-01T00:00:00Z&id=april", ["april-1"]),
            ("owner=somebody", []),
        ):
            found = await self.get(f"/v1/batches?count=true&{query}")
            self.assertEqual([one["task_id"] for one in found["batches"]], names, query)
            self.assertEqual(found["count"]["exact"], len(names))
        (one,) = (await self.get("/v1/batches?id=march-1"))["batches"]
        self.assertEqual([group["members"] for group in one["failures"]], [2, 1])

    async def test_members(self) -> None:
        """Pages by condition, while it waits and when it has ended."""
        await self.post("b")
        path = "/v1/batches/b/members"
        (one,) = (await self.get(f"{path}?status=waiting&full=true&cursor=4"))["members"]
        self.assertEqual((one["member"], one["url"], one["cut"]), (5, URLS[4], False))
        waiting = await self.get(f"{path}?status=waiting&limit=4")
        self.assertEqual([one["member"] for one in waiting["members"]], [1, 2, 3, 4])
        waiting = await self.get(f"{path}?status=waiting&cursor={waiting['cursor']}")
        self.assertEqual((len(waiting["members"]), waiting["cursor"]), (6, None))
        # Some have ended: they are not among those that wait.
        (job,) = (await self.queue.reserve("w", 1)).jobs
        workspace = self.folders.enlist()
        self.addCleanup(workspace.close)
        ended = [Outcome(URLS[n], "x", "done", "", "", 1, "", 1, 1, member=n + 1) for n in (0, 4)]
        note(workspace.make_folder(job.id) / RUNNING, ended)
        waiting = await self.get(f"{path}?status=waiting")
        self.assertEqual([one["member"] for one in waiting["members"]], [2, 3, 4, 6, 7, 8, 9, 10])
        self.assertEqual([one["member"] for one in (await self.get(path))["members"]], [1, 5])
        await self.queue.release("w", [job])
        shutil.rmtree(workspace.path)
        self.assertEqual((await self.get(path))["members"], [])
        await self.work()
        for query, numbers in (
            ("", list(range(1, 11))),
            ("status=failed", [1, 2, 3]),
            ("status=failed&host=a.example", [1, 3]),
            ("code=too_slow&text=2.WAV", [2]),
            ("status=done&part=1", list(range(4, 11))),
            ("status=waiting", []),
        ):
            found = await self.get(f"{path}?count=true&{query}")
            self.assertEqual([one["member"] for one in found["members"]], numbers, query)
            decoded(MembersPage, found)
        for query in (
            "status=odd",
            "limit=0",
            "limit=201",
            "cursor=x",
            "part=2",
            f"text={'x' * 201}",
        ):
            await self.refused(400, "invalid_request", "GET", f"{path}?{query}")
        await self.refused(404, "no_such_batch", "GET", "/v1/batches/none/members")

    async def test_cut(self) -> None:
        """A long URL is cut, and shown whole when one member is asked for."""
        await self.post("b")
        await self.work(1, "http://a.example/" + "x" * 4000)
        (one, *_) = (await self.get("/v1/batches/b/members"))["members"]
        self.assertEqual((len(one["url"]), one["cut"]), (300, True))
        (one,) = (await self.get("/v1/batches/b/members?full=true"))["members"]
        self.assertEqual((len(one["url"]), one["cut"]), (4017, False))

    async def test_large_numbers(self) -> None:
        """A number that a browser would round comes as a text."""
        await self.post("b")
        (job,) = (await self.queue.reserve("w", 1)).jobs
        for size, shown in ((2**53, 2**53), (2**53 + 1, str(2**53 + 1))):
            result = PartResult("b", [], 10, 0, size, [])
            await self.queue.ack("w", [Ack(job, 10, msgspec.json.encode(result))])
            (one,) = (await self.get("/v1/batches"))["batches"]
            self.assertEqual(one["bytes"], shown)
            key = f"{self.queue.prefix}j:{job.id}"
            more = msgspec.structs.replace(result, bytes=2**53 + 1)
            await self.redis.command("HSET", key, "res", msgspec.json.encode(more))

    async def test_retry_some(self) -> None:
        """A plan says how many; the retry takes those, and what the worker is told."""
        await self.post("b")
        only = {"only": {"code": "too_slow", "host": "a.example"}}
        retry = "/v1/batches/b/retry"
        await self.refused(409, "not_retryable", "POST", f"{retry}?check=true", only)
        await self.work()
        status, plan, _ = await self.call("POST", f"{retry}?check=true", only)
        left = [{"reason": "done", "members": 7}, {"reason": "not_meant", "members": 1}]
        self.assertEqual((status, plan), (200, {"run": 1, "retried": 2, "left": left}))
        decoded(RetryPlan, plan)
        for some, count in (({"text": "2.wav"}, 1), ({"members": [2, 3, 9]}, 2), ({}, 3)):
            _, plan, _ = await self.call("POST", f"{retry}?check=true", {"only": some})
            self.assertEqual(plan["retried"], count)
        await self.refused(409, "run_changed", "POST", retry, only | {"run": 2})
        await self.refused(409, "not_retryable", "POST", retry, {"only": {"code": "none"}})
        await self.refused(400, "invalid_request", "POST", retry, {"only": {"codes": "none"}})
        status, shown, _ = await self.call("POST", retry, only | {"run": 1})
        self.assertEqual((status, shown["status"], shown["run"]), (202, "queued", 2))
        (job,) = (await self.queue.reserve("w", 1)).jobs
        told = json.loads((await self.queue.previous(job.id))[1])
        self.assertEqual(told["host"], "a.example")

    async def test_retry_refused(self) -> None:
        """By a policy that needs more, with members replaced, of a part that failed as a whole."""
        await self.call("POST", "/", {"task_id": "s", "download": URLS, "policy": "strict"})
        await self.work()
        retry = "/v1/batches/s/retry"
        for path in (retry, f"{retry}?check=true"):
            one_host = {"only": {"host": "a.example"}}
            error = await self.refused(409, "not_retryable", "POST", path, one_host)
            self.assertIn("needs 10 members", error["detail"])
        both = {"only": {"code": "too_slow"}, "replace": {"1": "http://c.example/"}}
        await self.refused(400, "invalid_request", "POST", retry, both)
        status, plan, _ = await self.call(
            "POST", f"{retry}?check=true", {"only": {"code": "too_slow"}}
        )
        self.assertEqual((status, plan["retried"]), (200, 3))
        await self.post("d")
        (job,) = (await self.queue.reserve("w", 1)).jobs
        await self.queue.nack("w", job, 0, "broken", fatal=True)
        page = await self.get("/v1/batches/d/members")
        self.assertEqual(
            page["whole"], [{"part": 1, "members": 10, "code": "fatal", "detail": "broken"}]
        )
        retry = "/v1/batches/d/retry?check=true"
        for only in ({}, {"code": "fatal"}):
            _, plan, _ = await self.call("POST", retry, {"only": only})
            self.assertEqual(plan["retried"], 10)
        for other in ({"text": "a"}, {"members": [1]}, {"code": "poison"}):
            await self.refused(409, "not_retryable", "POST", retry, {"only": other})

    async def test_delete_only(self) -> None:
        """What is meant is said: a batch that has ended meanwhile is not deleted by a cancel."""
        await self.post("b")
        path = "/v1/batches/b"
        await self.refused(409, "not_ended", "DELETE", f"{path}?only=delete")
        await self.refused(400, "invalid_request", "DELETE", f"{path}?only=x")
        status, shown, _ = await self.call("DELETE", f"{path}?only=cancel")
        self.assertEqual((status, shown["status"]), (200, "cancelled"))
        await self.refused(409, "has_ended", "DELETE", f"{path}?only=cancel")
        self.assertEqual((await self.get(path))["status"], "cancelled")
        self.assertEqual((await self.call("DELETE", f"{path}?only=delete"))[0], 200)
        await self.refused(404, "no_such_batch", "DELETE", f"{path}?only=cancel")

    async def test_bulk(self) -> None:
        """A plan, its start, and its progress to the end."""
        for name in ("b1", "b2", "c1"):
            await self.post(name)
        for _ in range(3):
            await self.work()
        order = {"action": "retry", "filter": {"id": "b"}}
        status, plan, headers = await self.call("POST", "/v1/bulk", order)
        self.assertEqual((status, plan["total"], plan["eligible"]), (201, 2, 2))
        decoded(BulkAction, plan)
        path = f"/v1/bulk/{plan['id']}"
        self.assertEqual(headers.getRawHeaders("Location"), [path])
        status, shown, _ = await self.call("POST", f"{path}/start")
        self.assertEqual((status, shown["state"]), (202, "running"))
        while (await self.get(path))["state"] != "done":
            await deferLater(reactor, 0.05)
        self.assertEqual((await self.get(path))["done"], 2)
        self.assertEqual((await self.get("/v1/batches/c1"))["status"], "partial")
        self.assertEqual((await self.get("/v1/batches/b2"))["status"], "queued")
        selected = {"action": "delete", "batches": ["c1", "c1", "gone"]}
        status, plan, _ = await self.call("POST", "/v1/bulk", selected)
        await self.call("POST", f"/v1/bulk/{plan['id']}/start")
        while not self.deleted:
            await deferLater(reactor, 0.05)
        self.assertEqual(self.deleted, ["c1"])
        self.assertEqual(len((await self.get("/v1/bulk"))["bulk"]), 2)

    async def test_bulk_refused(self) -> None:
        """One clear error each."""
        for order in (
            {"action": "retry"},
            {"action": "retry", "filter": {}, "batches": ["b"]},
            {"action": "priority", "filter": {}},
            {"action": "retry", "filter": {}, "priority": 1},
            {"action": "explode", "filter": {}},
            {"action": "retry", "filter": {"status": "odd"}},
        ):
            await self.refused(400, "invalid_request", "POST", "/v1/bulk", order)
        await self.refused(404, "no_such_batch", "POST", "/v1/bulk",
                           {"action": "retry", "batches": ["none"]})  # fmt: skip
        for method, path in (("GET", ""), ("POST", "/start"), ("POST", "/stop")):
            await self.refused(404, "no_such_bulk", method, f"/v1/bulk/none{path}")

    async def test_preflight(self) -> None:
        """What would fail, stands twice or would be called otherwise; nothing is queued."""
        urls: list[Any] = ["http://a.example/x.wav"] * 2 + ["ftp://a.example/"]
        urls += ["http://127.0.0.1/y.wav", {"url": "http://b.example/1", "name": "../z"}]
        body = {"download": urls, "url": "http://10.1.1.1/callback"}
        status, found, _ = await self.call("POST", "/v1/batches?check=true", body)
        self.assertEqual(found["callback"]["code"], "address_refused")
        self.assertEqual((status, found["total"], found["parts"]), (200, 5, 1))
        refused = {one["code"]: one["examples"] for one in found["refused"]}
        self.assertEqual(refused["bad_url"], ["ftp://a.example/"])
        self.assertEqual(refused["address_refused"], ["http://127.0.0.1/y.wav"])
        self.assertEqual([one["members"] for one in found["duplicates"]], [1])
        renamed = found["renamed"][0]["examples"]
        self.assertEqual(renamed, ["x.wav → x (2).wav", "../z → z"])
        self.assertEqual((await self.get("/v1/batches"))["batches"], [])

        # A port may be closed for one of two schemes on one host.
        def check(host: str, port: int) -> None:
            if port == 80:
                raise MemberError("port_refused", "port 80 is closed")

        order = {"download": ["https://h.example/a", "http://h.example/b", "https://h.example/c"]}
        read = read_order(BytesIO(json.dumps(order).encode()), 9)
        (closed,) = preflight.preflight(read, 9, check)["refused"]
        self.assertEqual(closed["examples"], ["http://h.example/b"])
        self.patch(preflight, "MAX_CHECKED", 2)
        _, found, _ = await self.call("POST", "/v1/batches?check=true", body)
        self.assertEqual((found["total"], found["checked"], found["refused"]), (5, 2, []))

    async def test_probe(self) -> None:
        """Some members tell their sizes, and the rest is estimated."""
        urls = [f"http://{'ab'[n % 2]}.example/{n}" for n in range(10)]
        self.sizes = dict.fromkeys(urls[:8], 2000)
        self.sizes |= {urls[8]: MemberError("http_error", "404"), urls[9]: None}
        path = "/v1/batches?check=true&probe="
        _, found, _ = await self.call("POST", f"{path}1000", {"download": urls})
        decoded(Preflight, found)
        probe = found["probe"]
        failure = {"code": "http_error", "members": 1, "example": f"{urls[8]}: 404"}
        self.assertEqual((probe["asked"], probe["sized"], probe["failures"]), (10, 8, [failure]))
        self.assertEqual((probe["bytes"], probe["download_seconds"]), (18_000, 0.1))
        self.assertIsNone(probe["fetch_seconds"])  # nothing was fetched lately
        _, found, _ = await self.call("POST", f"{path}2", {"download": urls})
        self.assertEqual((found["probe"]["asked"], found["probe"]["bytes"]), (2, 20_000))
        for wrong in ("0", "1001", "x", "-1", "9" * 30):
            await self.refused(400, "invalid_request", "POST", path + wrong, {"download": urls})
        self.patch(probing, "SECONDS", 0.1)
        self.sizes[urls[3]] = Deferred()  # a source that never answers keeps nobody waiting
        _, found, _ = await self.call("POST", f"{path}1000", {"download": urls[:6]})
        self.assertEqual((found["probe"]["asked"], found["probe"]["bytes"]), (5, 12_000))
        self.assertEqual(self.management.probing._running, 0)
        self.patch(probing, "SECONDS", 60.0)
        self.sizes[urls[3]] = Deferred()
        asking = Deferred.fromCoroutine(self.call("POST", f"{path}1000", {"download": [urls[3]]}))
        while not self.management.probing._running:
            await deferLater(reactor, 0.01)
        asking.cancel()  # the client goes away: nobody is asked any more
        while self.management.probing._running:
            await deferLater(reactor, 0.01)
        self.failureResultOf(asking)
        self.management.probing._running = probing.MAX_CHECKS
        await self.refused(503, "unavailable", "POST", f"{path}2", {"download": urls})

    async def test_owners(self) -> None:
        """A token sees and changes its own batches only, also in plans and lists."""
        tokens = parse_tokens(
            "".join(f"{hashlib.sha256(n.encode()).hexdigest()} {n} {s}\n"
                    for n, s in (("one", "submit,read"), ("two", "submit,read"), ("eye", "read")))
        )  # fmt: skip
        self.serve(self.redis, access=Access(tokens))

        async def call(name: str, *asked: Any) -> tuple[int, Any]:
            status, body, _ = await self.call(*asked, Authorization=f"Bearer {name}")
            return status, body

        for name in ("one", "two"):
            await call(name, "POST", "/", BATCH)
        _, plan = await call("one", "POST", "/v1/bulk", {"action": "cancel", "filter": {}})
        self.assertEqual(plan["total"], 1)
        path = f"/v1/bulk/{plan['id']}"
        for method, more in (("GET", ""), ("POST", "/start"), ("POST", "/stop")):
            self.assertEqual((await call("two", method, path + more))[0], 404)
        self.assertEqual((await call("two", "GET", "/v1/bulk"))[1], {"bulk": []})
        other = {"action": "cancel", "filter": {"owner": "two"}}
        self.assertEqual((await call("one", "POST", "/v1/bulk", other))[0], 400)
        self.assertEqual((await call("one", "GET", "/v1/batches?owner=two"))[1]["batches"], [])
        self.assertEqual((await call("eye", "POST", "/v1/bulk", other))[0], 403)
        self.assertEqual((await call("eye", "GET", "/v1/batches/b/members"))[0], 404)
        _, shown = await call("eye", "GET", "/v1/session")
        self.assertEqual((shown["scopes"], shown["everybody"]), (["read"], False))
        decoded(Session, shown)
        self.assertEqual((await call("none", "GET", "/v1/session"))[0], 401)
