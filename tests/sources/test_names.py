"""The names of files. Rows of the page's table, and a batch in seven parts."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from twisted_bulk.batch.expectations import warning
from twisted_bulk.batch.model import Member, PartSpec
from twisted_bulk.batch.names import MAX_PATH, Names, fold, safe
from twisted_bulk.batch.source_names import source_name
from twisted_bulk.errors import Unavailable
from twisted_bulk.http_client.content import Content
from twisted_bulk.parts.naming import Naming

URL = "http://h/download"
LONG = "x" * 150 + "y" * 150

#: Content-Disposition (as UTF-8), the last URL, the type; and the name.
ROWS: list[tuple[str, str, str, str]] = [
    ("", "http://h/a/b.wav", "", "b.wav"),
    ("", "http://h/a/b.wav?x=y.mp3#z", "audio/wav", "b.wav"),
    ("", "http://h/b.wav;jsessionid=1;v=2", "", "b.wav"),
    ("", "http://h/;jsessionid=1", "audio/wav", "file.wav"),
    ("", "http://h/%E4%BD%A0%20b.wav", "", "\u4f60 b.wav"),
    ("", "http://h/M%FCller.wav", "", "M%FCller.wav"),
    ("", "http://h/%e4%bd%a0%FF", "", "\u4f60%FF"),
    ("", "http://h/a%2Fb%5Cc.wav", "", "a_b_c.wav"),
    ("", "http://h/recording/17", "audio/x-wav", "17.wav"),
    ("", "http://h/recording/17", "Audio", "17"),
    ("", "http://h/v1.2", "audio/mpeg", "v1.2.mp3"),
    ("", "http://h/get.php?id=7", "audio/mpeg", "get.mp3"),
    ("", "http://h/get.php", "text/html", "get.php"),
    ("", "http://h/", "application/pdf", "file.pdf"),
    ("attachment; filename=a.wav", URL, "", "a.wav"),
    ('attachment; filename="a b; c.wav"', URL, "", "a b; c.wav"),
    ('inline; FileName = "a.wav"', URL, "", "a.wav"),
    ('filename="a.wav"', URL, "", "a.wav"),
    ("attachment; filename=my file.wav; size=7", URL, "", "my file.wav"),
    ('attachment; filename="a.wav', URL, "", "a.wav"),
    ('attachment; filename="say \\"hi\\".wav"', URL, "", "say _hi_.wav"),
    ('attachment; filename="C:\\calls\\a.wav"', URL, "", "a.wav"),
    ('attachment; filename="../../etc/passwd"', URL, "", "passwd"),
    ('attachment; filename="M\u00fcller.wav"', URL, "", "M\u00fcller.wav"),
    ("attachment; filename*=UTF-8''%e2%82%ac%20a.wav", URL, "", "\u20ac a.wav"),
    ("attachment; filename=\"euro.wav\"; filename*=utf-8'de'%e2%82%ac.wav", URL, "", "\u20ac.wav"),
    ("attachment; filename*=iso-8859-1''%A3.wav; filename=b.wav", URL, "", "\u00a3.wav"),
    ("attachment; filename*=UTF-8''%ff.wav; filename=b.wav", URL, "", "b.wav"),
    ("attachment; filename*=nonsense; filename=b.wav", URL, "", "b.wav"),
    ("attachment; filename*=undefined''%41; filename=b.wav", URL, "", "b.wav"),
    ("attachment; filename*=punycode''%ff%ff", URL, "", "download"),
    ("attachment; filename*=rot13''n.wav; filename=b.wav", URL, "", "b.wav"),
    ("attachment; filename*=gbk''%c4%e3.wav", URL, "", "\u4f60.wav"),
    ('form-data; name="a;filename=x.wav"; filename=b.wav', URL, "", "b.wav"),
    ("attachment; x; filename==; =; ;;filename=b.wav", URL, "", "="),
    ('attachment; filename="=?UTF-8?B?TcO8bGxlci53YXY=?="', URL, "", "M\u00fcller.wav"),
    ('attachment; filename="=?iso-8859-1?Q?M=FCller.wav?="', URL, "", "M\u00fcller.wav"),
    ('attachment; filename="=?x?B?!?="', URL, "", "=_x_B_!_="),
    ('attachment; filename="=?undefined?B?QQ==?="', URL, "", "=_undefined_B_QQ==_="),
    ('attachment; filename="M%C3%BCller.wav"', URL, "", "M\u00fcller.wav"),
    ('attachment; filename="100%.wav"', URL, "", "100%.wav"),
    ('attachment; filename=""', URL, "audio/wav", "download.wav"),
    ("attachment", URL, "", "download"),
    ('attachment; filename="call"', URL, "audio/wav", "call.wav"),
    ('attachment; filename="con.wav"', URL, "", "_con.wav"),
    (f'attachment; filename="{LONG}.wav"', URL, "", "x" * 88 + "~" + "y" * 87 + ".wav"),
]


class NameRowTests(SynchronousTestCase):
    """Pure."""

    def test_rows(self) -> None:
        """What a response and its URL say, and the name."""
        for disposition, url, media, name in ROWS:
            sent = disposition.encode().decode("latin-1")
            self.assertEqual(source_name(sent, url, url, media), name, (disposition, url))

    def test_latin1(self) -> None:
        """A name that is sent as Latin-1, and not as UTF-8."""
        self.assertEqual(
            source_name('x; filename="M\xfcller.wav"', URL, URL, ""), "M\u00fcller.wav"
        )

    def test_long_paths(self) -> None:
        """A path has 180 characters at most; its end stays, and as many folders as fit."""
        for wanted, name in (
            ("a/" * 100 + LONG + ".wav", None),
            (f"{LONG}/{LONG}/{LONG}/{LONG}.wav", None),
            ("d/" + "\u4f60" * 90 + ".wav", "d/" + "\u4f60" * 33 + "~" + "\u4f60" * 32 + ".wav"),
        ):
            found = safe(wanted)
            self.assertLessEqual(len(found), MAX_PATH)
            self.assertTrue(found.endswith(".wav"))
            self.assertEqual(
                found.split("/")[0], wanted.split("/")[0][:12] + found.split("/")[0][12:]
            )
            self.assertIn(name, (None, found))
        names = Names()
        numbered = [names.take(safe(f"{LONG}.wav")) for _ in range(12)]
        self.assertTrue(all(len(name) <= MAX_PATH for name in numbered))
        self.assertEqual((len(set(numbered)), numbered[-1][-9:]), (12, " (12).wav"))

    def test_costly(self) -> None:
        """Names that are alike once they are shortened, or have very many marks, cost little."""
        names, looked = Names(), 0
        is_taken = names._is_taken

        def counted(key: str) -> bool:
            nonlocal looked
            looked += 1
            return is_taken(key)

        self.patch(names, "_is_taken", counted)
        for number in [*range(500), *range(500)]:
            names.take("x" * 84 + f"{number:03}" + "y" * 86 + ".wav")
        self.assertLess(looked, 5000)
        marks = "".join(map(chr, range(0x300, 0x340)))
        self.assertLessEqual(len(safe("a" + marks[::-1] * 500)), MAX_PATH)

    def test_fold(self) -> None:
        """Names that are one file on a disk that ignores case."""
        names = Names()
        for wanted in ("a\u015ab", "stra\u00dfe", "\u00c9"):
            names.take(wanted)
        for wanted in ("A\u017f\u0301B", "STRASSE", "\u00e9"):
            self.assertNotEqual(names.take(safe(wanted)), safe(wanted))

    def test_manifests(self) -> None:
        """No file has the name of a manifest, in none of the batch's zips."""
        for manifest, wanted in (
            ("manifest.json", "Manifest.json"), ("manifest.json", "manifest.part001.json"),
            ("list", "list"), ("list.json", "list.part010-2.json"),
        ):  # fmt: skip
            self.assertNotEqual(Names(manifest).take(wanted), wanted)
        self.assertEqual(Names("").take("manifest.json"), "manifest.json")
        self.assertEqual(Names("list.json").take("manifest.json"), "manifest.json")

    def test_warning(self) -> None:
        """A page in place of a file."""
        page, h = "text/html", "http://h"
        for media, url, name, said in (
            (page, f"{h}/a.wav", "a.wav", "html"), (page, f"{h}/x", "a.JPG", "html"),
            ("application/xhtml+xml", f"{h}/a.zip?x", "a", "html"), (page, "x", "a.mp3", "html"),
            (page, f"{h}/a.html", "a.html", ""), (page, f"{h}/wav", "wav", ""),
            (page, f"{h}.zip", "file", ""), ("audio/wav", f"{h}/a.wav", "a.wav", ""),
            ("", f"{h}/a.wav", "a.wav", ""),
        ):  # fmt: skip
            self.assertEqual(warning(media, url, [name]), said, (media, url))


