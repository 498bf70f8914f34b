"""The subcommands of ``bulkwav``, with their options and examples."""

import argparse
from collections.abc import Sequence
from typing import Any

import shtab

from twisted_bulk import __version__
from twisted_bulk.commands import changing, fetching, operating, submit, viewing
from twisted_bulk.commands.demo import demo
from twisted_bulk.commands.exits import DONE, CommandError
from twisted_bulk.commands.inputs import FORMATS
from twisted_bulk.commands.output import Output
from twisted_bulk.commands.parser import (
    FILE,
    FOLDER,
    Command,
    Parser,
    make_parser,
    moment,
    number,
    positive,
    seconds,
)

SHELLS = ("bash", "zsh", "fish")


def _complete(parser: Parser, name: str, complete: Any, **about: Any) -> None:
    """Add an option or argument whose value is a file or a folder."""
    added: Any = parser.add_argument(name, **about)
    added.complete = complete


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise CommandError(f"--header {text!r}: expected `Name: value`")
    return name.strip(), value.strip()


def _policy(text: str) -> str | float:
    try:
        return text if text in ("partial", "strict") else float(text)
    except ValueError:
        raise CommandError(f"--policy {text!r}: expected partial, strict, or 0.95") from None


def _add_submit(parser: Parser) -> None:
    what = "URLs: a line each, CSV, JSON or JSON lines; - is the standard input"
    _complete(parser, "files", FILE, nargs="+", metavar="FILE", help=what)
    add = parser.add_argument
    add("--id", help="the batch's id (default: a new one)")
    add("--watch", action="store_true", help="show it until it has ended; exit by its outcome")
    _add_target(parser)
    add("--check", action="store_true", help="tell what would become of it; nothing is queued")
    add("--probe", type=positive, default=0, metavar="N", help="with --check: ask N for their size")
    add("--format", choices=FORMATS, default="auto", help="of the files (default: as they look)")
    for what in ("url", "name", "sha256"):
        add(
            f"--{what}-column", default="", metavar="NAME", help=f"the CSV's column with the {what}"
        )
    add("--callback", metavar="URL", help="is told of progress and of the end")
    add("--policy", type=_policy, help="partial (default), strict, or the share that must succeed")
    add("--priority", type=int, help="higher ones go first (default: 0)")
    add("--header", type=_header, action="append", metavar="'NAME: VALUE'", help="for all requests")
    add("--filename", help="of the zip")
    add("--layout", choices=("flat", "sharded"), help="of the zip")
    add("--compress", choices=("auto", "store", "deflate"), help="of the zip")
    add("--expires", type=seconds, metavar="TIME", help="that it may wait, as 2h")
    add("--timeout", type=seconds, metavar="TIME", help="that it may run, as 2h")
    add("--retry-on", type=int, action="append", metavar="STATUS", help="tried again, too")


def _add_target(parser: Parser) -> None:
    _complete(parser, "--into", FOLDER, metavar="DIR", help="fetch the zips into this folder")
    _complete(parser, "--extract", FOLDER, metavar="DIR", help="fetch the zips, unpack them there")
    parser.add_argument("--force", action="store_true", help="replace other files of these names")


def _add_conditions(parser: Parser) -> None:
    add = parser.add_argument
    add("--status", default="", help="states, with commas between them")
    add("--prefix", default="", help="how the id begins")
    add("--code", default="", help="a failed member's error code")
    add("--owner", default="", help="the token's name")
    add("--since", type=moment, default="", help="created then or later: 2026-11-30T18:00Z, or 2h")
    add("--before", type=moment, default="", help="created before then; 7d: older than 7 days")
    add("--undelivered", action="store_true", help="the last callback was given up")


def _add_list(parser: Parser) -> None:
    _add_conditions(parser)
    parser.add_argument("--limit", type=positive, default=50, metavar="N", help="(default: 50)")


def _add_one(parser: Parser) -> None:
    parser.add_argument("id", metavar="ID")


def _add_some(parser: Parser) -> None:
    parser.add_argument("ids", metavar="ID", nargs="+")


def _add_many(parser: Parser) -> None:
    parser.add_argument("ids", metavar="ID", nargs="*")
    _add_conditions(parser)
    parser.add_argument("--all", action="store_true", help="all batches of the token")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def _add_retry(parser: Parser) -> None:
    _add_many(parser)
    parser.add_argument("--host", default="", help="only failed members of this host")
    parser.add_argument("--text", default="", help="only failed members with this text")
    parser.add_argument("--check", action="store_true", help="tell how many would be fetched")
    parser.add_argument("--watch", action="store_true", help="show it until it has ended")


def _add_priority(parser: Parser) -> None:
    parser.add_argument("priority", type=int, metavar="PRIORITY")
    _add_some(parser)


