"""File names in archives."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.names import LONGEST, Names, from_url, safe, sharded


class NameTests(SynchronousTestCase):
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
        for wanted, name in (
            ("../../etc/passwd", "etc/passwd"),
            ("/etc/passwd", "etc/passwd"),
            ("C:\\windows\\x", "C_/windows/x"),
            ("a/./b//c/", "a/b/c"),
            ("..", ""),
            ("con", "_con"),
            ("COM1.txt", "_COM1.txt"),
            ("a\nb\x00c", "a_b_c"),
            ("\u202egnp.exe", "_gnp.exe"),
            ("dots...", "dots"),
            (" space ", "space"),
            ("x" * 300 + ".wav", "x" * 196 + ".wav"),
        ):
            self.assertEqual(safe(wanted), name)

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

    def test_sharded(self) -> None:
        """Four levels of the SHA-1's hexadecimal digits."""
        self.assertRegex(sharded("a.wav"), r"^([0-9a-f]/){4}a\.wav$")
        self.assertNotEqual(sharded("a.wav")[:7], sharded("b.wav")[:7])

    @given(st.lists(st.text(max_size=60), max_size=20))
    def test_any_text(self, wanted: list[str]) -> None:
        """Whatever is wanted, every name is relative, encodable, short and given once."""
        names = Names()
        taken = [names.take(safe(text)) for text in wanted]
        self.assertEqual(len({name.casefold() for name in taken}), len(wanted))
        for name in taken:
            name.encode()
            for segment in name.split("/"):
                self.assertNotIn(segment, ("", ".", ".."))
                self.assertLessEqual(len(segment.encode()), LONGEST + 10)
                self.assertFalse(set(segment) & set('<>:"\\|?*\x00\r\n'))
