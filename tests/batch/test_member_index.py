"""The index of a part's members, their selection, and failures counted."""

import random

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.batch.failure_counts import FailureCounts
from twisted_bulk.batch.manifest_file import encode
from twisted_bulk.batch.member_index import MemberIndex, lines_of
from twisted_bulk.batch.model import Outcome
from twisted_bulk.batch.selection import Selection


def outcomes(count: int, first: int = 0) -> list[Outcome]:
    """Of all kinds."""
    chance, found = random.Random(5), []
    for number in range(first + 1, first + count + 1):
        status = chance.choice(("done", "done", "unverified", "failed"))
        code = chance.choice(("http_error", "idle_timeout")) if status == "failed" else ""
        host = chance.choice(("a.example", "b.example:8080"))
        url = f"http://{host}/{number}.wav"
        found.append(Outcome(url, f"{number}.wav", status, code, "", 1, "", 1, 1, member=number))
    return found


SELECTIONS = (
    Selection(),
    Selection(status="failed"),
    Selection(status="failed", code="http_error"),
    Selection(code="idle_timeout", host="b.example:8080"),
    Selection(host="a.example"),
    Selection(status="failed", members=frozenset((102, 103, 150))),
    Selection(code="none"),
)


class MemberIndexTests(SynchronousTestCase):
    """Of a file with a hundred members behind a hundred others."""

    def setUp(self) -> None:
        self.all = outcomes(100, first=100)
        self.text = encode(self.all)
        self.index = MemberIndex.of(lines_of(self.text), 100)

    def test_select(self) -> None:
        """As a look at each member; so after the file's bytes were read again."""
        for index in (self.index, MemberIndex.decode(self.index.encode())):
            for wanted in SELECTIONS:
                expected = [one.member for one in self.all if wanted.matches(one)]
                found = [index.numbers[at] for at in index.select(wanted)]
                self.assertEqual(found, expected, wanted)
                self.assertEqual(index.count(wanted), len(expected), wanted)

    def test_lines(self) -> None:
        """Each offset leads to its member."""
        for position, offset in enumerate(self.index.offsets):
            line = self.text[offset : self.text.index(b"\n", offset)].removesuffix(b",")
            self.assertEqual(msgspec.json.decode(line, type=Outcome), self.all[position])

    def test_of_a_part_that_runs(self) -> None:
        """Lines in any order, and one that is only half written."""
        shuffled = random.Random(1).sample(self.all, 100)
        text = b"".join(msgspec.json.encode(one) + b"\n" for one in shuffled) + b'{"url"'
        index = MemberIndex.of(lines_of(text), 100)
        self.assertEqual(list(index.numbers), [one.member for one in self.all])

    def test_of_an_older_version(self) -> None:
        """Without numbers, the place in the file tells them; members without a result are none."""
        lines: list[Outcome | None] = [
            msgspec.structs.replace(one, member=0) for one in self.all[:3]
        ]
        index = MemberIndex.of(lines_of(encode([lines[0], None, *lines[1:]])), 7)
        self.assertEqual(list(index.numbers), [8, 10, 11])

    def test_not_one(self) -> None:
        """Other bytes, and those of another version, are refused."""
        for data in (b"", b"{}", msgspec.msgpack.encode([2, b"", b"", []])):
            self.assertRaises(ValueError, MemberIndex.decode, data)


class SelectionTests(SynchronousTestCase):
    """Texts."""

    def test_text(self) -> None:
        """In the URL, the name, the code and the detail; ASCII letters in any case."""
        one = Outcome('http://h/A"b', "Käse.wav", "failed", "http_error", "HTTP 404", 0, "", 1, 1)
        for text in ("h/a", 'A"B', "ÄSE".replace("Ä", "ä"), "HTTP_E", "404"):
            wanted = Selection(text=text)
            self.assertTrue(wanted.matches(one), text)
            self.assertIn(wanted.needle, msgspec.json.encode(one).lower())
        for text in ("ÄSE", "failed", "member"):
            self.assertFalse(Selection(text=text).matches(one), text)


class FailureCountsTests(SynchronousTestCase):
    """Groups by error and host."""

    def test_largest(self) -> None:
        """The others are one group for each error, and nothing gets lost."""
        counts = FailureCounts(("a", f"h{n}", n) for n in range(1, 9))
        counts.add("b", "h1")
        counts.add("a", "h8")
        groups = counts.largest(2)
        self.assertEqual(groups, [("a", "", 21), ("a", "h8", 9), ("a", "h7", 7), ("b", "", 1)])
        self.assertEqual(counts.largest(100)[0], ("a", "h8", 9))
        self.assertEqual((counts.codes, len(counts.largest(9))), (["a", "b"], 9))
