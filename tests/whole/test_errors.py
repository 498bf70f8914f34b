"""docs/errors.md is the code's own catalogue.

``python -m tests.whole.test_errors`` writes it anew.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.daemon import ROOT
from twisted_bulk.error_codes import MEMBER_CODES, PART_CODES
from twisted_bulk.errors import BulkError, ConfigError, catalogue

PAGE = ROOT / "docs" / "errors.md"
HEAD = """\
# Errors

Made from `twisted_bulk/errors.py`; a test holds the two together.

## Answers

Every answer that is no success is `application/problem+json` (RFC 9457) with a `code`, which stays
as it is, and a `detail` for people, which may change. "Again?": whether the same request may work
later; where it may, the answer has `Retry-After` if a time is known. `config` is no answer: the
daemon says it in one line and does not start.

| code | HTTP | again? | who has to act | |
|---|---|---|---|---|
"""
MEMBERS = """
## Members

What became of a URL that is not in the archive: in a batch's `errors`, in the manifest, and in the
last callback. "Again?": whether another try could help; where it could, it was tried up to
`--retries` times more, and `POST /v1/batches/ID/retry` tries again.

| code | again? | who has to act | |
|---|---|---|---|
"""
PARTS = """
## Parts

What became of a part that has no zip, in a batch's `errors` beside its number. "Again?": whether
`POST /v1/batches/ID/retry` could help.

| code | again? | who has to act | |
|---|---|---|---|
"""


def rows() -> Iterator[str]:
    """Of the first table."""
    for kind in sorted(catalogue(), key=lambda kind: (kind.status, kind.code)):
        text = (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ").rstrip(".")
        status = "" if kind is ConfigError else f"{kind.status.value}"
        again = "yes" if kind.retry else "no"
        yield f"| `{kind.code}` | {status} | {again} | {kind.who} | {text} |\n"


def page() -> str:
    """The whole document."""
    text = HEAD + "".join(rows())
    for head, codes in ((MEMBERS, MEMBER_CODES), (PARTS, PART_CODES)):
        text += head
        for code, (retry, who, meaning) in codes.items():
            text += f"| `{code}` | {'yes' if retry else 'no'} | {who} | {meaning} |\n"
    return text


class CatalogueTests(SynchronousTestCase):
    """Everything that is said is in it, and nothing else."""

    def test_page(self) -> None:
        """The document is the code's."""
        self.assertEqual(PAGE.read_text(encoding="utf-8"), page())

    def test_each_once(self) -> None:
        """No code means two things."""
        codes = [*(kind.code for kind in catalogue()), *MEMBER_CODES, *PART_CODES]
        self.assertEqual(sorted(codes), sorted(set(codes)))

    def test_each_in_a_test(self) -> None:
        """Every code, or its class, is what some test sees."""
        text = "".join(
            path.read_text(encoding="utf-8")
            for path in (ROOT / "tests").rglob("*.py")
            if path != Path(__file__)
        )
        words = set(re.findall(r"\w+", text))
        unseen = [kind.code for kind in catalogue() if not {kind.code, kind.__name__} & words]
        unseen += [code for code in [*MEMBER_CODES, *PART_CODES] if code not in words]
        self.assertEqual(unseen, [])

    def test_parts(self) -> None:
        """How a job can die, as the queue's scripts have it."""
        text = "".join(
            path.read_text() for path in (ROOT / "twisted_bulk" / "jobs" / "lua").rglob("*.lua")
        )
        found = set(re.findall(r"(?:kill_job\([^']*|'dead', 0, 'why', )'(\w+)'", text))
        found |= set(re.findall(r"'(\w+)' or '(\w+)', ARGV", text)[0])
        found.remove("1")  # of a comparison
        self.assertEqual(found, set(PART_CODES))

    def test_nothing_beside_it(self) -> None:
        """Problems are made of these errors alone, and members' errors of these codes."""
        for path in (ROOT / "twisted_bulk").rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    if node.func.id == "problem_body":
                        self.assertIn("error.code", ast.unparse(node), path)
                    first = node.args[0] if node.args else None
                    if node.func.id == "MemberError" and isinstance(first, ast.Constant):
                        self.assertIn(first.value, MEMBER_CODES, path)
        self.assertTrue(all(issubclass(kind, BulkError) for kind in catalogue()))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
