"""URLs as people write them: each row of the table is a test."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.downloads import DownloadTestCase
from tests.support.origin_server import ok
from twisted_bulk.batch.masks import show
from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.redirects import first
from twisted_bulk.system import urls
from twisted_bulk.system.urls import host_of, may_have_secrets_of, normal, tidy

#: What is written; what is asked for, or nothing; in words, where the text cannot be shown.
ROWS: list[tuple[str, str, str]] = [
    (" http://h.example/a.wav ", "http://h.example/a.wav", "blanks around it"),
    ("http://h.example/a.wav\r\n", "http://h.example/a.wav", "a line end behind it"),
    ("\t\x00http://h.example/a.wav\x1f", "http://h.example/a.wav", "control characters around it"),
    (
        "\ufeffhttp://h.example/a.wav\u00a0",
        "http://h.example/a.wav",
        "a BOM or another blank around it",
    ),
    ("http://h.example/a\r\n\tb.wav", "http://h.example/ab.wav", "line ends and tabs within it"),
    ("http://h.example/Anruf 1.wav", "http://h.example/Anruf%201.wav", ""),
    ("http://h.example/a?b c", "http://h.example/a?b%20c", ""),
    ("http://h.example/M\u00fcller.wav", "http://h.example/M%C3%BCller.wav", ""),
    ("http://h.example/mu\u0308.wav", "http://h.example/mu%CC%88.wav", "letters in parts"),
    ("http://h.example/\u4f60?\u597d", "http://h.example/%E4%BD%A0?%E5%A5%BD", ""),
    ("http://h.example/%zz%7e%2F", "http://h.example/%zz%7e%2F", ""),
    ('http://h.example/"<>`{}', "http://h.example/%22%3C%3E%60%7B%7D", ""),
    ("http://h.example/a|b[c]^", "http://h.example/a|b[c]%5E", ""),
    ("http://h.example/a/../b/./c", "http://h.example/b/c", ""),
    ("http://h.example/%2e%2e/b", "http://h.example/b", ""),
    ("http:\\\\h.example\\a\\b.wav?c\\d", "http://h.example/a/b.wav?c\\d", ""),
    ("http:/h.example/a", "http://h.example/a", ""),
    ("http:////h.example/a", "http://h.example/a", ""),
    ("HTTP://H.Example:80/A", "http://h.example/A", ""),
    ("https://h.example:443", "https://h.example/", ""),
    ("http://h.example/a#part", "http://h.example/a", ""),
    ("http://h.example?a=b", "http://h.example/?a=b", ""),
    ("http://\u2615.example/", "http://xn--53h.example/", ""),
    ("http://fa\u00df.example/", "http://xn--fa-hia.example/", ""),
    ("http://B\u00dcCHER.example/", "http://xn--bcher-kva.example/", ""),
    ("http://\u4f8b\u5b50\u3002example/", "http://xn--fsqu00a.example/", ""),
    ("http://a_b.example/", "http://a_b.example/", ""),
    ("http://0x7f.1/", "http://127.0.0.1/", ""),
    ("http://127\u30020\u30020\u30021/", "http://127.0.0.1/", ""),
    ("http://[::FFFF]:8080/", "http://[::ffff]:8080/", ""),
    ("http://h.example/" + "a" * 16_000, "http://h.example/" + "a" * 16_000, "16,000 characters"),
    ("http://h.example/" + "a" * 16_384, "", "more than 16,384 characters"),
    ("ftp://h.example/a", "", ""),
    ("h.example/a", "", ""),
    ("//h.example/a", "", ""),
    ("http://h ex.example/", "", ""),
    ("http://h.example:0/", "", ""),
    ("http://h.example:99999/", "", ""),
    ("http://[::1/", "", ""),
    ("http://", "", ""),
    ("", "", "nothing"),
]


PIECES = [
    *("://", "s://", "h", "H", "1", "01", "0x1", "127", "256", ".", "..", "-", "_", "xn--", "a"),
    *(
        ":",
        "80",
        "443",
        "8080",
        "0",
        "65536",
        "/",
        "\\",
        "//",
        "%",
        "%2e",
        "%41",
        "?",
        "#",
        "&",
        "=",
    ),
    *("@", "'", "|", "{", " ", "\t", "\u00fc", "~", "*", "[", "]", "example", "w.wav"),
]


class UrlRowTests(SynchronousTestCase):
    """Pure."""

    def test_rows(self) -> None:
        """What is written, and what is asked for; both are stable."""
        for written, asked, _ in ROWS:
            kept = tidy(written)
            self.assertEqual(normal(kept), asked, repr(written)[:80])
            self.assertEqual((tidy(kept), normal(asked)), (kept, asked))
            self.assertTrue(asked or not host_of(kept))

    @given(st.lists(st.sampled_from(PIECES), max_size=12))
    def test_plain(self, pieces: list[str]) -> None:
        """What is taken for plain is what the library makes of it."""
        text = "http" + "".join(pieces)
        if urls._is_plain(text):
            self.assertEqual((urls._parsed(text), tidy(text)), (text, text))

    def test_secrets(self) -> None:
        """To whom a URL's secrets may go along."""
        for url, before, may in (
            ("http://h/b", "http://h/a", True),
            ("http://H:80/b", "http://h./a", True),
            ("https://h/b", "http://h/a", True),
            ("https://h:443/b", "http://h:80/a", True),
            ("http://h/b", "https://h/a", False),
            ("https://h:8443/b", "http://h/a", False),
            ("https://h/b", "http://h:8080/a", False),
            ("http://h:81/b", "http://h/a", False),
            ("http://a.h/b", "http://h/a", False),
            ("http://h.evil/b", "http://h/a", False),
        ):
            self.assertEqual(may_have_secrets_of(url, before), may, (url, before))

    def test_shown(self) -> None:
        """Whatever is written, and whether it is a URL: its secrets are not shown."""
        for written in (
            "http:\\\\u:geheim@h/", "http:/u:geheim@h/", "http://u:geheim@h h/", "http://u:ge/heim@h/",
            " http://u:geheim@h:0/", "http://h\\a?to\nken=geheim", "http://h:0/?token=geheim",
            "u:geheim@h", "ftp://u:geheim@h/", "http://h/;jsessionid=geheim", "//u:geheim@h",
            "http://h/?x=1?token=geheim", "http://h/?next=%2Fx%3Ftoken%3Dgeheim",
            "http://h/?u=//u:geheim@h/", "http://h/?b=http:/u:geheim@h/", "http://h/?b=http:%5cu:geheim@h",
        ):  # fmt: skip
            shown = show(tidy(written))
            self.assertNotIn("geheim", shown, written)
            self.assertNotIn("heim@", shown, written)


class UrlTests(DownloadTestCase):
    """On real sockets."""

    async def test_sent(self) -> None:
        """A request is sent as the table says."""
        for number, (path, asked) in enumerate(
            (("/a b", "/a%20b"), ("/\u00fc", "/%C3%BC"), ("\\c\\d", "/c/d"), ("/e/../f#g", "/f"))
        ):
            self.site.answers[asked] = ok(b"%d" % number)
            await self.get(self.one(tidy(f"{self.site.url}{path}")))
            self.assertEqual(self.sinks[-1].data, b"%d" % number)

    async def test_none(self) -> None:
        """A member without a URL fails by itself, and no request is made."""
        fetches = [self.one("/a"), self.one("ftp://h/b"), self.one("http://h:0/c")]
        self.site.answers["/a"] = ok(b"a")
        await self.get(*fetches)
        error = self.errors["ftp://h/b"]
        assert error is not None
        self.assertEqual((error.code, error.detail), ("bad_url", "not an http or https URL"))
        self.assertIsNone(self.errors["/a"])
        self.assertEqual([fetch.tries.attempts for fetch in fetches], [1, 0, 0])
        self.assertEqual(len(self.site.requests), 1)
        self.assertRaises(MemberError, first, "", {}, 0.0)
