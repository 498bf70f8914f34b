"""A file that is read again when it has changed."""

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.errors import ConfigError
from twisted_bulk.system.reread import Reread


class RereadTests(SynchronousTestCase):
    """Numbers in a file."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.read: list[bool] = []
        self.changed: list[int] = []
        self.kept: list[str] = []

    def parse(self, again: bool) -> int:
        self.read.append(again)
        try:
            return int(self.path.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(str(error)) from None

    def open(self) -> Reread[int]:
        kept = lambda error: self.kept.append(str(error))  # noqa: E731
        return Reread(self.path, self.parse, self.changed.append, kept)

    def write(self, text: str, at: int) -> None:
        self.path.write_text(text)
        os.utime(self.path, (at, at))

    def test_changes(self) -> None:
        """It is read once for each change, also of a file in its place with the same time."""
        self.write("1", 100)
        file = self.open()
        self.assertEqual([file.content(), file.content()], [1, 1])
        self.write("2", 200)
        self.assertEqual([file.content(), file.content()], [2, 2])
        other = self.path.with_suffix(".new")
        other.write_text("3")
        os.utime(other, (200, 200))
        other.rename(self.path)
        self.assertEqual(file.content(), 3)
        self.assertEqual((self.read, self.changed), ([False, True, True], [2, 3]))

    def test_bad_content(self) -> None:
        """The content before stays, it is told once, and a good file counts again."""
        self.write("1", 100)
        file = self.open()
        self.write("x", 200)
        self.assertEqual([file.content(), file.content()], [1, 1])
        self.assertEqual(len(self.kept), 1)
        self.path.unlink()
        self.assertEqual([file.content(), file.content()], [1, 1])
        self.assertEqual(len(self.kept), 2)
        self.write("4", 300)
        self.assertEqual(file.content(), 4)

    def test_at_the_start(self) -> None:
        """A file that cannot be read is an error."""
        self.assertRaises(ConfigError, self.open)
