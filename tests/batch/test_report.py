"""Batches as their users see them."""

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.support.records import part, record, result
from twisted_bulk.batch.model import PartProgress
from twisted_bulk.batch.report import callback, percent, report


class ReportTests(SynchronousTestCase):
    """A batch as its users see it."""

    def test_queued(self) -> None:
        """Its place in line counts from one."""
        shown = report(record("queued", part("todo"), place=4, started=None), "http://l")
        self.assertEqual((shown["status"], shown["position"], shown["schedule"]), ("queued", 5, 0))
        self.assertEqual((shown["created"], shown["started"]), ("2001-09-09T01:46:40.000Z", None))

    def test_running(self) -> None:
        """Progress of the parts that run, results of those that have ended, no link yet."""
        progress = msgspec.json.encode(PartProgress(done=1, failed=1, bytes=50, rate=5.4))
        both = record(
            "running",
            part("done", result=result(4, 0)),
            part("doing", progress=progress),
            units=6000,
        )
        shown = report(both, "http://l")
        self.assertEqual(
            [
                shown[key]
                for key in ("done", "failed", "bytes", "rate", "schedule", "eta", "download")
            ],
            [5, 1, 149, 5, 75, 3.3, ""],
        )
        self.assertEqual([p["status"] for p in shown["parts"]], ["done", "running"])
        self.assertEqual({p["download"] for p in shown["parts"]}, {""})

    def test_ended(self) -> None:
        """Links and errors, and never more than a hundred of these."""
        shown = report(record("partial", part("done", 400, result=result(100, 300))), "http://l")
        self.assertEqual((shown["download"], shown["schedule"]), ("http://l/b-0/b.zip", 100))
        self.assertEqual(len(shown["errors"]), 100)

    def test_failed(self) -> None:
        """A batch that failed shows no link, even where a part was made."""
        lost = part("dead", why="poison", error="its worker was lost 3 times")
        shown = report(record("failed", part("done", result=result(4, 0)), lost), "http://l")
        self.assertEqual((shown["download"], shown["parts"][0]["download"]), ("", ""))
        self.assertEqual((shown["failed"], shown["errors"][0]["code"]), (4, "poison"))

    def test_percent(self) -> None:
        """100 only when all has ended, whatever has been counted."""
        self.assertEqual(
            [percent(u, 2, "running") for u in (0, 19, 20, 1999, 2000)], [0, 0, 1, 99, 99]
        )
        self.assertEqual(percent(0, 2, "cancelled"), 100)

    def test_callback(self) -> None:
        """The original's three fields first; parts and errors only in the last one."""
        sent = callback(report(record("running", part("doing"), units=1700), "http://l"), 5)
        self.assertEqual(list(sent)[:3], ["task_id", "download", "schedule"])
        self.assertEqual((sent["task_id"], sent["download"], sent["schedule"]), ("b", "", "42"))
        self.assertNotIn("parts", sent)
        last = callback(report(record("done", part("done", result=result(4, 0))), "http://l"), 6)
        self.assertEqual((last["download"], last["schedule"]), ("http://l/b-0/b.zip", "100"))
        self.assertEqual(len(last["parts"]), 1)
