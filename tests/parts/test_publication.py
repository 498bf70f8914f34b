"""The names of a part's zips, and what becomes of its folder."""

import hashlib
import json
import tempfile
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.archives import add, content
from twisted_bulk.archive.writer import Archive
from twisted_bulk.batch.model import Member, PartSpec
from twisted_bulk.errors import MemberError
from twisted_bulk.parts.publication import members_there, publish, zip_name
from twisted_bulk.parts.state import PartState
from twisted_bulk.storage.folders import DataFolders


class ZipNameTests(SynchronousTestCase):
    """File names of zips."""

    def test_names(self) -> None:
        """The batch's own id; the part and the volume only where there are several."""
        for parts, part, volume, volumes, name in (
            (1, 1, 1, 1, "b.zip"),
            (2, 1, 1, 1, "b.part001.zip"),
            (2, 2, 1, 1, "b.part002.zip"),
            (1, 1, 1, 2, "b.part001.zip"),
            (1, 1, 2, 2, "b.part001-2.zip"),
        ):
            spec = PartSpec("owner:b", part, parts, 0)
            self.assertEqual(zip_name(spec, volume, volumes), name)


class PublishTests(SynchronousTestCase):
    """A part with two members."""

    def setUp(self) -> None:
        self.folders = DataFolders(Path(tempfile.mkdtemp(prefix="bw")))
        self.workspace = self.folders.enlist()
        self.addCleanup(self.workspace.close)

    def begin(self, spare: int) -> tuple[PartState, Archive]:
        members = [Member("http://h/a"), Member("http://h/b")]
        part = PartState(PartSpec("b", 1, 1, spare), members, Clock())
        archive = Archive(self.workspace.make_folder("b@1/1"), "store", 1 << 40)
        (placed,) = add(archive, b"aaa", "a", verified=True)
        part.came(0, placed)
        part.failed_with(1, MemberError("http_error", "HTTP 404"), 1)
        return part, archive

    def test_visible(self) -> None:
        """The zip, its checksum and the manifest stand in a folder that cannot be guessed."""
        folder, zips = publish(*self.begin(1), self.workspace)
        self.assertRegex(folder, r"^b-[0-9a-f]{32}$")
        path = self.folders.public / folder
        names = {"b.zip", "b.zip.sha256", "manifest.json"}
        self.assertEqual({file.name for file in path.iterdir()}, names)
        data = (path / "b.zip").read_bytes()
        self.assertEqual(zips[0].link, f"{folder}/b.zip")
        self.assertEqual(zips[0].sha256, hashlib.sha256(data).hexdigest())
        self.assertTrue((path / "b.zip.sha256").read_text().startswith(zips[0].sha256))
        manifest = json.loads((path / "manifest.json").read_bytes())
        self.assertEqual([line["status"] for line in manifest], ["done", "failed"])

    def test_too_many_failed(self) -> None:
        """A batch that cannot succeed gets its manifest, and no zip."""
        folder, zips = publish(*self.begin(0), self.workspace)
        self.assertEqual(zips, [])
        self.assertEqual(
            [p.name for p in (self.folders.public / folder).iterdir()], ["manifest.json"]
        )

    def test_from_an_earlier_run(self) -> None:
        """A member that stands in a zip of the run before is copied; one that failed is not."""
        _, zips = publish(*self.begin(1), self.workspace)
        members = [Member("http://h/a"), Member("http://h/b")]
        part = PartState(PartSpec("b", 1, 1, 0), members, Clock())
        part.previous = zips
        archive = Archive(self.workspace.make_folder("b@2/1"), "store", 1 << 40)
        there = members_there(part, archive, self.workspace)[0]
        self.assertEqual((there.name, there.verified), ("a", True))
        (closed,) = archive.close(lambda *_: "manifest.json", b"[]", 0)
        self.assertEqual(content(closed.path.read_bytes()), {"a": b"aaa"})

    def test_other_node(self) -> None:
        """A zip that is not on this node's disk gives no members."""
        part, archive = self.begin(1)
        _, part.previous = publish(part, archive, self.workspace)
        (self.folders.public / part.previous[0].link).unlink()
        again = Archive(self.workspace.make_folder("b@2/1"), "store", 1 << 40)
        self.assertEqual(members_there(part, again, self.workspace), {})
        again.abandon()
