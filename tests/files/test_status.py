"""The file port as its operator sees it, and the access log."""

import json
import os
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from tests.support.file_port import BODY, FilesTestCase
from tests.support.reactor import reactor
from twisted_bulk.files.status import FilePort
from twisted_bulk.http_server.access_log import AREA, AccessLog
from twisted_bulk.orders.submission import Rates


class FilePortTests(FilesTestCase):
    """What is shown, counted and changed while it serves."""

    rate = 100_000

    def setUp(self) -> None:
        super().setUp()
        self.view = FilePort(self.site, self.files.transfers)

    async def test_shown_and_changed(self) -> None:
        """A download is seen; with another rate it ends at once."""
        going = Deferred.fromCoroutine(self.get())
        while not self.timer.throttle.sent:
            await deferLater(reactor, 0.01)
        shown = self.view.shown()
        self.assertEqual((shown["rate"], shown["total_rate"]), (100_000, 0))
        self.assertEqual((shown["connections"], shown["transfers"]), (1, 1))
        ((address, count),) = ((a["address"], a["connections"]) for a in shown["addresses"])
        self.assertEqual((address, count), ("127.0.0.1", 1))
        self.view.change(rate=0)
        answer, body = await going
        self.assertEqual((answer.code, body), (200, BODY))
        self.assertEqual(self.view.shown()["rate"], 0)
        for wrong in ("-1", "1e400", "9" * 400, '"5"', "true"):
            with self.assertRaises(msgspec.MsgspecError):
                msgspec.json.decode(f'{{"rate": {wrong}}}', type=Rates)
        self.view.change(total_rate=5)
        self.assertEqual([self.view.shown()[name] for name in ("rate", "total_rate")], [0, 5])
        self.view.change(total_rate=0)

    async def test_metrics(self) -> None:
        """Bytes, connections, answers by status."""
        self.view.change(rate=0)
        await self.get()
        await self.get("nothing")
        registry = CollectorRegistry()
        registry.register(self.view)
        text = generate_latest(registry).decode()
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines())
        self.assertEqual(lines['bulkwav_files_answers_total{status="200"}'], "1.0")
        self.assertEqual(lines['bulkwav_files_answers_total{status="404"}'], "1.0")
        self.assertEqual(lines["bulkwav_files_transfers"], "0.0")
        sent = float(lines["bulkwav_files_bytes_total"])
        self.assertTrue(len(BODY) + 500 < sent < len(BODY) + 2000, sent)


class AccessLogTests(SynchronousTestCase):
    """Lines of JSON."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.access = AccessLog(str(self.path))
        self.access.startService()
        self.addCleanup(self.access.stopService)
        self.log = Logger(namespace=AREA)

    def lines(self, path: Path | None = None) -> list[dict[str, Any]]:
        text = (path or self.path).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.split("\n") if line]

    def test_fields(self) -> None:
        """What is known, and nothing else; whatever bytes a client sent."""
        path = '/\n\x1b[31m"{}\u2028\x00\xff'
        self.log.info("{client}", client="::1", status=200, path=path, whole=False, agent="")
        self.log.info("not an answer")
        Logger(namespace="other").info("x", status=200)
        (line,) = self.lines()
        self.assertRegex(line.pop("time"), r"^20\d\d-.*T.*Z$")
        self.assertEqual(line, {"client": "::1", "status": 200, "path": path, "whole": False})
        self.assertEqual(self.path.read_bytes().count(b"\n"), 1)

    def test_control_characters(self) -> None:
        """None of them reaches the file as it is, not even those beyond ASCII."""
        path = Path(self.mktemp())
        log = AccessLog(str(path))
        log(
            {
                "log_namespace": "access",
                "log_time": 0.0,
                "status": 404,
                "path": "/\x9b2J\x85\u2028\x7f",
            }
        )
        self.assertNotRegex(path.read_text(), "[\x7f-\x9f\u2028]")
        self.assertEqual(json.loads(path.read_text())["path"], "/\x9b2J\x85\u2028\x7f")

    def test_moved_away(self) -> None:
        """What follows goes to a new file of the old name."""
        self.log.info("x", status=1)
        moved = Path(f"{self.path}.1")
        os.rename(self.path, moved)
        self.patch(self.access.file, "looked", 0.0)
        self.log.info("x", status=2)
        self.assertEqual([[one["status"] for one in self.lines(p)] for p in (moved, self.path)],
                         [[1], [2]])  # fmt: skip
