"""An API on a free port of loopback."""

import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.web.client import Agent

from tests.support.reactor import reactor
from tests.support.redis_servers import RedisTestCase
from twisted_bulk.api.tokens import Access
from twisted_bulk.batch.model import Member
from twisted_bulk.brokers.redis import Redis
from twisted_bulk.dialing.guard import Guard
from twisted_bulk.errors import MemberError
from twisted_bulk.http_server.site import BoundedSite
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.jobs.scripted import ScriptedQueue
from twisted_bulk.management.services import manage
from twisted_bulk.notify.signer import load_signer
from twisted_bulk.storage.folders import DataFolders
from twisted_bulk.web import Api

MAX_BODY = 20_000_000


def decoded(kind: Any, answer: Any) -> Any:
    """An answer as a client has it; every field of it must be one of its type's."""
    found = msgspec.convert(answer, kind)
    _check_fields(found, answer)
    return found


def _check_fields(found: Any, answer: Any) -> None:
    if isinstance(found, msgspec.Struct):
        unknown = set(answer) - set(found.__struct_fields__)
        assert not unknown, f"{type(found).__name__} has no {unknown}"
        for name in answer:
            _check_fields(getattr(found, name), answer[name])
    if isinstance(found, list):
        for one, sent in zip(found, answer, strict=True):
            _check_fields(one, sent)


BATCH = {"task_id": "b", "download": ["http://h.example/a.wav", "http://h.example/b.wav"]}


class ApiTestCase(RedisTestCase):
    """An API on a free port of loopback."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.serve(self.redis)

    def serve(self, redis: Redis, request_rate: int = 0, access: Access | None = None) -> None:
        self.deleted: list[str] = []
        self.sizes: dict[str, Any] = {}  # by URL, as sources tell them: also errors and Deferreds
        self.queue = GroupQueue(redis, "parts", 200_000, ScriptedQueue(redis, "calls"))
        self.folders = DataFolders(Path(tempfile.mkdtemp(prefix="bw")))
        self.management = manage(
            self.queue, self.folders, reactor, link_base=lambda: "http://l", part_files=10_000,
            compress="auto", callback_tries=8, keep=60, check_host=Guard().check_unresolved,
            ask_size=self.ask_size, rate=lambda: 200_000, deleted=self.deleted.append,
        )  # fmt: skip
        self.events = self.management.events
        for service in (self.events.feed, self.management.bulk):
            service.startService()
            self.addCleanup(service.stopService)
        self.api = Api(
            self.management,
            access or Access(),
            150_000,
            MAX_BODY,
            load_signer("", Path(tempfile.mkdtemp(prefix="bw"))).secrets,
            lambda: {"name": self.folders.node},
            request_rate=request_rate,
        )
        factory = BoundedSite(self.api.resource, reactor, MAX_BODY, unwelcome=self.api.unwelcome)
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        self.client = HTTPClient(Agent(reactor))

    async def ask_size(self, member: Member, headers: dict[str, str]) -> int | None:
        """The size of a member: its number in its name, or what ``sizes`` has."""
        found = self.sizes.get(member.url, 1000)
        if isinstance(found, MemberError):
            raise found
        if isinstance(found, Deferred):
            await found
            return None
        size: int | None = found
        return size

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
