"""The members of a batch, found in the files of its parts."""

import random
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.support.records import part, record
from twisted_bulk.batch.manifest_file import RUNNING, encode, note
from twisted_bulk.batch.member_index import INDEX_FILE, MemberIndex, lines_of
from twisted_bulk.batch.model import Outcome, PartProgress, PartResult
from twisted_bulk.batch.names import MANIFEST
from twisted_bulk.batch.selection import Selection
from twisted_bulk.jobs.group_model import GroupRecord, PartRecord
from twisted_bulk.management import member_search, result_files
from twisted_bulk.management.member_search import MemberSearch
from twisted_bulk.storage.folders import DataFolders

SIZE = 50  # members of a part


class MemberSearchTests(SynchronousTestCase):
    """A batch of four parts: two ended, one runs, one waits."""

    def setUp(self) -> None:
        self.folders = DataFolders(Path(tempfile.mkdtemp(prefix="bw")))
        self.search = MemberSearch(self.folders)
        self.all = [self.outcome(number) for number in range(1, 3 * SIZE + 1)]
        parts = [self.ended(1), self.ended(2, indexed=False), self.running(3)]
        self.record = record("running", *parts, part("todo", size=SIZE))

    def outcome(self, number: int) -> Outcome:
        chance = random.Random(number)
        status = chance.choice(("done", "failed"))
        code = chance.choice(("http_error", "too_slow")) if status == "failed" else ""
        url = f"http://{chance.choice(('a', 'b'))}.example/Call-{number}.wav"
        place = (number - 1) // SIZE + 1
        return Outcome(url, f"{number}.wav", status, code, "", 1, "", 1, place, member=number)

    def of(self, number: int) -> list[Outcome]:
        return self.all[(number - 1) * SIZE : number * SIZE]

    def ended(self, number: int, indexed: bool = True) -> PartRecord:
        folder = self.folders.public / f"b-{number:032x}"
        folder.mkdir()
        text = encode(self.of(number))
        (folder / MANIFEST).write_bytes(text)
        if indexed:
            index = MemberIndex.of(lines_of(text), (number - 1) * SIZE)
            (folder / INDEX_FILE).write_bytes(index.encode())
        return part("done", size=SIZE, result=self.result(folder.name, self.folders.node))

    def result(self, folder: str, node: str) -> bytes:
        return msgspec.json.encode(PartResult(folder, [], 0, 0, 0, [], node))

    def running(self, number: int) -> PartRecord:
        workspace = self.folders.enlist()
        self.addCleanup(workspace.close)
        place = workspace.make_folder(record("running", part("doing")).job_id(number))
        note(place / RUNNING, random.Random(1).sample(self.of(number), SIZE))
        told = msgspec.json.encode(PartProgress(node=self.folders.node))
        return part("doing", size=SIZE, progress=told)

    def pages(self, wanted: Selection, most: int = 7, **options: Any) -> list[int]:
        """The numbers of the members on all pages."""
        found, after = list[int](), 0
        while True:
            page = self.search.find(self.record, wanted, after, most, **options)
            self.assertLessEqual(len(page.outcomes), most)
            found += [one.member for one in page.outcomes]
            if not page.cursor:
                return found
            self.assertGreater(page.cursor, after - 1)
            after = page.cursor

    def counted(self, wanted: Selection) -> int:
        count, after = 0, 0
        while True:
            found = self.search.count(self.record, wanted, after)
            count, after = count + found.count, found.cursor
            if not after:
                return count

    def test_like_a_look_at_each(self) -> None:
        """Any conditions, in pages of any size, with and without a limit of what is searched."""
        chance, some = random.Random(2), 0
        for number in range(60):
            self.patch(result_files, "MAX_SEARCHED_BYTES", 500 if number % 2 else 1 << 30)
            self.patch(member_search, "MIN_LINES", 3)
            wanted = Selection(
                status=chance.choice(("", "", "failed", "done")),
                code=chance.choice(("", "", "too_slow")),
                host=chance.choice(("", "", "a.example")),
                text=chance.choice(("", "call-1", "CALL-", "9.wav", "b.example", "none")),
                members=chance.choice((frozenset[int](), frozenset((7, 60, 149)))),
            )
            expected = [one.member for one in self.all if wanted.matches(one)]
            self.assertEqual(self.pages(wanted, chance.choice((1, 7, 200))), expected, wanted)
            self.assertEqual(self.counted(wanted), len(expected), wanted)
            some += len(expected) > 5
        self.assertGreater(some, 20)

    def test_one_part(self) -> None:
        """Only its members; its own count."""
        failed = Selection(status="failed")
        expected = [one.member for one in self.of(2) if one.status == "failed"]
        self.assertEqual(self.pages(failed, only=2), expected)
        self.assertEqual(self.search.count(self.record, failed, only=2).count, len(expected))
        text = Selection(text=f"Call-{SIZE + 1}.")
        self.assertEqual(self.search.count(self.record, text, only=2).count, 1)

    def test_elsewhere(self) -> None:
        """Parts on other nodes, and results that are gone, are named."""
        there = part("done", size=SIZE, result=self.result("b-x", "there"))
        gone = part("done", size=SIZE, result=self.result("b-y", self.folders.node))
        far = part("doing", size=SIZE, progress=msgspec.json.encode(PartProgress(node="far")))
        others: GroupRecord = record("partial", self.record.parts[0], there, gone, far)
        found = self.search.find(others, Selection(), 0, 1000)
        self.assertEqual([one.part for one in found.outcomes], [1] * SIZE)
        self.assertEqual(found.missing, {2: "there", 3: self.folders.node, 4: "far"})
        self.assertEqual(self.search.count(others, Selection(), only=2).missing, {2: "there"})

    def test_of_an_older_version(self) -> None:
        """A file of one line, with a password in a URL: found, and masked."""
        folder = self.folders.public / f"b-{9:032x}"
        folder.mkdir()
        old = {"url": "http://u:secret@h/?token=x", "name": "a", "status": "failed",
               "code": "http_error", "detail": "", "bytes": 0, "sha256": "", "attempts": 1,
               "part": 1}  # fmt: skip
        (folder / MANIFEST).write_bytes(msgspec.json.encode([old, old | {"status": "done"}]))
        self.record = record(
            "partial", part("done", size=2, result=self.result(folder.name, self.folders.node))
        )
        found = self.search.find(self.record, Selection(status="failed"), 0, 9)
        self.assertEqual([one.url for one in found.outcomes], ["http://h/?token=***"])
        self.assertEqual(self.pages(Selection(text="secret")), [])
        self.assertEqual(self.pages(Selection(text="H/?TOKEN")), [1, 2])

    def test_waiting(self) -> None:
        """Which members of a part have ended."""
        self.assertEqual(len(self.search.ended(self.record, 3, 2 * SIZE)), SIZE)
        self.assertEqual(self.search.ended(self.record, 4, 3 * SIZE), frozenset())

    def test_memory(self) -> None:
        """Indexes are kept up to a number of bytes; the oldest go."""
        index = self.search._opened(self.path(1), 0).index
        self.patch(member_search, "MAX_INDEX_BYTES", index.size + 1)
        self.pages(Selection())
        self.assertEqual(len(self.search._indexes), 1)

    def path(self, number: int) -> Path:
        return self.folders.public / f"b-{number:032x}" / MANIFEST

    def test_more_is_written(self) -> None:
        """A part that runs is read again when it has gone on."""
        before = len(self.pages(Selection()))
        (place,) = (self.folders.public.parent / "spool").glob(f"*/*/{RUNNING}")
        late = msgspec.structs.replace(self.outcome(3 * SIZE), name="again.wav")
        note(place, [late])
        self.assertEqual(len(self.pages(Selection())), before + 1)
