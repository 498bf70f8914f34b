"""Where a command writes: data to the standard output, all else to the standard error."""

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, TextIO

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.console import Console

from twisted_bulk.commands.exits import CommandError

MIN_COLUMN = 8  # cells of a column that is cut; a narrower one is left out


class Form(Enum):
    """How data is written."""

    TEXT = "text"  # for people: a table on a terminal, fields with tabs between them in a pipe
    PLAIN = "plain"  # sentences, for screen readers
    JSON = "json"  # one document
    JSONL = "jsonl"  # one document a line
    QUIET = "quiet"  # ids only


class Output:
    """The standard output and the standard error of one command."""

    def __init__(
        self, form: Form = Form.TEXT, out: TextIO | None = None, err: TextIO | None = None
    ) -> None:
        self.form = form
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self.console = Console(file=self._out, highlight=False, soft_wrap=True, markup=False)
        self.errors = Console(file=self._err, highlight=False, soft_wrap=True, markup=False)

    @property
    def is_json(self) -> bool:
        """Whether data is JSON."""
        return self.form in (Form.JSON, Form.JSONL)

    @property
    def is_terminal(self) -> bool:
        """Whether data is shown as tables on a terminal."""
        return self.form is Form.TEXT and self.console.is_terminal

    @property
    def is_live(self) -> bool:
        """Whether bars may be drawn on the standard error."""
        return (
            self.form is Form.TEXT and self.errors.is_terminal and not self.errors.is_dumb_terminal
        )

    @property
    def is_asking(self) -> bool:
        """Whether a person can be asked."""
        is_read = self.form in (Form.TEXT, Form.PLAIN)
        return sys.stdin.isatty() and self._err.isatty() and is_read

    def document(self, value: Any) -> None:
        """Write JSON: one document, in one line."""
        self._out.write(msgspec.json.encode(value).decode() + "\n")
        self._out.flush()

    def line(self, text: str) -> None:
        """Write a line of data."""
        self._out.write(visible(text) + "\n")

    def lines(self, texts: Iterable[str]) -> None:
        """Write lines of data."""
        for text in texts:
            self.line(text)

    def note(self, text: str) -> None:
        """Tell people something that is no data; not where ids or JSON are asked for."""
        if self.form in (Form.TEXT, Form.PLAIN):
            with suppress(OSError):  # nobody reads it: no reason to stop
                self._err.write(visible(text) + "\n")
                self._err.flush()

    def table(
        self, heads: Sequence[str], rows: Iterable[Sequence[str]], flexible: Sequence[str] = ()
    ) -> None:
        """Write a table: aligned on a terminal; with tabs in a pipe; as words if plain.

        :param flexible: columns that are cut to the terminal's width, or left out
        """
        if self.form is Form.PLAIN:
            for row in rows:
                self.line(", ".join(f"{h} {c}" for h, c in zip(heads, row, strict=True) if c))
        elif not self.is_terminal:
            self.lines("\t".join(row) for row in rows)
        else:
            self.lines(aligned([heads, *rows], self.console.width, flexible))

    def fail(self, error: CommandError, name: str) -> None:
        """Tell an error: one line, with what to do next; with JSON also as a document."""
        if self.is_json:
            self.document({"error": error.shown})
        self.complain(error, name)

    def complain(self, error: CommandError, name: str) -> None:
        """Tell an error to people, in one line."""
        hint = f"; {error.hint}" if error.hint else ""
        with suppress(OSError):
            self._err.write(visible(f"{name}: {error}{hint}") + "\n")
            self._err.flush()

    def close(self) -> None:
        """Write what is left; a reader that has gone is no error."""
        try:
            self._out.flush()
        except BrokenPipeError:
            drop_output()


def aligned(
    rows: Sequence[Sequence[str]], width: int, flexible: Sequence[str] = ()
) -> Iterable[str]:
    """Lines of a table, whose first row is its head, for a terminal of so many columns."""
    cells = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    free = [number for number, head in enumerate(rows[0]) if head in flexible]
    left = width - 1 - sum(2 + size for number, size in enumerate(widths) if number not in free)
    for count, number in enumerate(sorted(free, key=lambda number: widths[number])):
        share = left // (len(free) - count) - 2
        widths[number] = min(widths[number], share) if share >= MIN_COLUMN else 0
        left -= widths[number] + 2
    shown = [number for number, size in enumerate(widths) if size]
    for row in cells:
        yield "  ".join(_fitted(row[number], widths[number]) for number in shown).rstrip()


def _fitted(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "\N{HORIZONTAL ELLIPSIS}"


def drop_output() -> None:
    """Write to nobody from now on, so that the interpreter's own flush does not fail."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())


def visible(text: str) -> str:
    """A text without control characters, which a server's or a file's words may have."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def count_text(number: int, what: str) -> str:
    """A number of things: ``1 zip``, ``2 batches``."""
    if number != 1:
        what += "es" if what.endswith("ch") else "s"
    return f"{number} {what}"


def size_text(size: float) -> str:
    """Bytes, as people read them; powers of 1000, as in all of bulkwav."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def time_text(seconds: float | None) -> str:
    """A duration, as people read it; empty where it is unknown."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
