"""The names of a part's zips, and what becomes of its folder."""

import hashlib
import json
import tempfile
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.archives import add, content
from twisted_bulk.archive.encoder import Encoder
from twisted_bulk.archive.writer import Archive
from twisted_bulk.archive.zip_member import Source
from twisted_bulk.batch.model import Member, PartSpec
from twisted_bulk.errors import MemberError
from twisted_bulk.parts.publication import manifest_name, members_there, publish, zip_name
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

    def test_chosen(self) -> None:
        """``filename`` and ``manifest`` of the request; no two manifests have one name."""
        for parts, volume, volumes, name, listed in (
            (1, 1, 1, "calls.zip", "list.json"),
            (2, 1, 1, "calls.part001.zip", "list.part001.json"),
            (1, 2, 2, "calls.part001-2.zip", "list.part001-2.json"),
        ):
            spec = PartSpec("b", 1, parts, 0, filename="calls", manifest="list.json")
            self.assertEqual(zip_name(spec, volume, volumes), name)
            self.assertEqual(manifest_name(spec, volume, volumes), listed)
        self.assertEqual(manifest_name(PartSpec("b", 1, 3, 0, manifest=""), 1, 1), "")


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
        names = {"b.zip", "b.zip.sha256", "manifest.json", "members.index"}
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
        names = {file.name for file in (self.folders.public / folder).iterdir()}
        self.assertEqual(names, {"manifest.json", "members.index"})

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

    def test_from_an_older_version(self) -> None:
        """A journal and a manifest without numbers: the names tell which members they are."""
        members = [Member("http://h/a"), Member("http://h/b"), Member("http://h/c")]
        part = PartState(PartSpec("b", 1, 1, 0), members, Clock())
        archive = Archive(self.workspace.make_folder("b@1/1"), "store", 1 << 40)
        encoder = Encoder("store")
        encoder.update(b"ccc")
        archive.add({0: "c"}, encoder.encoded, lambda: [b"ccc"], 0.0)
        for unknown in ("c;v=2", "caf\u00e9"):  # names that this version does not give
            archive.add({0: unknown}, encoder.encoded, lambda: [b"ccc"], 0.0)
        archive.add({4: "of no member"}, encoder.encoded, lambda: [b"ccc"], 0.0)
        archive.abandon()
        archive = Archive(archive.folder, "store", 1 << 40)
        _, part.previous = publish(*self.begin(1), self.workspace)
        path = self.folders.public / part.previous[0].link
        manifest = path.parent / "manifest.json"
        lines = json.loads(manifest.read_bytes())
        for line in lines:
            for field in ("member", "type", "encoding", "warning"):
                del line[field]
        manifest.write_text(json.dumps(lines))
        there = members_there(part, archive, self.workspace)
        found = {number: placed.name for number, placed in there.items()}
        self.assertEqual(found, {2: "c", 0: "a"})
        (closed,) = archive.close(lambda *_: "", b"", 0)
        self.assertEqual(content(closed.path.read_bytes()), {"a": b"aaa", "c": b"ccc"})

    def test_with_another_url(self) -> None:
        """A member whose URL was replaced is fetched, though it is there under the old one."""
        _, zips = publish(*self.begin(1), self.workspace)
        members = [Member("http://h/other"), Member("http://h/b")]
        again = PartState(PartSpec("b", 1, 1, 1), members, Clock())
        again.previous = zips
        archive = Archive(self.workspace.make_folder("b@2/1"), "store", 1 << 40)
        self.assertEqual(members_there(again, archive, self.workspace), {})
        add(archive, b"aaa", "a", url="http://h/a")
        archive.abandon()
        archive = Archive(archive.folder, "store", 1 << 40)
        self.assertEqual(members_there(again, archive, self.workspace), {})
        archive.abandon()

    def test_under_other_names(self) -> None:
        """Members are known by their numbers, whatever their responses called them."""
        members = [Member("http://h/get?1"), Member("http://h/get?2")]
        first = PartState(PartSpec("b", 1, 1, 1), members, Clock())
        archive = Archive(self.workspace.make_folder("b@1/1"), "store", 1 << 40)
        encoder = Encoder("store")
        encoder.update(b"two")
        source = Source(type="audio/wav", warning="html")
        (placed,) = archive.add({2: "get"}, encoder.encoded, lambda: [b"two"], 1e9 + 1, source)
        first.naming.keep({1: "get"})
        first.came(1, placed)
        first.failed_with(0, MemberError("http_error", "HTTP 404"), 1)
        _, zips = publish(first, archive, self.workspace)
        again = PartState(PartSpec("b", 1, 1, 1), members, Clock())
        again.previous = zips
        archive = Archive(self.workspace.make_folder("b@2/1"), "store", 1 << 40)
        there = members_there(again, archive, self.workspace)
        self.assertEqual(list(there), [1])
        kept = there[1]
        self.assertEqual((kept.name, kept.type, kept.warning), ("get", "audio/wav", "html"))
        self.assertEqual((kept.modified, kept.number, kept.stamped), (1e9 + 1, 2, True))
        archive.abandon()

    def test_other_node(self) -> None:
        """A zip that is not on this node's disk gives no members."""
        part, archive = self.begin(1)
        _, part.previous = publish(part, archive, self.workspace)
        (self.folders.public / part.previous[0].link).unlink()
        again = Archive(self.workspace.make_folder("b@2/1"), "store", 1 << 40)
        self.assertEqual(members_there(part, again, self.workspace), {})
        again.abandon()
