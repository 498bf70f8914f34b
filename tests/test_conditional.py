"""Ranges and preconditions, by the RFC's letter."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.conditional import Answer, Conditions, Representation, byte_range, evaluate

WHAT = Representation(1000, '"abc"', 784111777)
WHOLE = Answer(200, 0, 1000)
PART = Answer(206, 0, 10)


class RangeTests(SynchronousTestCase):
    """The Range header's value on 1,000 bytes."""

    def test_table(self) -> None:
        """One range is served, what is not valid ignored, what lies outside refused."""
        for text, expected in (
            ("bytes=0-9", (0, 10)),
            ("bytes=0-0", (0, 1)),
            ("Bytes=990-", (990, 1000)),
            ("bytes=990-5000", (990, 1000)),
            ("bytes=-10", (990, 1000)),
            ("bytes=-5000", (0, 1000)),
            ("bytes = 0-9 ", (0, 10)),
            ("bytes=1000-", (1000, 1000)),
            ("bytes=1000-2000", (1000, 1000)),
            ("bytes=-0", (1000, 1000)),
            ("bytes=9-0", None),
            ("bytes=", None),
            ("bytes=-", None),
            ("bytes=a-b", None),
            ("bytes=1_0-2_0", None),
            ("bytes=+0-+8", None),
            ("bytes=0x0-0x9", None),
            ("items=0-9", None),
            ("bytes=0-1,5-6", None),
            ("bytes=" + "0-," * 40, None),
            ("bytes=0-" + "9" * 5000, None),
            ("", None),
            ("\u0660-\u0669", None),
        ):
            self.assertEqual(byte_range(text, 1000), expected, text[:40])

    def test_empty_file(self) -> None:
        """There is nothing to take a part of."""
        self.assertEqual(byte_range("bytes=0-", 0), (0, 0))
        self.assertEqual(byte_range("bytes=-5", 0), (0, 0))

    @given(
        st.one_of(st.text(max_size=30), st.from_regex(r"bytes=\d{0,6}-\d{0,6}", fullmatch=True)),
        st.integers(0, 2000),
    )
    def test_any_text(self, text: str, size: int) -> None:
        """Whatever is asked for, what is served lies in the file."""
        found = byte_range(text, size)
        if found is not None:
            self.assertTrue(0 <= found[0] <= found[1] <= size)


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
