"""Where a command writes: data to the standard output, all else to the standard error."""

import os
import sys
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, TextIO

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from twisted_bulk.commands.exits import CommandError


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
    def is_live(self) -> bool:
        """Whether bars may be drawn on the standard error."""
        return (
            self.form is Form.TEXT and self.errors.is_terminal and not self.errors.is_dumb_terminal
        )

    @property
    def is_asking(self) -> bool:
        """Whether a person can be asked."""
        return sys.stdin.isatty() and self._err.isatty() and not self.is_json

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
            self._err.write(visible(text) + "\n")
            self._err.flush()

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write a table: aligned on a terminal; with tabs in a pipe; as words if plain."""
        if self.form is Form.PLAIN:
            for row in rows:
                self.line(", ".join(f"{h} {c}" for h, c in zip(heads, row, strict=True) if c))
        elif not self.console.is_terminal:
            self.lines("\t".join(row) for row in rows)
        else:
            table = Table(box=None, pad_edge=False, header_style="bold")
            for head in heads:
                table.add_column(head, overflow="ellipsis", no_wrap=True)
            for row in rows:
                table.add_row(*(Text(visible(cell)) for cell in row))
            self.console.print(table, soft_wrap=False)

    def fail(self, error: CommandError, name: str) -> None:
        """Tell an error: one line, with what to do next; with JSON also as a document."""
        if self.is_json:
            shown = {"code": error.code, "message": str(error), "hint": error.hint}
            self.document({"error": {**shown, "exit": error.status}})
        hint = f"; {error.hint}" if error.hint else ""
        self._err.write(visible(f"{name}: {error}{hint}") + "\n")
        self._err.flush()

    def close(self) -> None:
        """Write what is left; a reader that has gone is no error."""
        try:
            self._out.flush()
        except BrokenPipeError:
            drop_output()


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
