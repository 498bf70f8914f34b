"""The manifest of a batch, wherever its parts are."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.support.records import part, record
from twisted_bulk.batch.manifest_file import RUNNING, encode, note
from twisted_bulk.batch.model import Outcome, PartProgress, PartResult
from twisted_bulk.batch.names import MANIFEST
from twisted_bulk.errors import Elsewhere, Gone
from twisted_bulk.management.manifest import Manifests
from twisted_bulk.storage.folders import DataFolders


def outcome(number: int, url: str = "http://h/") -> Outcome:
    return Outcome(url, f"{number}", "done", "", "", 1, "0" * 64, 1, 1, member=number)


def result(node: str, folder: str = "b-1") -> bytes:
    return msgspec.json.encode(PartResult(folder, [], 1, 0, 1, [], node))


class ManifestTests(SynchronousTestCase):
    """On a node called ``here``."""

    def setUp(self) -> None:
        self.folders = DataFolders(Path(tempfile.mkdtemp(prefix="bw")))
        self.folders.node = "here"
        self.manifests = Manifests(self.folders)

    def lines(self, *parts: Any, only: int = 0) -> list[Any]:
        found = self.manifests.lines(record("running", *parts), only)
        return [json.loads(line) for piece in found for line in piece.splitlines()]

    def leave(self, folder: str, content: bytes) -> None:
        (self.folders.public / folder).mkdir()
        (self.folders.public / folder / MANIFEST).write_bytes(content)

    def test_read_a_line_at_a_time(self) -> None:
        """What a part has left is a JSON array, and is read without being held."""
        outcomes = [outcome(number) for number in range(1, 1000)]
        self.leave("b-1", encode(outcomes))
        text = (self.folders.public / "b-1" / MANIFEST).read_bytes()
        self.assertEqual(msgspec.json.decode(text, type=list[Outcome]), outcomes)
        done = part("done", result=result("here"))
        self.assertEqual([line["member"] for line in self.lines(done)], list(range(1, 1000)))
        self.assertLess(len(next(self.manifests.lines(record("done", done)))), len(text) // 4)

    def test_of_a_program_before(self) -> None:
        """One that stands in one line, with a password in it."""
        old = [{"url": "http://u:pw@h/?token=x", "name": "a", "status": "done", "code": "",
                "detail": "", "bytes": 1, "sha256": "", "attempts": 1, "part": 1}]  # fmt: skip
        self.leave("b-1", json.dumps(old).encode())
        (line,) = self.lines(part("done", result=result("")))
        self.assertEqual(line["url"], "http://h/?token=***")
        self.assertNotIn("member", line)

    def test_elsewhere(self) -> None:
        """Missing is not empty: the answer says where it is, and what is here can be had."""
        self.leave("b-1", encode([outcome(1)]))
        here = part("done", result=result("here"))
        there = part("done", result=result("there", "b-2"))
        running = part("doing", progress=msgspec.json.encode(PartProgress(node="far")))
        error = self.assertRaises(Elsewhere, self.lines, here, there, running)
        self.assertEqual(error.code, "on_another_node")
        self.assertIn("part 2 on there, part 3 on far", str(error))
        self.assertEqual(len(self.lines(here, there, running, only=1)), 1)
        gone = part("done", result=result("here", "b-3"))
        self.assertIn("part 1 ", str(self.assertRaises(Gone, self.lines, gone)))
        unknown = part("done", result=result("", "b-3"))
        self.assertIn("part 1 on another", str(self.assertRaises(Elsewhere, self.lines, unknown)))

    def test_names(self) -> None:
        """Two data folders of one host are two nodes; one keeps its name."""
        data = [Path(tempfile.mkdtemp(prefix="bw")) for _ in range(2)]
        first, second, again = (DataFolders(data[n]).node for n in (0, 1, 0))
        self.assertNotEqual(first, second)
        self.assertEqual(first, again)

    def test_while_it_runs(self) -> None:
        """What has ended by now; a line that is being written is left out."""
        progress = msgspec.json.encode(PartProgress(node="here"))
        running, waits = part("doing", progress=progress), part("todo")
        self.assertEqual(self.lines(running, waits), [])
        workspace = self.folders.enlist()
        self.addCleanup(workspace.close)
        folder = workspace.make_folder("b@n/1")
        note(folder / RUNNING, [outcome(1), outcome(2)])
        with open(folder / RUNNING, "ab") as file:
            file.write(b'{"url"')
        self.assertEqual([line["member"] for line in self.lines(running, waits)], [1, 2])
        os.rename(folder, folder.with_name("gone"))
        note(folder / RUNNING, [outcome(3)])  # its folder is a published one by now
        self.assertEqual(self.lines(running, waits), [])

    def test_of_a_part_that_died(self) -> None:
        """One line says why there are no others."""
        (line,) = self.lines(part("dead", why="poison", error="it died"))
        self.assertEqual((line["part"], line["members"], line["code"]), (1, 4, "poison"))
