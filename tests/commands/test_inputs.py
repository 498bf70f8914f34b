"""Lists of URLs in files."""

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.commands.exits import CommandError
from twisted_bulk.commands.inputs import Columns, read_order

URL = "http://h.example/"


class InputTests(SynchronousTestCase):
    """What is read of a file."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def file(self, name: str, text: str | bytes) -> str:
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    def read(self, name: str, text: str | bytes, columns: Any = ()) -> list[object]:
        found = read_order([self.file(name, text)], "auto", Columns(**dict(columns)))
        return list(found["download"])

    def refused(self, name: str, text: str | bytes, columns: Any) -> str:
        error = self.assertRaises(CommandError, self.read, name, text, columns)
        return f"{error}; {error.hint}".replace(f"{self.folder}/", "")

    def test_kinds(self) -> None:
        """Lines, CSV, JSON and JSON lines, told by the name or by the content."""
        a, b = f"{URL}a.wav", f"{URL}b.wav"
        named = {"url": b, "name": "n.wav"}
        for name, text, found in (
            ("u.txt", f"# all\n{a}\n\n  {b}\t n.wav \n", [a, named]),
            ("u", f"\ufeff{a}\r\n{b}\r\n", [a, b]),
            ("u", f"{a}\n{b}".encode("utf-16"), [a, b]),
            ("u.csv", f"id,URL,name\n1,{a},\n2,{b},n.wav\n", [a, named]),
            ("u.csv", f"id;recorded;link\n1;x;{a}\n", [a]),
            ("u.tsv", f"a\tb\nx\t{a}\n", [a]),
            ("u.csv", f'name,url\n"n.wav","{b}"\n', [named]),
            ("u.csv", f"{a}\n{b}\n", [a, b]),
            ("u", f"id,link\n1,{a}\n", [a]),
            ("u", f"url\n{a}\n", [a]),
            ("u", f"{a}?x=1,2\n", [f"{a}?x=1,2"]),
            ("u.json", json.dumps([a, named]), [a, named]),
            ("u", json.dumps({"download": [a]}), [a]),
            ("u", json.dumps(named), [named]),
            ("u.jsonl", f'"{a}"\n\n{json.dumps(named)}\n', [a, named]),
            ("u", f"{json.dumps(named)}\n{json.dumps({'url': a})}\n", [named, {"url": a}]),
        ):
            self.assertEqual(self.read(name, text), found, (name, text))

    def test_columns(self) -> None:
        """Named, or numbered, whatever they are called."""
        text = f"when,where,what\n1,{URL}a,x\n2,{URL}b,y\n"
        wanted = [{"url": f"{URL}a", "name": "x"}, {"url": f"{URL}b", "name": "y"}]
        for columns in ({"url": "where", "name": "what"}, {"url": "2", "name": "3"}):
            for name in ("u.csv", "u"):
                self.assertEqual(self.read(name, text, columns), wanted)

    def test_order(self) -> None:
        """A whole order keeps its other fields; several files are one batch."""
        order = self.file("o.json", json.dumps({"task_id": "x", "download": [f"{URL}a"]}))
        found = read_order([order, self.file("more.txt", f"{URL}b")], "auto", Columns())
        self.assertEqual(found, {"task_id": "x", "download": [f"{URL}a", f"{URL}b"]})

    def test_mistakes(self) -> None:
        """Each is one line that says where, and what to do."""
        for name, text, columns, words in (
            ("e.txt", "# none\n", {}, "e.txt: there is no URL in it"),
            ("e.csv", "a,b\n1,2\n", {}, "no column has URLs; the columns are a, b; say which"),
            ("e.csv", f"link,b\n{URL},2\n", {"url": "lnik"}, "did you mean link?"),
            ("e.csv", f"{URL},2\n", {"url": "link"}, "no names; say its number, from 1"),
            ("e.csv", f"link,b\n{URL},2\n", {"url": "3"}, "no column 3; there are 2"),
            ("e.json", "{", {}, "e.json: not JSON"),
            ("e.json", '{"download": 3}', {}, "expected a list of URLs"),
            ("e.jsonl", "3\n", {}, "line 1: expected a URL"),
            ("e.jsonl", f'"{URL}"\n{{\n', {}, "line 2 is not JSON"),
            ("e.txt", b"http://h/\nhttp://\xe4\n", {}, "line 2 is not UTF-8; save it as UTF-8"),
        ):  # fmt: skip
            self.assertIn(words, self.refused(name, text, columns))
        self.file("urls.txt", URL)
        error = self.assertRaises(
            CommandError, read_order, [str(self.folder / "ulrs.txt")], "auto", Columns()
        )
        self.assertEqual(error.hint, f"did you mean {self.folder / 'urls.txt'}?")
        self.assertIn("Is a directory", str(self.assertRaises(
            CommandError, read_order, [str(self.folder)], "auto", Columns()
        )))  # fmt: skip
