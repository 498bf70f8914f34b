"""Bytes written at an offset."""

import os
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.archives import content, finish
from twisted_bulk.archive.encoder import Encoder
from twisted_bulk.archive.writer import Archive
from twisted_bulk.system.disk import WRITE_BYTES, write_at


class WriteTests(SynchronousTestCase):
    """What stands in front, and what comes behind it, in one call."""

    def test_in_parts(self) -> None:
        """However much of it a file takes at once."""
        path, write = Path(self.mktemp()), os.pwritev
        for most in (1, 3, 5, 100):
            calls: list[int] = []

            def some(file: int, pieces: Any, at: int, most: int = most, to: Any = calls) -> int:
                to.append(at)
                return write(file, [b"".join(pieces)[:most]], at)

            self.patch(os, "pwritev", some)
            for head, data in ((b"head", b"data" * 9), (b"head", b""), (b"", b"data"), (b"", b"")):
                calls.clear()
                with open(path, "wb", buffering=0) as file:
                    self.assertEqual(write_at(file, data, 7, head), 7 + len(head + data))
                self.assertEqual(path.read_bytes()[7:], head + data)
                self.assertEqual(len(calls), -(-len(head + data) // most))

    def test_large_ones(self) -> None:
        """They are written in pieces."""
        sizes: list[int] = []
        data, write = os.urandom(WRITE_BYTES * 2 + 1), os.pwritev

        def noted(file: int, pieces: Any, at: int) -> int:
            sizes.append(sum(map(len, pieces)))
            return write(file, pieces, at)

        self.patch(os, "pwritev", noted)
        with tempfile.TemporaryFile(buffering=0) as file:
            write_at(file, data, 0, b"head")
            file.seek(0)
            self.assertEqual(file.read(), b"head" + data)
        self.assertEqual(sizes, [WRITE_BYTES + 4, WRITE_BYTES, 1])

    def test_nothing_behind_it(self) -> None:
        """A member without a piece has its header."""
        archive = Archive(Path(tempfile.mkdtemp(prefix="bw")), "store", 1 << 40)
        archive.add({1: "empty"}, Encoder("store").encoded, list, 0.0)
        (found,) = finish(archive)
        self.assertEqual(content(found), {"empty": b""})