class Registry:
    """The names of a batch, as the queue has them."""

    def __init__(self) -> None:
        self.owners: dict[bytes, bytes] = {}
        self.away = False

    async def claim(self, claims: Any) -> list[int]:
        if self.away:
            raise Unavailable("away")
        found = []
        for one in claims:
            found.append(int(self.owners.setdefault(one[:6], one[6:]) == one[6:]))
        return found


class NamingTests(TestCase):
    """Several parts of one batch."""

    def part(self, registry: Registry, number: int, *members: Member, each: int = 0) -> Naming:
        spec = PartSpec("b", number, 3, 0, first=(number - 1) * (each or len(members)))
        return Naming(spec, members, registry.claim)

    async def test_parts(self) -> None:
        """A name that another part has gets a number, whatever its case and Unicode form."""
        registry = Registry()
        wanted = ["a.wav", "A.WAV", "u\u0308.wav", "x", "d/f", "manifest.part002.json"]
        first = self.part(registry, 1, *(Member("http://h/", name) for name in wanted))
        await first.claim_all()
        again = ["\u00dc.wav", "a.wav", "b.wav", "x/y", "d", "d/f"]
        second = self.part(registry, 2, *(Member("http://h/", name) for name in again))
        await second.claim_all()
        everything = [*first.names, *second.names]
        self.assertEqual(len({fold(name) for name in everything}), len(everything))
        files = {fold(name) for name in everything}
        for name in everything:
            self.assertNotIn(fold(name.rpartition("/")[0]), files)
        self.assertEqual((first.names[0], second.names[2]), ("a.wav", "b.wav"))
        self.assertEqual((first.names[1], second.names[1]), ("A (2).WAV", "a (3).wav"))
        # The part is made again: it gets the names that it has.
        same = self.part(registry, 1, *(Member("http://h/", name) for name in wanted))
        await same.claim_all()
        self.assertEqual(same.names, first.names)

    async def test_folders(self) -> None:
        """A folder with the name that another part has given to a file: all that is in it moves."""
        registry = Registry()
        first = self.part(registry, 1, *(Member("http://h/", name) for name in ("a", "A (2)")))
        await first.claim_all()
        names = ["a/b", "a/c", "a/d/e", "A/b", "x"]
        second = self.part(registry, 2, *(Member("http://h/", name) for name in names))
        await second.claim_all()
        moved = ["a (3)/b", "a (3)/c", "a (3)/d/e", "a (3)/b (2)", "x"]
        self.assertEqual(second.names, moved)

    async def test_many_alike(self) -> None:
        """Ten thousand members with one name in each part cost few calls."""
        registry, calls = Registry(), 0
        parts = [self.part(registry, n, *[Member("http://h/recording")] * 2000) for n in (1, 2, 3)]
        claim = registry.claim

        async def counted(claims: Any) -> list[int]:
            nonlocal calls
            calls += 1
            return await claim(claims)

        for part in parts:
            part._claim = counted
            await part.claim_all()
        names = [name for part in parts for name in part.names]
        self.assertEqual(len(set(names)), 6000)
        self.assertLess(calls, 40)

    async def test_from_the_response(self) -> None:
        """A response gives another name; the one before it is free then, but in this part only."""
        registry = Registry()
        part = self.part(
            registry, 1, *[Member("http://h/get?n")] * 2, Member("http://h/get", "n.wav")
        )
        await part.claim_all()
        self.assertEqual(part.names, ["get", "get (2)", "n.wav"])
        given = Content(disposition="x; filename=call.wav", url="http://h/get")
        self.assertEqual((await part.settle([0], given))[0], "call.wav")
        self.assertEqual((await part.settle([0], given))[0], "call.wav")
        self.assertEqual((await part.settle([1], given))[1], "call (2).wav")
        self.assertEqual((await part.settle([2], given))[2], "n.wav")
        other = self.part(registry, 2, *[Member("http://h/get?n")] * 3)
        await other.claim_all()
        self.assertTrue(((await other.settle([0], given))[0]).startswith("call ("))
        registry.away = True
        before = other.names[1]
        self.assertEqual((await other.settle([1], Content(url="http://h/z.wav")))[1], before)
        registry.away = False
        self.assertEqual((await other.settle([1], Content(url="http://h/z.wav")))[1], "z.wav")

    async def test_there_already(self) -> None:
        """Members that are in the archive keep their names, and the others give way."""
        part = self.part(Registry(), 1, *[Member("http://h/get")] * 3)
        part.keep({2: "get"})
        await part.claim_all({2})
        self.assertEqual(part.names, ["get (2)", "get (3)", "get"])
