"""The files with the results of a part's members."""

from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.batch.manifest_file import encode, note, read_so_far, read_whole
from twisted_bulk.batch.model import Outcome


def outcome(number: int, url: str = "http://h/a") -> Outcome:
    """A member that was fetched."""
    return Outcome(url, f"{number}.wav", "done", "", "", 5, "00", 1, 1, member=number)


class ManifestFileTests(SynchronousTestCase):
    """Written and read again."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def test_whole(self) -> None:
        """One array for readers of JSON, and a line for each member for us."""
        outcomes = [outcome(1), outcome(2)]
        self.path.write_bytes(encode(outcomes))
        self.assertEqual(msgspec.json.decode(self.path.read_bytes(), type=list[Outcome]), outcomes)
        read = [msgspec.json.decode(line, type=Outcome) for line in read_whole(self.path)]
        self.assertEqual(read, outcomes)

    def test_of_an_older_version(self) -> None:
        """An array in one line, with secrets in its URLs and without the members' numbers."""
        old = msgspec.to_builtins(outcome(0, "http://user:secret@h/a?token=secret"))
        del old["member"]
        self.path.write_bytes(msgspec.json.encode([old]))
        (line,) = read_whole(self.path)
        self.assertNotIn(b"secret", line)
        self.assertNotIn("member", msgspec.json.decode(line))

    def test_so_far(self) -> None:
        """Lines are added; half a line is left out; no file is no line."""
        self.assertEqual(list(read_so_far(self.path)), [])
        note(self.path, [outcome(1)])
        note(self.path, [outcome(2)])
        with open(self.path, "ab") as file:
            file.write(b'{"url":')
        self.assertEqual(len(list(read_so_far(self.path))), 2)

    def test_full_disk(self) -> None:
        """A note that cannot be written is left out."""
        note(self.path / "no" / "folder", [outcome(1)])
