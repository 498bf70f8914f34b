"""How commands write."""

import io

from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.commands.exits import CommandError
from twisted_bulk.commands.output import Form, Output, aligned, size_text, time_text, visible


class OutputTests(SynchronousTestCase):
    """Tables, numbers, errors."""

    def test_aligned(self) -> None:
        """A line fits its terminal: what can be cut is cut, or left out."""
        rows = [("ID", "URL", "N", "WHY"), ("a", "http://h.example/long", "12", "录音文件没有找到")]
        for width in range(20, 60):
            lines = list(aligned(rows, width, ("URL", "WHY")))
            # The characters of the last column are two cells wide each.
            self.assertTrue(all(len(line) <= width for line in lines), (width, lines))
            self.assertTrue(lines[1].startswith("a   "))
            self.assertIn("12", lines[1])
        self.assertEqual(list(aligned(rows, 20, ("URL", "WHY"))), ["ID  N", "a   12"])
        self.assertEqual(
            list(aligned(rows, 31, ("URL", "WHY"))),
            ["ID  URL        N   WHY", "a   http://h…  12  录音文件…"],
        )

    def test_numbers(self) -> None:
        """Sizes and durations, as people read them."""
        sizes = ("0 B", "999 B", "1.0 kB", "200 kB", "1.5 MB", "4.0 GB", "12.0 TB")
        given = (0, 999, 1000, 200_000, 1_500_000, 4e9, 1.2e13)
        self.assertEqual(tuple(map(size_text, given)), sizes)
        times = ("", "0 s", "59 s", "1 min 1 s", "2 h 0 min", "3 d 1 h")
        self.assertEqual(tuple(map(time_text, (None, 0, 59.4, 61, 7200, 73 * 3600))), times)

    def test_control_characters(self) -> None:
        """A server's words cannot move the cursor or begin another line."""
        self.assertEqual(visible("a\x1b[2Jb\nc\u202e"), "a�[2Jb�c�")
        out, err = io.StringIO(), io.StringIO()
        output = Output(Form.TEXT, out, err)
        output.table(("A",), [("x\ny",)])
        output.fail(CommandError("wrong\nline", hint="do\x07this"), "bulkwav x")
        self.assertEqual((out.getvalue(), err.getvalue()),
                         ("x�y\n", "bulkwav x: wrong�line; do�this\n"))  # fmt: skip
