"""GET /openapi.json: complete, and true."""

import json
import re
from typing import Any

from tests.support.api import BATCH, ApiTestCase, decoded
from twisted_bulk.api.answers import Accepted, Batch, Known, Page
from twisted_bulk.api.bulk_calls import BulkCalls
from twisted_bulk.api.openapi import CALLS, document
from twisted_bulk.api.operator_calls import OperatorCalls
from twisted_bulk.jobs.model import Ack
from twisted_bulk.web import Api


class DocumentTests(ApiTestCase):
    """What it says."""

    async def test_every_call(self) -> None:
        """All that is routed, and nothing else."""
        routed = set()
        for app in (Api.app, OperatorCalls.app, BulkCalls.app):
            for rule in app.url_map.iter_rules():
                path = re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule.rule)
                methods = set(rule.methods or ()) - {"HEAD", "OPTIONS"}
                routed |= {(method.lower(), path) for method in methods}
        self.assertEqual({(call.method, call.path) for call in CALLS}, routed)
        status, shown, _ = await self.call("GET", "/openapi.json")
        self.assertEqual((status, shown), (200, json.loads(json.dumps(document()))))
        references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(shown)))
        self.assertTrue(references <= set(shown["components"]["schemas"]))

    async def check(self, kind: Any, method: str, path: str, body: Any = None) -> None:
        """The answer is of this type, to the last key."""
        status, answer, _ = await self.call(method, path, body)
        self.assertLess(status, 300)
        decoded(kind, answer)

    async def test_answers(self) -> None:
        """Real ones are of the types that it names."""
        body = BATCH | {"url": "http://h.example/n"}
        await self.check(Accepted, "POST", "/", body)
        await self.check(Known, "POST", "/v1/batches", body)
        await self.check(Batch, "PATCH", "/v1/batches/b", {"priority": 3})
        await self.check(Page, "GET", "/v1/batches")
        (part,) = (await self.queue.reserve("w", 1)).jobs
        await self.check(Batch, "GET", "/v1/batches/b")
        result = {
            "folder": "b-1", "done": 1, "failed": 1, "bytes": 9,
            "errors": [{"url": "http://h.example/b.wav", "code": "http_error", "detail": "no"}],
            "zips": [{"link": "b-1/b.zip", "members": 1, "size": 9, "sha256": "0" * 64}],
        }  # fmt: skip
        await self.queue.ack("w", [Ack(part, 1, json.dumps(result).encode())])
        await self.check(Batch, "GET", "/v1/batches/b")
        await self.check(Page, "GET", "/v1/batches?status=partial")
        (call,) = (await self.queue.after.reserve("w", 1)).jobs
        await self.queue.after.nack("w", call, 0, "gone", fatal=True)
        await self.check(Page, "GET", "/v1/batches?callback=undelivered")
        await self.check(Batch, "POST", "/v1/batches/b/notify")
        await self.check(Batch, "POST", "/v1/batches/b/retry")
        await self.check(Batch, "DELETE", "/v1/batches/b")
