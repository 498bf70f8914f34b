"""The command line: how it is described, and what is said of a wrong one."""

import argparse
import difflib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import shtab

from twisted_bulk.commands.exits import MEANINGS, CommandError
from twisted_bulk.commands.output import Form
from twisted_bulk.system.units import duration

#: A command: its parsed options and the output; returns the exit status.
Run = Callable[..., int]
FILE: Any = shtab.FILE
FOLDER: Any = shtab.DIRECTORY

EPILOG = """\
The server is given by --server, or by BULKWAV_SERVER (default: http://localhost:10000); the token
by --token-file, BULKWAV_TOKEN_FILE or BULKWAV_TOKEN. Data goes to the standard output, all else to
the standard error. The server itself is run by `twistd -n bulkwav`.

Exit statuses:
"""


@dataclass(frozen=True)
class Command:
    """A subcommand.

    :param help: one line
    :param examples: a line each, without ``bulkwav``
    :param add: adds its own options
    :param is_local: it calls no server
    """

    name: str
    help: str
    run: Run
    examples: Sequence[str] = ()
    add: Callable[["Parser"], object] = lambda parser: None
    is_local: bool = False


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, which names what was probably meant."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs |= {"allow_abbrev": False}
        kwargs |= {"formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if choice:
            names = re.findall(r"[\w.-]+", choice[2])
            what = "a command" if message.startswith("argument COMMAND") else "possible here"
            raise self.wrong(f"{choice[1]!r} is not {what}", choice[1], names)
        raise self.wrong(message)

    def wrong(self, message: str, given: str = "", names: Iterable[str] = ()) -> CommandError:
        """The error for a wrong command line."""
        close = difflib.get_close_matches(given, list(names), 1)
        meant = f"did you mean {close[0]}? " if close else ""
        return CommandError(f"{message}", hint=f"{meant}see {self.prog} --help", code="usage")

    def options(self) -> list[str]:
        """All long options."""
        return [name for name in self._option_string_actions if name.startswith("--")]


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that all commands have; they stand before or behind the command's name."""
    group = parser.add_argument_group("server and output")

    def add(*names: str, **about: Any) -> Any:
        return group.add_argument(*names, default=argparse.SUPPRESS, **about)

    add("--server", metavar="URL", help="the server's API (BULKWAV_SERVER)")
    files = [
        add("--token-file", metavar="FILE", help="file with the token (BULKWAV_TOKEN_FILE)"),
        add("--ca", metavar="FILE", help="authorities to trust, too (BULKWAV_SERVER_CA)"),
    ]
    for one in files:
        one.complete = FILE
    add("--json", dest="form", action="store_const", const=Form.JSON, help="one JSON document")
    add("--jsonl", dest="form", action="store_const", const=Form.JSONL, help="one JSON a line")
    add("-q", "--quiet", dest="form", action="store_const", const=Form.QUIET, help="ids only")
    add("--plain", dest="form", action="store_const", const=Form.PLAIN,
        help="words, no tables and bars: for screen readers")  # fmt: skip


def make_parser(commands: Sequence[Command], version: str) -> Parser:
    """The whole command line."""
    statuses = "".join(f"  {status:3}  {means}\n" for status, means in MEANINGS.items())
    parser = Parser(
        prog="bulkwav",
        description="Hand in lists of URLs, watch them, fetch the zips.",
        epilog=EPILOG + statuses,
    )
    parser.add_argument("--version", action="version", version=f"bulkwav {version}")
    add_common(parser)
    names = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for command in commands:
        examples = "".join(f"  bulkwav {line}\n" for line in command.examples)
        sub = names.add_parser(
            command.name,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=f"Examples:\n{examples}" if examples else "",
        )
        command.add(sub)
        add_common(sub)
        sub.set_defaults(chosen=command, parser=sub)
    return parser


def parse(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    """The options on a command line.

    :raises CommandError: it is wrong
    """
    found, unknown = parser.parse_known_args(words)
    used: Parser = getattr(found, "parser", parser)
    for word in unknown:
        name = word.partition("=")[0]
        if name.startswith("-"):
            raise used.wrong(f"there is no option {name}", name, used.options())
    if unknown:
        raise used.wrong(f"{unknown[0]!r} is too much")
    return found


def seconds(text: str) -> float:
    """A duration: ``90``, ``30s``, ``2h``."""
    try:
        return duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not {error}") from None


def moment(text: str) -> str:
    """A time as the API takes it; ``7d`` is 7 days ago."""
    try:
        ago = duration(text) if text[-1:] in "smhdw" else None
    except ValueError:
        ago = None
    if ago is None:
        return text
    return (datetime.now(UTC) - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def number(text: str) -> float:
    """A number greater than 0."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number greater than 0")
    return found


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)
