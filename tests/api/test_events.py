"""The events of a batch, over HTTP."""

import hashlib
import json
import socket
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from tests.support.api import BATCH, ApiTestCase
from tests.support.reactor import reactor
from twisted_bulk.api.tokens import Access, parse_tokens
from twisted_bulk.errors import QueueUnavailable
from twisted_bulk.jobs.model import Ack
from twisted_bulk.management import events


class Reader:
    """Reads one stream of events."""

    def __init__(self, response: Any) -> None:
        self.response, self.text = response, ""
        self.ended: Deferred[None] = response.collect(self._take)

    def _take(self, data: bytes) -> None:
        self.text += data.decode()

    @property
    def events(self) -> list[tuple[int, str, Any]]:
        """Number, name and object of each whole event."""
        found = []
        for block in self.text.split("\n\n")[:-1]:
            lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if "data" in lines:
                found.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
        return found

    async def until(self, count: int) -> list[tuple[int, str, Any]]:
        """Its events once there are so many."""
        while len(self.events) < count:
            await deferLater(reactor, 0.02)
        return self.events


class EventsTests(ApiTestCase):
    """A batch of two members, whose worker is the test."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.call("POST", "/v1/batches", BATCH)

    async def read(self, headers: Any = None, of: str = "/v1/batches/b/events") -> Reader:
        url = f"http://127.0.0.1:{self.port}{of}"
        return Reader(await self.client.get(url, headers=headers))

    async def finish(self) -> None:
        (job,) = (await self.queue.reserve("w", 1)).jobs
        await self.queue.ack("w", [Ack(job, 0, b"")])

    async def test_filter(self) -> None:
        """Those that match are told; one that matches no more has left; others are not told of."""
        queued = await self.read(of="/v1/events?status=queued&id=b")
        other = await self.read(of="/v1/events?id=c")
        for reader in (queued, other):
            self.assertEqual((await reader.until(1))[0][1], "full")
        await self.queue.prioritise_group("b", 3)
        self.assertEqual((await queued.until(2))[1][2]["task_id"], "b")
        await self.queue.reserve("w", 1)
        self.assertEqual((await queued.until(3))[2][1:], ("left", {"task_id": "b"}))
        await self.call("POST", "/v1/batches", BATCH | {"task_id": "c"})
        self.assertEqual((await other.until(2))[1][2]["task_id"], "c")
        self.assertEqual(len(queued.events), 3)
        await self.refused(400, "invalid_request", "GET", "/v1/events?status=odd")
        self.events.feed.end()

    async def test_from_begin_to_end(self) -> None:
        """The batch as it stands, each change, and an end; all listeners hear it."""
        readers = [await self.read() for _ in range(3)]
        for reader in readers:
            ((_, name, shown),) = await reader.until(1)
            self.assertEqual((name, shown["status"]), ("batch", "queued"))
        self.assertEqual(
            (await self.call("GET", "/v1/batches/b"))[1] | {"eta": None}, shown | {"eta": None}
        )
        (job,) = (await self.queue.reserve("w", 1)).jobs
        for reader in readers:
            self.assertEqual((await reader.until(2))[-1][2]["status"], "running")
        await self.queue.beat("w", [(job, 1000, b"")])
        await self.queue.ack("w", [Ack(job, 0, b"")])
        await DeferredList([reader.ended for reader in readers])
        for reader in readers:
            _, name, shown = reader.events[-1]
            self.assertEqual((name, shown["status"]), ("batch", "failed"))
            numbers = [number for number, _, _ in reader.events]
            self.assertEqual(numbers, sorted(set(numbers)))

    async def test_last_event_id(self) -> None:
        """What was seen is not told again; for a batch that has ended there is 204."""
        reader = await self.read()
        ((number, _, _),) = await reader.until(1)
        again = await self.read({"Last-Event-ID": str(number)})
        odd = await self.read({"Last-Event-ID": "later"})
        lost = await self.read({"Last-Event-ID": str(number + 1000)})
        self.assertEqual([len(await one.until(1)) for one in (odd, lost)], [1, 1])
        await self.finish()
        await DeferredList([one.ended for one in (reader, again, odd, lost)])
        self.assertNotIn(number, [seen for seen, _, _ in again.events])
        last = again.events[-1][0]
        over = await self.read({"Last-Event-ID": str(last)})
        self.assertEqual(over.response.code, 204)
        late = await self.read({"Last-Event-ID": str(number)})
        await late.ended
        self.assertEqual([seen for seen, _, _ in late.events], [last])

    async def test_deleted(self) -> None:
        """A batch that is deleted while its stream begins is told as deleted."""
        reader = await self.read()
        await reader.until(1)
        await self.queue.cancel_group("b")
        await self.queue.forget("b")
        await reader.ended
        self.assertEqual(reader.events[-1][1:], ("deleted", {"task_id": "b"}))
        await self.refused(404, "no_such_batch", "GET", "/v1/batches/b/events")

    async def test_stop(self) -> None:
        """A node that stops ends its streams, and begins none."""
        reader = await self.read()
        await reader.until(1)
        self.api.stop()
        self.events.feed.end()
        await reader.ended
        await self.refused(503, "stopping", "GET", "/v1/batches/b/events")

    async def test_gone(self) -> None:
        """A client that goes is told nothing, and costs nothing."""
        listening = vars(self.events.feed)["_listeners"]
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"GET /v1/batches/b/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while not listening:
                await deferLater(reactor, 0.02)
        while listening:
            await deferLater(reactor, 0.02)

    async def test_queue_away(self) -> None:
        """A stream that cannot begin is refused, and listens no more."""

        async def away(*arguments: Any) -> None:
            raise QueueUnavailable("away")

        self.patch(self.queue, "changes", away)
        for path in ("/v1/batches/b/events", "/v1/events"):
            await self.refused(503, "queue_unavailable", "GET", path)
        self.assertEqual(vars(self.events.feed)["_listeners"], {})

    async def test_all(self) -> None:
        """First it says to read the list; then it tells each batch that changes."""
        reader = await self.read(of="/v1/events")
        ((number, name, _),) = await reader.until(1)
        self.assertEqual(name, "full")
        await self.call("POST", "/v1/batches", BATCH | {"task_id": "c"})
        _, listed, _ = await self.call("GET", "/v1/batches?limit=1")
        told = (await reader.until(2))[1]
        self.assertEqual((told[1], told[2]["task_id"]), ("batch", "c"))
        self.assertEqual(told[2].keys(), listed["batches"][0].keys())
        await self.queue.cancel_group("b")
        await self.queue.forget("b")
        self.assertEqual((await reader.until(3))[2][1:], ("deleted", {"task_id": "b"}))
        # One that comes again is told what it missed.
        again = await self.read({"Last-Event-ID": str(number)}, of="/v1/events")
        names = [(name, shown["task_id"]) for _, name, shown in await again.until(2)]
        self.assertEqual(names, [("batch", "c"), ("deleted", "b")])
        for unknown in (number + 1000, 0):
            self.patch(events, "MAX_MISSED", 1)
            other = await self.read({"Last-Event-ID": str(unknown)}, of="/v1/events")
            self.assertEqual([name for _, name, _ in await other.until(1)], ["full"])
        self.events.feed.end()
        await DeferredList([reader.ended, again.ended])

    async def test_owners(self) -> None:
        """A token is told its own batches only."""
        secrets = {"a": "one", "b": "two"}
        lines = [
            f"{hashlib.sha256(secret.encode()).hexdigest()} {name} submit,read"
            for name, secret in secrets.items()
        ]
        self.serve(self.redis, access=Access(parse_tokens("\n".join(lines))))
        given = [{"Authorization": f"Bearer {secret}"} for secret in secrets.values()]
        readers = [await self.read(each, of="/v1/events") for each in given]
        for task, headers in zip("xy", given, strict=True):
            await self.call("POST", "/v1/batches", BATCH | {"task_id": task}, **headers)
        for reader, task in zip(readers, "xy", strict=True):
            _, (_, name, shown) = await reader.until(2)
            self.assertEqual((name, shown["task_id"]), ("batch", task))
        for key in ("a:x", "b:y"):
            await self.queue.cancel_group(key)
            await self.queue.forget(key)
        for reader, task in zip(readers, "xy", strict=True):
            *_, (_, name, shown) = await reader.until(3)
            self.assertEqual((name, shown), ("deleted", {"task_id": task}))
        self.events.feed.end()
        await DeferredList([reader.ended for reader in readers])
