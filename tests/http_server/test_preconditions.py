"""Ranges and preconditions, by the RFC's letter."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.http_server.preconditions import (
    Answer,
    Conditions,
    Representation,
    byte_ranges,
    evaluate,
)

WHAT = Representation(1000, '"abc"', 784111777)
WHOLE = Answer(200, ((0, 1000),))
PART = Answer(206, ((0, 10),))


class RangeTests(SynchronousTestCase):
    """The Range header's value."""

    def test_table(self) -> None:
        """Ranges are served, what is not valid ignored, what lies outside left out."""
        for text, expected in (
            ("bytes=0-9", [(0, 10)]),
            ("bytes=0-0", [(0, 1)]),
            ("Bytes=990-", [(990, 1000)]),
            ("bytes=990-5000", [(990, 1000)]),
            ("bytes=-10", [(990, 1000)]),
            ("bytes=-5000", [(0, 1000)]),
            ("bytes = 0-9 ", [(0, 10)]),
            ("bytes=1000-", []),
            ("bytes=1000-2000", []),
            ("bytes=-0", []),
            ("bytes=2000-3000,4000-", []),
            ("bytes=9-0", None),
            ("bytes=0-9,9-0", None),
            ("bytes=", None),
            ("bytes=-", None),
            ("bytes=a-b", None),
            ("bytes=1_0-2_0", None),
            ("bytes=+0-+8", None),
            ("bytes=0x0-0x9", None),
            ("bytes 0-9", None),
            ("items=0-9", None),
            ("bytes=0-9;5-6", None),
            ("bytes=0-9,bytes=20-29", None),
            ("bytes=" + "0-," * 40, None),
            ("bytes=0-" + "9" * 5000, None),
            ("", None),
            ("\u0660-\u0669", None),
            ("bytes=0-1,5-6", [(0, 2), (5, 7)]),
            ("bytes=5-6,0-1", [(5, 7), (0, 2)]),
            ("bytes=0-1, ,5-6,", [(0, 2), (5, 7)]),
            ("bytes=0-9,5-19", [(0, 20)]),
            ("bytes=0-9,10-19", [(0, 20)]),
            ("bytes=0-9,11-19", [(0, 10), (11, 20)]),
            ("bytes=50-59,0-9,20-29,5-55", [(0, 60)]),
            ("bytes=0-0,-1", [(0, 1), (999, 1000)]),
            ("bytes=0-0,2000-", [(0, 1)]),
            ("bytes=" + ",".join(f"{n * 9}-{n * 9}" for n in range(16)),
             [(n * 9, n * 9 + 1) for n in range(16)]),
            ("bytes=" + ",".join(f"{n * 9}-{n * 9}" for n in range(17)), None),
        ):  # fmt: skip
            wanted = None if expected is None else tuple(expected)
            self.assertEqual(byte_ranges(text, 1000), wanted, text[:40])

    def test_other_sizes(self) -> None:
        """What Go's and nginx's documentation and tests say of further sizes."""
        for text, size, expected in (
            ("bytes=0-", 0, []),
            ("bytes=-5", 0, []),
            ("bytes=0-0", 0, []),
            ("bytes=7", 10, None),
            ("bytes= 7 ", 10, None),
            ("bytes=1-", 0, []),
            ("bytes=5-4", 10, None),
            ("bytes=--5,4--3", 10, None),
            ("bytes=A-", 10, None),
            ("bytes= -Z", 10, None),
            ("bytes=5-Z", 10, None),
            ("bytes=Ran-dom, garbage", 10, None),
            ("bytes=         ", 10, None),
            ("bytes= , , ,   ", 10, None),
            ("bytes=0-9", 10, [(0, 10)]),
            ("bytes=0-20", 10, [(0, 10)]),
            ("bytes=5-", 10, [(5, 10)]),
            ("bytes=15-,0-5", 10, [(0, 6)]),
            ("bytes=1-2,5-", 10, [(1, 3), (5, 10)]),
            ("bytes=-2 , 7-", 11, [(7, 11)]),
            ("bytes=0-0 ,2-2, 7-", 11, [(0, 1), (2, 3), (7, 11)]),
            ("bytes=-15", 10, [(0, 10)]),
            ("bytes=0-499", 10_000, [(0, 500)]),
            ("bytes=500-600,601-999", 10_000, [(500, 1000)]),
            ("bytes=500-700,601-999", 10_000, [(500, 1000)]),
            ("bytes=9500-", 10_000, [(9500, 10_000)]),
            ("bytes=0-18446744073709551615", 10, [(0, 10)]),
            ("bytes=18446744073709551615-", 10, []),
        ):
            wanted = None if expected is None else tuple(expected)
            self.assertEqual(byte_ranges(text, size), wanted, text)

    @given(
        st.one_of(
            st.text(max_size=30),
            st.lists(st.from_regex(r"\d{0,4}-\d{0,4}", fullmatch=True), max_size=20).map(
                lambda ranges: "bytes=" + ",".join(ranges)
            ),
        ),
        st.integers(0, 2000),
    )
    def test_any_text(self, text: str, size: int) -> None:
        """What is served lies in the file, nothing of it twice, and nothing was left out."""
        found = byte_ranges(text, size)
        if found is None:
            return
        self.assertTrue(all(0 <= start < end <= size for start, end in found))
        ordered = sorted(found)
        self.assertTrue(all(a[1] < b[0] for a, b in itertools.pairwise(ordered)))
        wanted: set[int] = set()
        for word in text.partition("=")[2].split(","):
            first, _, last = word.strip().partition("-")
            if first:
                wanted |= set(range(int(first), min(int(last) + 1 if last else size, size)))
            elif last:
                wanted |= set(range(max(0, size - int(last)), size))
        self.assertEqual({n for start, end in found for n in range(start, end)}, wanted)


