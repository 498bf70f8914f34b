"""300 members with odd names in 7 parts, unpacked into one folder by several programs."""

import json
import os
import random
import shutil
import subprocess
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.daemon import Daemon
from tests.support.odd_source import OddSource
from twisted_bulk.batch.names import fold

ODD = (
    *("plain.wav", "PLAIN.wav", "with blank.wav", "\u4f60\u597d.wav", "M\u00fcller.wav"),
    *("mu\u0308.wav", "m\u00fc.wav", "emoji \U0001f4a3.wav", "stra\u00dfe", "STRASSE", "a/b/c.wav"),
    *("a", "A/B", "con", "nul.txt", "dots...", "x" * 300, "\u4f60" * 200, "manifest.json", ".."),
    *("manifest.part003.json", "quote\"s'.wav", "tab\t.wav", "-rf", "~", "$HOME", "%41.wav", "a:b"),
    *(".hidden", "caf\u00e9", "CAFE\u0301"),
)
ZONES = ("UTC", "Asia/Shanghai", "America/New_York")
TIMES = (1_700_000_001, 1_000_000_000, 1_152_000_001)  # winter and summer, odd seconds
COUNT, PARTS = 300, 7


def commands(zips: list[Path], into: Path) -> dict[str, list[list[str]]]:
    """By program: the commands that unpack all zips into one folder; none overwrites a file."""
    return {
        "unzip": [["unzip", "-qn", str(one), "-d", str(into)] for one in zips],
        "7z": [["7z", "x", "-bd", "-aos", f"-o{into}", str(one)] for one in zips],
        "bsdtar": [["bsdtar", "-k", "-C", str(into), "-xf", str(one)] for one in zips],
    }


@contextmanager
def vfat() -> Iterator[Path | None]:
    """A file system that ignores case; None: this machine does not let us mount one."""
    folder = Path(tempfile.mkdtemp(prefix="bw"))
    image = folder / "image"
    image.write_bytes(b"")
    os.truncate(image, 64 << 20)
    (folder / "mnt").mkdir()
    words = ["mount", "-o", "loop,iocharset=utf8", str(image), str(folder / "mnt")]
    try:
        subprocess.run(["mkfs.vfat", str(image)], check=True, capture_output=True)
        subprocess.run(words, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield folder / "mnt"
    finally:
        subprocess.run(["umount", str(folder / "mnt")], check=True)


class UnpackingTests(SynchronousTestCase):
    """One batch, and everything that unpacks it."""

    def batch(self) -> tuple[list[dict[str, Any]], dict[int, bytes]]:
        """A batch of odd names, half of them given by the source; and the content of each."""
        source, chance = OddSource(), random.Random(22)
        self.addCleanup(source.close)
        download: list[Any] = []
        content: dict[int, bytes] = {}
        for number in range(1, COUNT + 1):
            name = chance.choice(ODD)
            content[number] = f"{number} {name}".encode() * chance.choice((1, 9, 400))
            headers = {"Last-Modified": formatdate(TIMES[number % 3], usegmt=True)}
            member: dict[str, Any] = {"url": f"{source.url}/get?n={number}"}
            if number % 2:
                member["name"] = name
            else:
                plain = name.replace('"', "").replace("\t", "")
                headers["Content-Disposition"] = f'attachment; filename="{plain}"'
            source.files[f"/get?n={number}"] = content[number], headers
            download.append(member)
        return download, content

    def test_unpacked(self) -> None:
        """Every file is there, with the right bytes and the right time in each zone."""
        missing = [name for name in commands([], Path()) if not shutil.which(name)]
        if missing:
            raise SkipTest(f"needs {', '.join(missing)}")
        download, content = self.batch()
        folder = Path(tempfile.mkdtemp(prefix="bw"))
        each = -(-COUNT // PARTS)
        with Daemon(folder / "data", "--rate=0", f"--part-files={each}", "--parts=3") as daemon:
            daemon.post({"task_id": "b", "download": download})
            shown = daemon.wait("b", 60)
            self.assertEqual((shown["status"], shown["done"]), ("done", COUNT), shown["errors"])
            self.assertEqual(len(shown["parts"]), PARTS)
            zips = []
            for part in shown["parts"]:
                zips.append(folder / part["download"].rsplit("/", 1)[1])
                urllib.request.urlretrieve(part["download"], zips[-1])
            with urllib.request.urlopen(
                f"http://127.0.0.1:{daemon.intake}/v1/batches/b/manifest"
            ) as answer:
                manifest = [json.loads(line) for line in answer.read().splitlines()]
        names = {line["name"]: line["member"] for line in manifest}
        self.assertEqual((len(names), len({fold(name) for name in names})), (COUNT, COUNT))
        for one in zips:  # in the order of the request
            with zipfile.ZipFile(one) as opened:
                numbers = [names[name] for name in opened.namelist()[:-1]]
                self.assertEqual(numbers, sorted(numbers))
        expected = {name: content[number] for name, number in names.items()}
        for program in commands(zips, folder):
            for zone in ZONES:
                into = Path(tempfile.mkdtemp(prefix="bw"))
                for words in commands(zips, into)[program]:
                    done = subprocess.run(
                        words, capture_output=True, check=False,
                        env={"TZ": zone, "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                    )  # fmt: skip
                    self.assertEqual(done.returncode, 0, (words, done.stderr))
                self.look(into, expected, program)
                for name, number in names.items():
                    modified = os.stat(into / name).st_mtime
                    self.assertEqual(modified, TIMES[number % 3], (program, zone, name))
                shutil.rmtree(into)
        into = Path(tempfile.mkdtemp(prefix="bw"))
        for one in zips:
            zipfile.ZipFile(one).extractall(into)
        self.look(into, expected, "Python")
        with vfat() as mounted:
            if mounted is not None:
                for words in commands(zips, mounted)["unzip"]:
                    subprocess.run(words, check=True, env=os.environ | {"LC_ALL": "C.UTF-8"})
                self.look(mounted, expected, "vfat")

    def look(self, into: Path, expected: dict[str, bytes], program: str) -> None:
        """The folder has these files, and a manifest of each part."""
        found = {
            str(path.relative_to(into)): path.read_bytes()
            for path in into.rglob("*") if path.is_file()
        }  # fmt: skip
        manifests = [found.pop(f"manifest.part{number:03}.json") for number in range(1, PARTS + 1)]
        self.assertEqual(found, expected, program)
        self.assertEqual(sum(len(json.loads(one)) for one in manifests), COUNT)
