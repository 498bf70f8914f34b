"""The arrows between the folders: who may import whom, and what a folder offers to others."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from tests.support.daemon import ROOT

PACKAGE = "twisted_bulk"
GROUND = ("error_codes", "errors", "system")  # for all
#: Of each folder, and of each module at the top: what it may import beside these.
ARROWS: dict[str, tuple[str, ...]] = {
    "error_codes": (),
    "errors": (),
    "system": (),
    "throttle": (),
    "brokers": (),
    "storage": (),
    "jobs": ("brokers",),
    "calls": ("brokers", "jobs"),
    "consumer": ("calls", "jobs"),
    "batch": ("jobs",),
    "dialing": (),
    "http_client": ("dialing",),
    "downloads": ("batch", "dialing", "http_client", "jobs"),
    "download": ("downloads",),
    "archive": ("storage",),
    "parts": (
        *("archive", "batch", "consumer", "download", "downloads", "http_client", "jobs"),
        "storage",
    ),
    "notify": ("batch", "consumer", "dialing", "http_client", "jobs"),
    "http_server": ("throttle",),
    "files": ("http_server", "storage", "throttle"),
    "orders": ("batch", "jobs"),
    "events": ("http_server", "jobs"),
    "management": ("batch", "events", "jobs", "orders", "storage"),
    "api": ("http_server", "management", "orders"),
    "page": ("http_server",),
    "web": ("api", "http_server", "management", "orders", "page"),
    "queue": ("brokers", "calls", "consumer", "jobs"),
    "node": (
        *("api", "archive", "brokers", "consumer", "dialing", "download", "downloads", "files"),
        *("http_client", "http_server", "jobs", "management", "notify", "parts"),
        *("storage", "throttle", "web"),
    ),
    "service": ("node",),
    "plugins": (),
    "api_client": ("api",),
    "commands": ("api", "api_client", "queue"),
    "client": ("api_client",),
}


class Arrow(NamedTuple):
    """An import of ``name`` from the module ``to``, in the module ``by``."""

    by: str
    to: str
    name: str


def room(module: str) -> str:
    """The folder of a module, or itself at the top."""
    return module.partition(".")[0]


def arrows(by: str, source: str) -> Iterator[Arrow]:
    """What a module's text imports of this package, also within functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{by}: a relative import")
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith(PACKAGE):
                    yield Arrow(by, alias.name.removeprefix(f"{PACKAGE}."), "")
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            module = (node.module or "").removeprefix(PACKAGE).lstrip(".")
            for alias in node.names:
                if module:
                    yield Arrow(by, module, alias.name)
                elif alias.name != "__version__":
                    yield Arrow(by, alias.name, "")


def all_arrows() -> Iterator[Arrow]:
    """Of the whole package."""
    root = ROOT / PACKAGE
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        yield from arrows(".".join(parts), path.read_text(encoding="utf-8"))


def offered(folder: Path) -> set[str]:
    """What a folder's docstring names for others: modules, and names in modules."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    found = re.search(r"For others?: (.+?)\.(?:\s|$)", text, re.DOTALL)
    words = re.sub(r"\s+", " ", found[1]) if found else ""
    return set(re.findall(r"[A-Za-z_]+(?:\.[A-Za-z_]+)?", words))


def wrong(found: Arrow) -> str:
    """Why an arrow may not be, or nothing."""
    by, to = room(found.by), room(found.to)
    if by == to or to in GROUND:
        return ""
    if to not in ARROWS.get(by, ()):
        return f"{found.by} may not import {found.to}"
    folder = ROOT / PACKAGE / to
    if not folder.is_dir():
        return ""
    module = found.to.partition(".")[2] or found.name
    if not offered(folder) & {module, f"{module}.{found.name}"}:
        return f"{found.by}: {to} does not offer {module}.{found.name}"
    return ""


class LayerTests(SynchronousTestCase):
    """What is imported."""

    def test_arrows(self) -> None:
        """Each arrow is one that there may be, to what is offered."""
        self.assertEqual([reason for found in all_arrows() if (reason := wrong(found))], [])

    def test_all_rooms(self) -> None:
        """Every folder and every module at the top has its place in the table."""
        root = ROOT / PACKAGE
        rooms = {path.stem for path in root.glob("*.py")} - {"__init__"}
        rooms |= {path.parent.name for path in root.glob("*/__init__.py")}
        self.assertEqual(rooms, set(ARROWS))

    def test_no_circle(self) -> None:
        """The table itself goes downhill."""
        left = dict(ARROWS)
        while free := [name for name, above in left.items() if not set(above) & set(left)]:
            for name in free:
                del left[name]
        self.assertEqual(left, {})

    def test_picture(self) -> None:
        """docs/architecture.md draws these arrows, but for those of ``node``."""
        text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
        drawn = {
            by: set(others.split(" & "))
            for by, others in re.findall(r"^  (\w+) --> ([\w& ]+)$", text, re.MULTILINE)
        }
        self.assertLessEqual(drawn.pop("node"), set(ARROWS["node"]))
        table = {by: set(others) - set(GROUND) for by, others in ARROWS.items()}
        del table["node"]
        self.assertEqual(drawn, {by: others for by, others in table.items() if others})

    def test_empty_inits(self) -> None:
        """A folder's own module says what is in it, and imports nothing."""
        for path in (ROOT / PACKAGE).glob("*/__init__.py"):
            body = ast.parse(path.read_text(encoding="utf-8")).body
            self.assertEqual([type(node).__name__ for node in body], ["Expr"], path)

    def test_sizes(self) -> None:
        """Limits: files and folders at the top, modules in a folder, lines of a module."""
        root = ROOT / PACKAGE
        at_top = [path for path in root.iterdir() if path.name != "__pycache__"]
        self.assertLessEqual(sum(path.is_file() for path in at_top), 12)
        self.assertLessEqual(sum(path.is_dir() for path in at_top), 24)
        for folder in root.glob("*/__init__.py"):
            self.assertLessEqual(len(list(folder.parent.glob("*.py"))) - 1, 14, folder.parent.name)
        for module in root.rglob("*.py"):
            lines = len(module.read_text(encoding="utf-8").splitlines())
            self.assertLessEqual(lines, 400 if module.name == "errors.py" else 250, module)

    def test_class_names(self) -> None:
        """No two classes of the tests have one name: the output of trial shows which one failed."""
        count = Counter(
            node.name
            for path in (ROOT / "tests").rglob("*.py")
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.ClassDef)
        )
        self.assertEqual([name for name, times in count.items() if times > 1], [])

    def test_seen(self) -> None:
        """Five arrows that may not be are found."""
        for by, text in (
            ("system.disk", "from twisted_bulk.batch.model import Member"),
            ("archive.writer", "from twisted_bulk.http_client.agent import GuardedAgent"),
            ("batch.model", "import twisted_bulk.archive.writer"),
            ("management.intake", "def f():\n    from twisted_bulk import queue"),
            ("parts.maker", "from twisted_bulk.archive.zip_records import Entry"),
        ):
            self.assertTrue(
                [reason for found in arrows(by, text) if (reason := wrong(found))], text
            )