class PreconditionTests(SynchronousTestCase):
    """RFC 9110, 13.2.2."""

    def test_table(self) -> None:
        """Each header alone, and who wins over whom."""
        new, old, now = WHAT.modified + 1, WHAT.modified - 1, WHAT.modified
        for asked, expected in (
            (Conditions(), WHOLE),
            (Conditions(range="bytes=0-9"), PART),
            (Conditions(range="bytes=5000-"), Answer(416)),
            (Conditions(match='"abc"'), WHOLE),
            (Conditions(match="*"), WHOLE),
            (Conditions(match='"x"'), Answer(412)),
            (Conditions(match='W/"abc"'), Answer(412)),
            (Conditions(match='"x", "abc"', range="bytes=0-9"), PART),
            (Conditions(match='"abc"', unmodified_since=old), WHOLE),
            (Conditions(unmodified_since=old), Answer(412)),
            (Conditions(unmodified_since=now), WHOLE),
            (Conditions(none_match='"abc"'), Answer(304)),
            (Conditions(none_match='W/"abc"'), Answer(304)),
            (Conditions(none_match='"a,b", "abc"'), Answer(304)),
            (Conditions(none_match="*"), Answer(304)),
            (Conditions(none_match=', ,"x",,"abc", ,'), Answer(304)),
            (Conditions(match=' , "abc",'), WHOLE),
            (Conditions(match='"abc" "abc"'), Answer(412)),
            (Conditions(none_match='"x"'), WHOLE),
            (Conditions(none_match='"x"', modified_since=new), WHOLE),
            (Conditions(none_match="nonsense"), WHOLE),
            (Conditions(modified_since=now), Answer(304)),
            (Conditions(modified_since=old), WHOLE),
            (Conditions(range="bytes=0-9", if_range='"abc"'), PART),
            (Conditions(range="bytes=0-9", if_range='"x"'), WHOLE),
            (Conditions(range="bytes=0-9", if_range='W/"abc"'), WHOLE),
            (Conditions(range="bytes=0-9", if_range="date", if_range_date=now), PART),
            (Conditions(range="bytes=0-9", if_range="date", if_range_date=new), WHOLE),
            (Conditions(range="bytes=0-9", if_range="date"), WHOLE),
            (Conditions(match='"x"', none_match='"abc"'), Answer(412)),
            (Conditions(none_match='"abc"', range="bytes=5000-"), Answer(304)),
        ):
            self.assertEqual(evaluate("GET", asked, WHAT), expected, asked)

    def test_head(self) -> None:
        """A range means nothing to HEAD."""
        self.assertEqual(evaluate("HEAD", Conditions(range="bytes=0-9"), WHAT), WHOLE)
