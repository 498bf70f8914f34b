"""File names in archives."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.batch.names import MAX_LEVELS, MAX_SEGMENT_BYTES, Names, safe, sharded
from twisted_bulk.batch.source_names import from_url

HOSTILE = {
    # upwards
    "..": "",
    ".": "",
    "...": "",
    "../../etc/passwd": "etc/passwd",
    "..\\..\\boot.ini": "boot.ini",
    "a/../../b": "a/b",
    "....//....//x": "x",
    "..;/x": "..;/x",
    "a/. ./b": "a/b",
    ".. /x": "x",
    "%2e%2e%2fx": "%2e%2e%2fx",
    "\uff0e\uff0e/x": "\uff0e\uff0e/x",
    # absolute
    "/": "",
    "/etc/passwd": "etc/passwd",
    "//server/share/x": "server/share/x",
    "\\\\server\\share\\x": "server/share/x",
    "C:\\windows\\x": "C_/windows/x",
    "c:x": "c_x",
    "\\\\?\\C:\\x": "_/C_/x",
    "\\\\.\\COM1": "_COM1",
    "file:///etc/passwd": "file_/etc/passwd",
    "~/.ssh/id": "~/.ssh/id",
    # devices and streams
    "con": "_con",
    "CON.": "_CON",
    " con ": "_con",
    "nul.txt": "_nul.txt",
    "nul .txt": "_nul .txt",
    "aux.tar.gz": "_aux.tar.gz",
    "prn": "_prn",
    "COM1.txt": "_COM1.txt",
    "com0": "_com0",
    "COM\u00b9": "_COM\u00b9",
    "lpt9": "_lpt9",
    "CONIN$": "_CONIN$",
    "conout$.wav": "_conout$.wav",
    "a/con/b": "a/_con/b",
    "console": "console",
    "file.txt:hidden": "file.txt_hidden",
    "a:$DATA": "a_$DATA",
    # what no file may be called somewhere
    'a"b<c>d|e*f?g': "a_b_c_d_e_f_g",
    "dots...": "dots",
    "dots. . .": "dots",
    " space ": "space",
    "a//b/": "a/b",
    "a/./b//c/": "a/b/c",
    "": "",
    "   ": "",
    # what a terminal or a reader would take for something else
    "a\nb\x00c": "a_b_c",
    "a\r\nContent-Type: x": "a__Content-Type_ x",
    "a\tb": "a_b",
    "\x1b[31mred": "_[31mred",
    "\x7f\x85\x9b": "___",
    "\u202egnp.exe": "_gnp.exe",
    "a\u2066b\u2069": "a_b_",
    "a\u200bb": "a_b",
    "a\u2028b": "a_b",
    "\ufeffa": "_a",
    "\ud800x": "_x",
    "e\u0301": "\u00e9",
    # too long
    "x" * 150 + "y" * 150 + ".wav": "x" * 88 + "~" + "y" * 87 + ".wav",
    "x" * 300: "x" * 90 + "~" + "x" * 89,
    "\u4f60" * 100 + ".wav": "\u4f60" * 33 + "~" + "\u4f60" * 32 + ".wav",
    "\U0001f4a3" * 80: "\U0001f4a3" * 25 + "~" + "\U0001f4a3" * 24,
    "x." + "y" * 300: "x." + "y" * 88 + "~" + "y" * 89,
    ("y" * 300 + "/") * 2 + "z": ("y" * 12 + "~" + "y" * 11 + "/") * 2 + "z",
    # harmless
    "-rf": "-rf",
    "$(id) `id` ;id&": "$(id) `id` ;id&",
    ".htaccess": ".htaccess",
}


class ArchiveNameTests(SynchronousTestCase):
    """Safe on every system, and unique."""

    def test_from_url(self) -> None:
        """The last segment, decoded once."""
        for url, name in (
            ("http://h/a/b.wav", "b.wav"),
            ("http://h/force-1.2_2.wav?x=/y#z", "force-1.2_2.wav"),
            ("http://h/%E4%BD%A0.wav", "你.wav"),
            ("http://h/%252e.wav", "%2e.wav"),
            ("http://h/a%2Fb.wav", "a_b.wav"),
            ("http://h/dir/", "dir"),
            ("http://h", ""),
            ("http://h?a/b", ""),
            ("http://h/%2e%2e", ""),
        ):
            self.assertEqual(from_url(url), name)

    def test_hostile(self) -> None:
        """Nothing absolute, nothing upwards, nothing that a system takes for a device."""
        for wanted, name in HOSTILE.items():
            self.assertEqual(safe(wanted), name, repr(wanted))

    def test_unique(self) -> None:
        """A name that is taken gets a number, whatever its case."""
        names = Names()
        taken = [
            names.take(n)
            for n in ("a.wav", "A.wav", "a.wav", "a (2).wav", "", "manifest.json", ".x", ".x")
        ]
        self.assertEqual(
            taken,
            [
                "a.wav",
                "A (2).wav",
                "a (3).wav",
                "a (2) (2).wav",
                "file",
                "manifest (2).json",
                ".x",
                ".x (2)",
            ],
        )

    def test_folders(self) -> None:
        """No file has a folder's name, and no folder a file's."""
        names = Names()
        for wanted, name in (
            ("a", "a"),
            ("a/b", "a (2)/b"),
            ("A/b", "a (2)/b (2)"),
            ("a (2)/c", "a (2)/c"),
            ("a (2)", "a (2) (2)"),
            ("x/y/z", "x/y/z"),
            ("X", "X (2)"),
            ("x/y", "x/y (2)"),
            ("manifest.json/a", "manifest.json (2)/a"),
        ):
            self.assertEqual(names.take(wanted), name)

    def test_deep(self) -> None:
        """Folders that nobody can reach are left out, the lowest first."""
        deep = "/".join(str(n) for n in range(99))
        self.assertEqual(safe(deep), "/".join([*map(str, range(MAX_LEVELS - 1)), "98"]))
        self.assertEqual(safe("a/b/c"), "a/b/c")

    def test_cases_share_their_numbers(self) -> None:
        """Spellings of one name are counted together: each is tried once, not all of them."""
        names = Names()
        found = [names.take(name) for name in ("word", "Word", "WORD", "woRd")]
        self.assertEqual(found, ["word", "Word (2)", "WORD (3)", "woRd (4)"])
        self.assertEqual(names._next, {"word": 4})

    def test_sharded(self) -> None:
        """Four levels of the SHA-1's hexadecimal digits."""
        self.assertRegex(sharded("a.wav"), r"^([0-9a-f]/){4}a\.wav$")
        self.assertNotEqual(sharded("a.wav")[:7], sharded("b.wav")[:7])

    @given(st.lists(st.text(max_size=60), max_size=20))
    def test_any_text(self, wanted: list[str]) -> None:
        """Whatever is wanted, every name is relative, encodable, short and given once."""
        names = Names()
        taken = [names.take(safe(text)) for text in wanted]
        files = {name.casefold() for name in taken}
        self.assertEqual(len(files), len(wanted))
        for name in files:
            for at in range(name.count("/")):
                self.assertNotIn("/".join(name.split("/")[: at + 1]), files)
        for name in taken:
            name.encode()
            for segment in name.split("/"):
                self.assertNotIn(segment, ("", ".", ".."))
                self.assertLessEqual(len(segment.encode()), MAX_SEGMENT_BYTES + 10)
                self.assertFalse(set(segment) & set('<>:"\\|?*\x00\r\n'))
