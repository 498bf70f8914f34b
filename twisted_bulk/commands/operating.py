"""``queue``, ``nodes``, ``top``: how the server works, for its operators."""

import argparse
import itertools
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rich.live import Live
from rich.text import Text

from twisted_bulk.api.answers import Batch
from twisted_bulk.api_client.failures import Unreachable
from twisted_bulk.api_client.sync_client import Client
from twisted_bulk.commands.exits import DONE, CommandError
from twisted_bulk.commands.output import (
    Form,
    Output,
    aligned,
    count_text,
    size_text,
    time_text,
    visible,
)
from twisted_bulk.commands.progress import words

TOP_SECONDS = 2.0  # between two looks
TOP_BATCHES = 20  # that are shown at once
SETTINGS = ("max_doing", "qps", "cap")


def queue(options: argparse.Namespace, client: Client, output: Output) -> int:
    """Show or change the queue of parts."""
    changes: dict[str, float | bool | None] = {}
    if options.action == "pause":
        changes = {"paused": True}
    elif options.action == "stop":
        changes = {"stop": True}
    elif options.action == "resume":
        changes = {"paused": None, "stop": None}
    elif options.action == "set":
        changes = dict(map(_setting, options.settings))
    if (options.settings and options.action != "set") or (options.action == "set" and not changes):
        raise CommandError("settings go with `set`: bulkwav queue set max_doing=3")
    found = client.control(**changes) if changes else client.stats()
    parts = found["parts"]
    if output.is_json:
        output.document({name: parts[name] for name in ("counts", "settings", "waits_for", "eta")})
        return DONE
    output.lines(_queue_lines(parts))
    return DONE


def _setting(text: str) -> tuple[str, float | None]:
    """A setting as on the command line: ``qps=2``, or ``qps=none``, which takes it back."""
    name, equals, value = text.partition("=")
    if name not in SETTINGS or not equals:
        raise CommandError(f"{text!r} is no setting: expected {', '.join(SETTINGS)}, as qps=2")
    if value == "none":
        return name, None
    if name == "qps" and re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,6})?", value):
        return name, float(value)
    if name != "qps" and re.fullmatch(r"[0-9]{1,12}", value):
        return name, int(value)
    kind = "a number" if name == "qps" else "a whole number"
    raise CommandError(f"{text!r}: expected {kind} from 0, or none")


def _queue_lines(parts: dict[str, Any]) -> list[str]:
    lines = [f"{name:10}{count}" for name, count in parts["counts"].items()]
    if parts["counts"]["waiting"]:
        lines.append(f"{'waits for':10}{parts['waits_for']}")
    if parts["eta"]:
        lines.append(f"{'done in':10}{time_text(parts['eta'])}")
    lines += [
        f"{name:10}{'yes' if value is True else f'{value:,.10g}'}"
        for name, value in parts["settings"].items()
    ]
    return lines


def nodes(options: argparse.Namespace, client: Client, output: Output) -> int:
    """List the worker processes."""
    found = client.stats()
    workers = [
        {"queue": name, **worker}
        for name in ("parts", "callbacks")
        for worker in found[name]["workers"]
    ]
    if output.form is Form.JSON:
        output.document({"node": found["node"], "workers": workers})
    elif output.form is Form.JSONL:
        for worker in workers:
            output.document(worker)
    elif output.form is Form.QUIET:
        output.lines(dict.fromkeys(worker["id"] for worker in workers))
    else:
        output.table(
            ("WORKER", "QUEUE", "HOLDS", "SILENT", "WAITS FOR"),
            (
                (
                    one["id"], one["queue"], str(one["holds"]),
                    f"{one['silent']:.0f} s", one["waits_for"],
                )
                for one in workers
            ),
        )  # fmt: skip
    return DONE


def top(options: argparse.Namespace, client: Client, output: Output) -> int:
    """Show the queue and the running batches, again and again."""
    if not output.is_terminal:
        for stats, running in itertools.islice(_looks(client, options.every), options.times or 1):
            _print(stats, running, output)
        return DONE
    with Live(console=output.console, screen=True, auto_refresh=False) as live:
        for count in itertools.count(1):
            try:
                stats, running = next(_looks(client, 0))
                shown = _screen(stats, running, output.console.width)
            except Unreachable as error:  # it may come back
                shown = Text(f"{error.detail} | Ctrl-C ends")
            live.update(shown, refresh=True)
            if count == options.times:
                break
            time.sleep(options.every)
    return DONE


def _looks(client: Client, seconds: float) -> Iterator[tuple[dict[str, Any], list[Batch]]]:
    while True:
        states = ("running", "queued")
        found = itertools.chain.from_iterable(client.batches(status=one) for one in states)
        yield client.stats(), list(itertools.islice(found, TOP_BATCHES))
        time.sleep(seconds)


def _print(stats: dict[str, Any], running: list[Batch], output: Output) -> None:
    if output.is_json:
        output.document({"queue": stats["parts"], "node": stats["node"], "batches": running})
    elif output.form is Form.QUIET:
        output.lines(batch.task_id for batch in running)
    else:
        output.lines(_queue_lines(stats["parts"]))
        output.lines(f"{one.task_id} {one.status}, {one.schedule} %, {words(one)}"
                     for one in running)  # fmt: skip


def _screen(stats: dict[str, Any], running: list[Batch], width: int) -> Text:
    parts = stats["parts"]
    counts = ", ".join(f"{count} {name}" for name, count in parts["counts"].items() if count)
    rows: list[Sequence[str]] = [
        ("ID", "STATUS", "%", "DONE", "FAILED", "RATE", "LEFT", "WAITS FOR"),
    ]
    rows += [
        (
            one.task_id, one.status, str(one.schedule), f"{one.done} of {one.total}",
            str(one.failed or ""), f"{size_text(one.rate)}/s" if one.rate else "",
            time_text(one.eta), one.waits_for,
        )
        for one in running
    ]  # fmt: skip
    workers = sum(worker["silent"] < 5 for worker in parts["workers"])
    head = f"{counts or 'nothing'} | {count_text(workers, 'worker')} | Ctrl-C ends"
    return Text("\n".join([visible(head), "", *aligned(rows, width, ("WAITS FOR",))]))
