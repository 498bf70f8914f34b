"""Requests read and refused."""

import json
import re
import tracemalloc
from io import BytesIO
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.batch.model import Member, pack_members, unpack_members
from twisted_bulk.errors import InvalidRequest
from twisted_bulk.orders import outline
from twisted_bulk.orders.order import read_order
from twisted_bulk.orders.outline import MAX_ENTRIES
from twisted_bulk.system.urls import MAX_URL_LENGTH, host_of, normal


def body(**fields: Any) -> bytes:
    return json.dumps({"download": ["http://h/a.wav"]} | fields).encode()


class ReadTests(SynchronousTestCase):
    """What is accepted, and what is said of the rest."""

    def test_original(self) -> None:
        """The original service's request."""
        order = read_order(body(task_id="2", url="http://h/notify.php"), 9)
        submission = order.submission
        self.assertEqual((submission.task_id, submission.url), ("2", "http://h/notify.php"))
        self.assertEqual(next(order.members(0, 9)), [Member("http://h/a.wav")])

    def test_everything(self) -> None:
        """Every field there is."""
        member: dict[str, Any] = {
            "url": "https://h:8443/b?c=d",
            "name": "x/b.wav",
            "headers": {"A": "b"},
            "sha256": "AB" * 32,
        }
        order = read_order(
            body(
                task_id=7, download=["http://u:p@[2001:db8::1]:80/", member], policy=0.5,
                priority=-3, compress="store", headers={"Cookie": "c"}, expires=60,
                timeout=5.5, layout="sharded", notify_format="form",
            ), 9,
        )  # fmt: skip
        self.assertEqual((order.submission.task_id, order.submission.policy), (7, 0.5))
        self.assertEqual(next(order.members(1, 2)), [Member(**member)])

    def test_refused(self) -> None:
        """The field is named, and what was expected in it."""
        for wrong, said in (
            (b"{", "not JSON"),
            (b"\xff\xfe", "not JSON"),
            (b"[]", "Expected `object`"),
            (b"{}", "missing required field `download`"),
            (body(download=[]), "$.download"),
            (body(download=["http://h/"] * 10), "more than 9 URLs"),
            (body(download=["http://h/", 7]), "$.download[1]"),
            (body(download=[{"url": "http://h/", "nam": "x"}]), "unknown field `nam`"),
            (body(download=[{"url": "http://h/", "sha256": "x"}]), "$.download[0].sha256"),
            (
                body(download=[{"url": "http://h/", "headers": {"Host": "x"}}]),
                "$.download[0].headers",
            ),
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
            (body(layout="round"), "(expected flat, sharded) - at `$.layout`"),
            (body(download={"a": 1}), "$.download"),
            (body(show_urls="some"), "(expected full, masked, host, none)"),
        ):
            error = self.assertRaises(InvalidRequest, read_order, wrong, 9)
            self.assertIn(said, str(error))

    def test_no_urls(self) -> None:
        """They are taken, so that each fails by itself, or refuse all of a strict batch."""
        for wrong in (
            "", " ", "a.wav", "ftp://h/", "http://", "http://h:99999/", "http://h:0/", "//h/a",
            "http://a b/", "http://[:::::]/a", "http://a\u2100b/x", "http://h/" + "a" * 17_000,
        ):  # fmt: skip
            order = read_order(body(download=["http://h/a", wrong]), 9)
            (members,) = order.members(0, 9)
            self.assertEqual((len(members), normal(members[1].url)), (2, ""), wrong)
            self.assertLessEqual(len(members[1].url), MAX_URL_LENGTH + 1)
            strict = body(download=["http://h/a", wrong], urls="strict")
            error = self.assertRaises(InvalidRequest, read_order, strict, 9)
            self.assertIn("$.download[1]: ", str(error))

    def test_digest(self) -> None:
        """The same request is the same however it was written; another is another."""
        first = read_order(b'{"download": ["http://h/a"], "task_id": "x"}', 9)
        same = read_order(b'{"task_id":"x","download":["http:\\/\\/h/a"],"priority":0}', 9)
        other = read_order(b'{"task_id":"x","download":["http://h/b"]}', 9)
        self.assertEqual(first.digest, same.digest)
        number, text = (read_order(body(task_id=given), 9).digest for given in (5, "5"))
        self.assertEqual(number, text)
        self.assertNotEqual(first.digest, other.digest)

    def test_many(self) -> None:
        """What is wrong is found, and told by its place, however far behind it stands."""
        urls: list[Any] = [f"http://h/{n}" for n in range(3 * MAX_ENTRIES)]
        order = read_order(body(download=urls), 3 * MAX_ENTRIES)
        share = [one for some in order.members(MAX_ENTRIES - 1, MAX_ENTRIES + 1) for one in some]
        self.assertEqual([member.url for member in share], urls[MAX_ENTRIES - 1 : MAX_ENTRIES + 1])
        swapped = [*urls[1::-1], *urls[2:]]
        again = read_order(body(download=swapped), 3 * MAX_ENTRIES)
        self.assertNotEqual(order.digest, again.digest)
        for wrong, said in (
            ("ftp://h/", "$.download[2500]: not an http"),
            (7, "got `int` - at `$.download[2500]`"),
            ({"url": "http://h/", "name": 7}, "got `int` - at `$.download[2500].name`"),
        ):
            urls[2500] = wrong
            strict = body(download=urls, urls="strict")
            error = self.assertRaises(InvalidRequest, read_order, strict, 9999)
            self.assertIn(said, str(error))

    def test_read_no_further(self) -> None:
        """What is refused costs no more than was read until then."""
        for begin, more in (
            (b'{"download":[', b"1,"), (b'{"download":[', b'"",'), (b"{", b'"a":1,'),
            (b'{"download":', b"["), (b'{"download":["', b"a"), (b"", b" "), (b'{"x":"', b"a"),
        ):  # fmt: skip
            file = BytesIO(begin + more * (20_000_000 // len(more)))
            self.assertRaises(InvalidRequest, read_order, file, 1000)
            self.assertLess(file.tell(), 1_500_000, begin + more)

    def test_places(self) -> None:
        """What is no JSON is told by its place in the body."""
        urls = '"http://h/a", ' * 5000
        for text in (
            '{"download":["http://x/"],,}', '{"task_id" : "a b",  "download":["http://x/"] , x}',
            '{"download":["http://x\\q/"]}', f'{{"download":[{urls}"http://x\\q/"]}}',
            '{"download":["http://x/",]}',
        ):  # fmt: skip
            error = str(self.assertRaises(InvalidRequest, read_order, text.encode(), 9999))
            (place,) = re.findall(r"\(byte (\d+)\)", error)
            try:
                json.loads(text)
            except json.JSONDecodeError as known:
                self.assertLessEqual(abs(int(place) - known.pos), 4, error)
        for text, said in (
            ('{"download":[{"url":"http://h/","headers":{"A":["b"]}}]}', "[0].headers[...]"),
            ('{"download":["http://x/" "http://y/"]}', "no comma"),
            ('{"download":["http://x/"', "download[0]"),
            ('{"download":["http://x/', "does not end"),
            ('{"download":["http://x/",', "ends within"), ("", "is empty"), (" \n", "is empty"),
        ):  # fmt: skip
            error = str(self.assertRaises(InvalidRequest, read_order, text.encode(), 9999))
            self.assertIn(said, error)

    def test_memory(self) -> None:
        """Neither the body nor its members are kept; nor are they when they are packed."""
        urls = [f"http://h.example/{n:0100}" for n in range(50_000)]
        file = BytesIO(body(download=urls, task_id="a"))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        order = read_order(file, 50_000)
        packed = pack_members(order.members(0, 50_000), 50_000)
        peak = tracemalloc.get_traced_memory()[1]
        self.assertLess(peak, 3_000_000)
        self.assertEqual([member.url for member in unpack_members(packed)], urls)

    @given(st.integers(1, 40), st.data())
    def test_wherever_it_is_cut(self, piece: int, data: st.DataObject) -> None:
        """Where a piece ends makes no difference."""
        text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=9)
        names = data.draw(st.lists(text, min_size=1, max_size=20))
        members = [{"url": "http://h/a", "name": name} if name else "http://h/" for name in names]
        asked = {"task_id": "a", "headers": {"A": '\\"]'}, "download": members, "priority": 1}
        sent = json.dumps(asked, ensure_ascii=data.draw(st.booleans()), indent=1).encode()
        self.patch(outline, "PIECE_BYTES", piece)
        order = read_order(sent, 99)
        found = [member.name for some in order.members(0, 99) for member in some]
        self.assertEqual((order.submission.priority, found), (1, names))

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
            order = read_order(body(policy=policy, download=["http://h/"] * total), 100)
            self.assertEqual(order.need, expected)

    def test_hosts(self) -> None:
        """What per-host limits count by."""
        for url, host in (
            ("http://H.example/x", "h.example"),
            ("https://u:p@h:444/x", "h:444"),
            ("http://[::1]:80", "[::1]"),
            ("http://[0:0::1]:81/", "[::1]:81"),
            ("https://h.:443/", "h"),
            ("http://h:0443/", "h:443"),
            ("http://127.1/", "127.0.0.1"),
            ("http://0x7f.1:80/", "127.0.0.1"),
            ("http://2130706433/", "127.0.0.1"),
            ("http://a.example1/", "a.example1"),
        ):
            self.assertEqual(host_of(url), host)

    def test_packed(self) -> None:
        """Members survive the queue."""
        members = [Member("http://h/你"), Member("http://h/", "n", {"a": "b"}, "0" * 64)]
        self.assertEqual(unpack_members(pack_members([members[:1], [], members[1:]], 2)), members)