def _add_members(parser: Parser) -> None:
    _add_one(parser)
    states = ("done", "unverified", "failed", "waiting")
    parser.add_argument("--status", choices=states, default="")
    for name, text in (("code", "error code"), ("host", "host"), ("text", "text in it")):
        parser.add_argument(f"--{name}", default="", help=f"those with this {text}")
    parser.add_argument("--part", type=positive, default=0, help="those of this part")


def _add_get(parser: Parser) -> None:
    _add_one(parser)
    _add_target(parser)
    parser.add_argument("--wait", action="store_true", help="wait until it has ended")


def _add_queue(parser: Parser) -> None:
    actions = ("pause", "resume", "stop", "set")
    parser.add_argument("action", choices=actions, nargs="?", help="(default: show it)")
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE",
                        help="max_doing, qps, cap; =none takes one back")  # fmt: skip


def _add_top(parser: Parser) -> None:
    parser.add_argument("--every", type=number, default=2.0, metavar="S", help="(default: 2)")
    parser.add_argument("--times", type=positive, default=0, metavar="N", help="(default: no end)")


def _add_worker(parser: Parser) -> None:
    add = parser.add_argument
    add("target", metavar="MODULE:NAME", help="a function, or a `Functions` with several")
    add("--queue", metavar="URL", default="", help="redis://HOST, embedded:DIR, sqlite:///FILE ...")
    add("--name", default="default", help="of the queue (default: default)")
    add("--slots", type=positive, default=8, metavar="N", help="calls at once (default: 8)")
    add("--timeout", type=seconds, default=0.0, metavar="TIME", help="that a call may take")
    add("--processes", action="store_true", help="run the function in child processes")
    add("--max-doing", type=positive, metavar="N", help="calls at once in all workers")
    add("--qps", type=number, metavar="N", help="calls begun a second in all workers")
    add("--no-run", default="", metavar="TIMES", help="when nothing is begun: 22:00-06:00")
    _complete(parser, "--spool", FOLDER, default="", metavar="DIR",
              help="keep results there while the queue is away")  # fmt: skip
    add(
        "--drain",
        type=seconds,
        default=30.0,
        metavar="TIME",
        help="that a stop waits (30s)",
    )
    add("--until-empty", action="store_true", help="end when nothing is left to do")


def _work(options: argparse.Namespace, output: Output) -> int:
    # Imported here: it needs Twisted, which the other commands need not wait for.
    from twisted_bulk.commands.worker import work

    return work(options, output)


def _add_completion(parser: Parser) -> None:
    parser.add_argument("shell", choices=SHELLS)


def _completion(options: object, output: Output) -> int:
    output.console.file.write(
        shtab.complete(make_parser(COMMANDS, __version__), shell=options.shell) + "\n"  # type: ignore[attr-defined]
    )
    return DONE


COMMANDS: Sequence[Command] = (
    Command("submit", "hand in lists of URLs as one batch", submit.submit,
            ("submit urls.txt --watch", "submit calls.csv --url-column recording --extract calls",
             "submit - --id march < urls.txt", "submit urls.txt --check --probe 100"),
            _add_submit),
    Command("watch", "show a batch until it has ended", viewing.watch,
            ("watch march", "watch march --jsonl"), _add_one),
    Command("list", "list batches, newest first", viewing.listed,
            ("list", "list --status failed,partial --since 2026-11-30"), _add_list),
    Command("show", "show a batch", viewing.show, ("show march", "show march --json"), _add_some),
    Command("members", "list the members of a batch", viewing.members,
            ("members march --status failed", "members march --jsonl"), _add_members),
    Command("get", "fetch the zips of a batch", fetching.get,
            ("get march", "get march --extract calls"), _add_get),
    Command("cancel", "end batches that are queued or running", changing.cancel,
            ("cancel march", "cancel --status queued --yes"), _add_many),
    Command("retry", "fetch again what failed", changing.retry,
            ("retry march --watch", "retry march --host pbx.example"), _add_retry),
    Command("delete", "remove batches that have ended, with their zips", changing.delete,
            ("delete march --yes", "delete --before 7d --yes"), _add_many),
    Command("notify", "send last callbacks again, or now", changing.notify,
            ("notify march", "notify --undelivered --yes"), _add_many),
    Command("priority", "give batches that wait another priority", changing.priority,
            ("priority 10 march",), _add_priority),
    Command("queue", "show the queue, pause it, change its limits", operating.queue,
            ("queue", "queue pause", "queue set max_doing=3 qps=none"), _add_queue),
    Command("nodes", "list the worker processes", operating.nodes, ("nodes --json",)),
    Command("top", "show the queue and the running batches, live", operating.top,
            ("top", "top --json"), _add_top),
    Command("worker", "run your own functions on a queue", _work,
            ("worker jobs:resize --queue redis://localhost/0 --name images",), _add_worker, True),
    Command("demo", "see the whole system work, without a network", demo, is_local=True),
    Command("completion", "print the completion for a shell", _completion,
            ("completion bash > ~/.local/share/bash-completion/completions/bulkwav",),
            _add_completion, True),
)  # fmt: skip
