"""Reads lists of URLs: text, CSV, JSON, JSON lines."""

import csv
import difflib
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted_bulk.commands.exits import CommandError

FORMATS = ("auto", "text", "csv", "json", "jsonl")
SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl",
}  # fmt: skip
URL_COLUMNS = ("url", "urls", "link", "links", "href", "uri", "download", "download_url")
NAME_COLUMNS = ("name", "filename", "file_name")
MAX_FILE_BYTES = 512_000_000  # of one file; a server takes less in one batch
DELIMITERS = ",;\t|"

Entry = str | dict[str, Any]


@dataclass(frozen=True)
class Columns:
    """The columns of a CSV: by name, or by number from 1; empty: as they are usually called."""

    url: str = ""
    name: str = ""
    sha256: str = ""


def read_order(paths: Sequence[str], form: str, columns: Columns) -> dict[str, Any]:
    """The body of a batch with all entries of some files; ``-`` is the standard input.

    :param form: one of :data:`FORMATS`
    :raises CommandError: a file cannot be read, or has no URL
    """
    order: dict[str, Any] = {}
    entries: list[Entry] = []
    for path in paths:
        text = read_text(path)
        kind = form if form != "auto" else kind_of(path, text, columns)
        if kind == "json":
            found, more = _from_json(path, text)
            order |= more
        elif kind == "jsonl":
            found = list(_from_lines(path, text))
        elif kind == "csv":
            found = list(_from_csv(path, text, columns))
        else:
            found = list(_from_text(text))
        entries += found
    if not entries:
        raise CommandError(f"{' '.join(paths)}: there is no URL in it", code="no_urls")
    return {**order, "download": entries}


def read_text(path: str) -> str:
    """The text of a file.

    :raises CommandError: it cannot be read
    """
    try:
        with nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise CommandError(
            f"{path}: there is no such file", code="no_file", hint=near(path)
        ) from None
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}", code="no_file") from None
    if len(data) > MAX_FILE_BYTES:
        raise CommandError(f"{path}: more than {MAX_FILE_BYTES:,} bytes", code="bad_file")
    is_wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")  # as spreadsheets save "Unicode text"
    try:
        return data.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CommandError(
            f"{path}: line {line} is not UTF-8", code="bad_file", hint="save it as UTF-8"
        ) from None


def near(path: str) -> str:
    """A file whose name is nearly that of ``path``, as a question; or nothing."""
    folder = Path(path).parent
    if path in ("", "-") or not folder.is_dir():
        return ""
    names = [one.name for one in folder.iterdir()]
    close = difflib.get_close_matches(Path(path).name, names, 1)
    return f"did you mean {folder / close[0]}?" if close else ""


def kind_of(path: str, text: str, columns: Columns) -> str:
    """The format of a file, by its name, else by how it begins."""
    suffix = Path(path).suffix.lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    first = text.lstrip()[:1]
    if first == "[":
        return "json"
    if first != "{":
        lines = (line.strip() for line in text.splitlines())
        head = next((line for line in lines if line and line[0] != "#"), "")
        is_table = any(map(head.count, DELIMITERS)) and not _is_url(head)
        is_named = head.lower() in URL_COLUMNS
        return "csv" if is_table or is_named or columns != Columns() else "text"
    try:
        json.loads(text.lstrip().partition("\n")[0])
    except (ValueError, RecursionError):
        return "json"
    return "jsonl" if "\n" in text.strip() else "json"


def _from_json(path: str, text: str) -> tuple[list[Entry], dict[str, Any]]:
    """The entries of a document, and what else an order has."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{path}: not JSON: {error}", code="bad_file") from None
    more: dict[str, Any] = {}
    if isinstance(found, dict):
        if "download" not in found:
            found = [found]
        else:
            more = {key: value for key, value in found.items() if key != "download"}
            found = found["download"]
    if not isinstance(found, list) or not all(isinstance(one, str | dict) for one in found):
        raise CommandError(
            f"{path}: expected a list of URLs or of objects with `url`", code="bad_file"
        )
    return found, more


def _from_lines(path: str, text: str) -> Iterator[Entry]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                found = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise CommandError(
                    f"{path}: line {number} is not JSON: {error}", code="bad_file"
                ) from None
            if not isinstance(found, str | dict):
                raise CommandError(
                    f"{path}: line {number}: expected a URL or an object", code="bad_file"
                )
            yield found


def _from_text(text: str) -> Iterator[Entry]:
    """A URL a line, or a URL, a tab and a name; lines that begin with ``#`` are comments."""
    for line in text.splitlines():
        url, _, name = line.strip().partition("\t")
        if url and not url.startswith("#"):
            yield {"url": url.strip(), "name": name.strip()} if name.strip() else url


def _from_csv(path: str, text: str, columns: Columns) -> Iterator[Entry]:
    head = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=head.count) if any(map(head.count, DELIMITERS)) else ","
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise CommandError(f"{path}: not CSV: {error}", code="bad_file") from None
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if not rows:
        return
    heads = [cell.strip() for cell in rows[0]]
    has_heads = not any(map(_is_url, heads))
    if not has_heads:
        heads = []
    width = max(map(len, rows))
    url = _column(path, heads, width, columns.url, URL_COLUMNS)
    if url is None:
        url = next((n for n, cell in enumerate(rows[-1]) if _is_url(cell)), None)
    if url is None:
        raise CommandError(
            f"{path}: no column has URLs; the columns are {', '.join(heads) or 'without names'}",
            code="no_column", hint="say which with --url-column",
        )  # fmt: skip
    name = _column(path, heads, width, columns.name, NAME_COLUMNS)
    sha256 = _column(path, heads, width, columns.sha256, ("sha256",))
    for row in rows[has_heads:]:
        found = {"url": _cell(row, url), "name": _cell(row, name), "sha256": _cell(row, sha256)}
        if found["url"]:
            kept = {key: value for key, value in found.items() if value}
            yield kept if len(kept) > 1 else found["url"]


def _is_url(text: str) -> bool:
    return text.strip().lower().startswith(("http://", "https://"))


def _cell(row: Sequence[str], number: int | None) -> str:
    return row[number].strip() if number is not None and number < len(row) else ""


def _column(
    path: str, heads: Sequence[str], width: int, asked: str, usual: Iterable[str]
) -> int | None:
    """The number of a column, from 0; None: there is none, and none was asked for.

    :raises CommandError: the one that was asked for is not there
    """
    lower = [head.lower() for head in heads]
    if not asked:
        return next((lower.index(one) for one in usual if one in lower), None)
    if asked.lower() in lower:
        return lower.index(asked.lower())
    if asked.isdecimal() and int(asked) >= 1:
        if int(asked) > width:
            raise CommandError(f"{path}: there is no column {asked}; there are {width}")
        return int(asked) - 1
    if not heads:
        raise CommandError(
            f"{path}: its columns have no names", code="no_column", hint="say its number, from 1"
        )
    close = difflib.get_close_matches(asked, heads, 1)
    raise CommandError(
        f"{path}: there is no column {asked!r}; there are {', '.join(heads)}",
        code="no_column", hint=f"did you mean {close[0]}?" if close else "",
    )  # fmt: skip
