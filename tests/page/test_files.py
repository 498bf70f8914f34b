"""The files of the page: served with a strict policy, and whole."""

import re
from importlib.resources import files
from pathlib import Path

from twisted.web.http_headers import Headers

from tests.support.api import ApiTestCase
from twisted_bulk.api.tokens import Access
from twisted_bulk.error_codes import MEMBER_CODES, PART_CODES

STATIC = Path(str(files("twisted_bulk.page") / "static"))

#: Sinks that make markup or code of a text, and sources that are elsewhere.
FORBIDDEN = (
    *(
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        r"document\.write",
        r"\beval\(",
        "new Function",
    ),
    r"""(src|href|import|from)\s*[=(]?\s*["']https?:""",
)


def keys(language: str) -> set[str]:
    """The keys of one file of words; forms of plurals count as one."""
    text = (STATIC / "words" / f"{language}.js").read_text(encoding="utf-8")
    found = re.findall(r'^  "?([\w.]+)"?: "', text, re.MULTILINE)
    assert len(found) == len(set(found)), language
    return {key.partition(".")[0] for key in found}


class PageFileTests(ApiTestCase):
    """Served to everybody, as they have no data."""

    async def test_served(self) -> None:
        """Each file has its type and the policy; what the browser has is not sent again."""
        self.serve(self.redis, access=Access([]))  # with tokens: the page needs none
        for path in ("/", *(f"/page/{f.relative_to(STATIC)}" for f in STATIC.rglob("*.*"))):
            url = f"http://127.0.0.1:{self.port}{path}"
            answer = await self.client.get(url)
            self.assertEqual(answer.code, 200, path)
            body = await answer.content()
            self.assertEqual(len(body), answer.length)
            policy = answer.headers.getRawHeaders("Content-Security-Policy")[0]
            self.assertIn("default-src 'none'", policy)
            self.assertNotIn("unsafe", policy)
            tag = answer.headers.getRawHeaders("ETag")[0]
            again = await self.client.get(url, headers=Headers({"If-None-Match": [tag]}))
            self.assertEqual(again.code, 304)
        for path in ("none.js", "../resource.py", "%2e%2e/resource.py", "js", "js/"):
            url = f"http://127.0.0.1:{self.port}/page/{path}"
            self.assertEqual((await self.client.get(url)).code, 404, path)

    def test_words(self) -> None:
        """All languages have the same keys, and each key that the code names is there."""
        english = keys("en")
        self.assertEqual(keys("zh"), english)
        used: set[str] = set()
        for path in (STATIC / "js").glob("*.js"):
            used |= set(re.findall(r'\bt\("(\w+)"', path.read_text(encoding="utf-8")))
        self.assertLessEqual(used, english)
        self.assertLessEqual({f"code_{code}" for code in (*MEMBER_CODES, *PART_CODES)}, english)

    def test_no_markup_of_texts(self) -> None:
        """No script makes markup or code of a text, and no file loads anything from elsewhere."""
        for path in STATIC.rglob("*.*"):
            text = path.read_text(encoding="utf-8")
            for pattern in FORBIDDEN:
                self.assertIsNone(re.search(pattern, text), f"{path.name}: {pattern}")

    def test_preloaded(self) -> None:
        """The index names all scripts of the page, so that they are fetched at once."""
        index = (STATIC / "index.html").read_text(encoding="utf-8")
        found = set(re.findall(r'href="/page/(\w+/\w+\.js)"', index))
        there = {str(path.relative_to(STATIC)) for path in STATIC.rglob("*.js")}
        self.assertEqual(found, there - {"js/main.js", "js/worker.js"})

    def test_sizes(self) -> None:
        """A script has at most 250 lines; a file of words as many as it needs."""
        for path in (STATIC / "js").glob("*.js"):
            self.assertLessEqual(len(path.read_text(encoding="utf-8").splitlines()), 250, path.name)
