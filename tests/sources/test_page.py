"""The tables of docs/downloads.md are the rows of these tests.

``python -m tests.sources.test_page`` writes them anew.
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.sources import responses, test_names, test_requests, test_retries, test_urls
from tests.sources.rows import page
from tests.support.daemon import ROOT

PAGE = ROOT / "docs" / "downloads.md"
MARKED = re.compile(r"<!-- rows: ([^>]+) -->\n.*?<!-- end -->\n", re.DOTALL)


def _code(text: str) -> str:
    shown = text.replace("\r", "").replace("\n", "")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def _cut(text: str) -> str:
    return text if len(text) < 60 else f"{text[:50]}...{text[-5:]}"


def of_class(kind: type[Any]) -> list[tuple[str, str]]:
    """What the tests of a class say of themselves: two cells."""
    found = []
    for name, test in vars(kind).items():
        text = " ".join((inspect.getdoc(test) or "").split())
        if name.startswith("test_") and " | " in text:
            what, _, result = text.partition(" | ")
            found.append((what, result))
    return found


def urls() -> Iterator[tuple[str, str]]:
    """What is written, and what is asked for."""
    for written, asked, words in test_urls.ROWS:
        yield words or _code(_cut(written)), _code(_cut(asked)) if asked else "`bad_url`"


def answers() -> Iterator[tuple[str, str]]:
    """Which answers are tried again."""
    for status, header, again, retry_on in test_retries.ANSWERS:
        what = status + (" with `Retry-After`" if header else "")
        what += f", `retry_on` {list(retry_on)}" if retry_on else ""
        yield what, "tried again" if again else "`http_error`"


def names() -> Iterator[tuple[str, str]]:
    """What a response says, and the name."""
    for disposition, url, media, name in test_names.ROWS:
        if disposition:
            what = _code(_cut(disposition)) + (f", {media}" if media else "")
        else:
            what = _code(url) + (f", {media}" if media else "")
        yield what, _code(_cut(name))


TABLES: dict[str, list[tuple[str, str]]] = {
    **{
        name.lower(): [(row.what, row.result) for row in rows]
        for name, rows in responses.TABLES.items()
    },
    "urls": list(urls()),
    "redirects": of_class(test_requests.RedirectRowTests),
    "cookies and digest": of_class(test_requests.CookieRowTests),
    "answers": list(answers()),
    "continued": of_class(test_retries.ContinueRowTests),
    "expect": of_class(test_retries.ExpectRowTests),
    "names": list(names()),
}


def written() -> str:
    """The page with its tables."""

    def table(found: re.Match[str]) -> str:
        rows = page(["", ""], TABLES[found[1]])
        return f"<!-- rows: {found[1]} -->\n\n{rows}\n<!-- end -->\n"

    return MARKED.sub(table, PAGE.read_text(encoding="utf-8"))


class PageTests(SynchronousTestCase):
    """The page."""

    def test_page(self) -> None:
        """It has all tables, as the tests have them."""
        text = PAGE.read_text(encoding="utf-8")
        self.assertEqual(set(MARKED_NAMES.findall(text)), set(TABLES))
        self.assertEqual(text, written())
        self.assertGreater(sum(map(len, TABLES.values())), 120)


MARKED_NAMES = re.compile(r"<!-- rows: ([^>]+) -->")

if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
