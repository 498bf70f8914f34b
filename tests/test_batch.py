"""Requests read, batches reported."""

import json
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.batch import (
    Member,
    PartProgress,
    PartResult,
    callback,
    digest,
    host_of,
    need,
    pack_members,
    percent,
    read_submission,
    report,
    unpack_members,
)
from twisted_bulk.errors import InvalidRequest
from twisted_bulk.jobs import GroupRecord, PartRecord


def body(**fields: Any) -> bytes:
    return json.dumps({"download": ["http://h/a.wav"]} | fields).encode()


class ReadTests(SynchronousTestCase):
    """What is accepted, and what is said of the rest."""

    def test_original(self) -> None:
        """The original service's request."""
        submission, members = read_submission(body(task_id="2", url="http://h/notify.php"), 9)
        self.assertEqual((submission.task_id, submission.url), ("2", "http://h/notify.php"))
        self.assertEqual(members, [Member("http://h/a.wav")])

    def test_everything(self) -> None:
        """Every field there is."""
        member: dict[str, Any] = {
            "url": "https://h:8443/b?c=d",
            "name": "x/b.wav",
            "headers": {"A": "b"},
            "sha256": "AB" * 32,
        }
        submission, members = read_submission(
            body(
                task_id=7, download=["http://u:p@[2001:db8::1]:80/", member], policy=0.5,
                priority=-3, compress="store", headers={"Cookie": "c"}, expires=60,
                timeout=5.5, layout="sharded", notify_format="form",
            ), 9,
        )  # fmt: skip
        self.assertEqual((submission.task_id, submission.policy), (7, 0.5))
        self.assertEqual(members[1], Member(**member))

    def test_refused(self) -> None:
        """The field is named, and what was expected in it."""
        for wrong, said in (
            (b"{", "not JSON"),
            (b"\xff\xfe", "not JSON"),
            (b"[]", "Expected `object`"),
            (b"{}", "missing required field `download`"),
            (body(download=[]), "$.download"),
            (body(download=["http://h/"] * 10), "10 URLs, at most 9"),
            (body(download=["http://h/", 7]), "$.download[1]"),
            (body(download=["ftp://h/"]), "$.download[0]"),
            (body(download=["http:///x"]), "$.download[0]"),
            (body(download=["http://h:99999/"]), "$.download[0]"),
            (body(download=["http://h/a b"]), "$.download[0]"),
            (body(download=["http://h/\r\nX: y"]), "$.download[0]"),
            (body(download=["http://h/" + "a" * 9000]), "$.download[0]"),
            (body(download=[{"url": "http://h/", "nam": "x"}]), "unknown field `nam`"),
            (body(download=[{"url": "http://h/", "sha256": "x"}]), "$.download[0].sha256"),
            (
                body(download=[{"url": "http://h/", "headers": {"Host": "x"}}]),
                "$.download[0].headers",
            ),
            (body(download=["http://[:::::]/a"]), "$.download[0]"),
            (body(download=["http://a\u2100b/x"]), "$.download[0]"),
            (body(download=[{"url": "http://h/", "name": "n" * 1001}]), "$.download[0].name"),
            (body(dowload=[]), "unknown field `dowload`"),
            (body(task_id="a/b"), "$.task_id"),
            (body(task_id=""), "$.task_id"),
            (body(task_id="a" * 129), "$.task_id"),
            (body(task_id=1.5), "$.task_id"),
            (body(url="javascript:alert(1)"), "$.url"),
            (body(policy="some"), "$.policy"),
            (body(policy=0), "$.policy"),
            (body(policy=1.1), "$.policy"),
            (body(priority="high"), "$.priority"),
            (body(headers={"A\n": "b"}), "$.headers"),
            (body(headers={"A": "b\r\nC: d"}), "$.headers"),
            (body(headers={"Range": "bytes=0-1"}), "$.headers"),
            (body(headers={"A": "b" * 20_000}), "$.headers"),
            (body(layout="round"), "$.layout"),
        ):
            error = self.assertRaises(InvalidRequest, read_submission, wrong, 9)
            self.assertIn(said, str(error))

    def test_digest(self) -> None:
        """The same request is the same however it was written; another is another."""
        first, _ = read_submission(b'{"download": ["http://h/a"], "task_id": "x"}', 9)
        same, _ = read_submission(b'{"task_id":"x","download":["http:\\/\\/h/a"],"priority":0}', 9)
        other, _ = read_submission(b'{"task_id":"x","download":["http://h/b"]}', 9)
        self.assertEqual(digest(first), digest(same))
        self.assertNotEqual(digest(first), digest(other))

    def test_need(self) -> None:
        """Policies as numbers of members."""
        for policy, total, expected in (
            ("partial", 10, 1),
            ("strict", 10, 10),
            (0.95, 100, 95),
            (0.95, 3, 3),
            (0.5, 3, 2),
            (0.01, 3, 1),
            (1, 3, 3),
            (0.1, 10, 1),
        ):
            submission, _ = read_submission(body(policy=policy), 9)
            self.assertEqual(need(submission, total), expected)

    def test_hosts(self) -> None:
        """What per-host limits count by."""
        for url, host in (
            ("http://H.example/x", "h.example"),
            ("https://u:p@h:444/x", "h:444"),
            ("http://[::1]:80", "[::1]:80"),
        ):
            self.assertEqual(host_of(url), host)

    def test_packed(self) -> None:
        """Members survive the queue."""
        members = [Member("http://h/你"), Member("http://h/", "n", {"a": "b"}, "0" * 64)]
        self.assertEqual(unpack_members(pack_members(members)), members)


def record(state: str, *parts: PartRecord, units: int = 0, **fields: Any) -> GroupRecord:
    given: dict[str, Any] = {
        "id": "b", "digest": "", "nonce": "n", "spec": b"{}", "seq": 3, "created": 1e9,
        "started": 1e9 + 1, "ended": None, "now": 1e9 + 11, "place": None,
    }  # fmt: skip
    total = sum(part.size for part in parts)
    return GroupRecord(state=state, parts=parts, total=total, units=units, **given | fields)


def part(state: str, size: int = 4, **fields: Any) -> PartRecord:
    empty: dict[str, Any] = {"ok": 0, "progress": b"", "result": b"", "why": "", "error": ""}
    return PartRecord(state=state, size=size, **empty | fields)


def result(done: int, failed: int) -> bytes:
    errors: list[dict[str, Any]] = [
        {"url": "http://h/", "code": "dns_failed", "detail": "", "attempts": 1}
    ] * failed
    value = PartResult(
        link="b-0/b.zip", size=9, sha256="s", done=done, failed=failed, bytes=99, errors=errors
    )
    return msgspec.json.encode(value)


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
