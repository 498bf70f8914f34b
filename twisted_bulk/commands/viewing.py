"""``watch``, ``list``, ``show``, ``members``: batches looked at."""

import argparse
from collections.abc import Sequence
from typing import cast

import msgspec

from twisted_bulk.api.answers import Batch
from twisted_bulk.api_client.fields import BatchConditions
from twisted_bulk.api_client.sync_client import Client
from twisted_bulk.commands.exits import DONE, outcome
from twisted_bulk.commands.output import Form, Output, size_text
from twisted_bulk.commands.progress import BatchProgress, words


def conditions_of(options: argparse.Namespace) -> BatchConditions:
    """The batches that options choose."""
    names = {"prefix": "id", "undelivered": "callback"}
    found = {}
    for name in ("status", "prefix", "code", "owner", "since", "before", "undelivered"):
        value = getattr(options, name, "")
        if value:
            found[names.get(name, name)] = "undelivered" if value is True else value
    return cast(BatchConditions, found)


def follow(client: Client, task_id: str, output: Output) -> Batch:
    """Show a batch until it has ended; returns it."""
    with BatchProgress(output) as progress:
        try:
            return client.wait(task_id, progress=progress)
        except KeyboardInterrupt:
            output.note(f"the batch goes on; bulkwav watch {task_id}")
            raise


def watch(options: argparse.Namespace, client: Client, output: Output) -> int:
    """Show a batch until it has ended."""
    batch = follow(client, options.id, output)
    if output.form is Form.JSON:
        output.document(batch)
    elif output.form is not Form.JSONL:
        show_briefly([batch], output)
    return outcome(batch)


def listed(options: argparse.Namespace, client: Client, output: Output) -> int:
    """List batches, newest first."""
    found: list[Batch] = []
    for batch in client.batches(**conditions_of(options)):
        if output.form is Form.JSONL:
            output.document(batch)
        found.append(batch)
        if len(found) == options.limit:
            output.note(f"the newest {options.limit}; more with --limit")
            break
    if output.form is Form.JSON:
        output.document({"batches": found})
    elif output.form is not Form.JSONL:
        show_briefly(found, output)
    return DONE


def show_briefly(batches: Sequence[Batch], output: Output) -> None:
    """List batches: a row for each, or their ids."""
    if output.form is Form.QUIET:
        output.lines(batch.task_id for batch in batches)
        return
    heads = ("ID", "STATUS", "%", "DONE", "FAILED", "TOTAL", "CREATED", "ZIP")
    rows = [
        (
            batch.task_id, batch.status, str(batch.schedule), str(batch.done),
            str(batch.failed), str(batch.total), batch.created, batch.download,
        )
        for batch in batches
    ]  # fmt: skip
    shown = -1 if output.is_terminal else None  # half a link is of no use
    output.table(heads[:shown], [row[:shown] for row in rows], ("CREATED",))


def show(options: argparse.Namespace, client: Client, output: Output) -> int:
    """Show one batch, or several."""
    found = [client.batch(task_id) for task_id in options.ids]
    if output.form is Form.JSON:
        output.document(found[0] if len(found) == 1 else {"batches": found})
    elif output.form is Form.JSONL:
        for batch in found:
            output.document(batch)
    elif output.form is Form.QUIET:
        output.lines(batch.task_id for batch in found)
    else:
        for batch in found:
            output.lines(described(batch))
    return DONE


def described(batch: Batch) -> list[str]:
    """A batch in lines of name and value."""
    facts = {
        "id": batch.task_id, "owner": batch.owner, "status": batch.status,
        "progress": f"{batch.schedule} %, {words(batch)}", "size": size_text(int(batch.bytes)),
        "run": str(batch.run) if batch.run > 1 else "", "created": batch.created,
        "started": batch.started or "", "finished": batch.finished or "",
    }  # fmt: skip
    lines = [f"{name:10}{value}" for name, value in facts.items() if value]
    lines += [f"{'zip':10}{part.download}" for part in batch.parts if part.download]
    lines += [
        f"{'failed':10}{one.members} by {one.code}" + (f" of {one.host}" if one.host else "")
        for one in batch.failures
    ]
    if isinstance(batch.callback, msgspec.Struct):
        lines.append(f"{'callback':10}{batch.callback.state}")
    return lines


def members(options: argparse.Namespace, client: Client, output: Output) -> int:
    """List the members of a batch."""
    names = ("status", "code", "host", "text", "part")
    conditions = {name: getattr(options, name) for name in names if getattr(options, name)}
    found = client.members(options.id, **conditions)
    if output.form is Form.JSONL:
        for one in found:
            output.document(one)
    elif output.form is Form.JSON:
        output.document({"members": list(found)})
    elif output.form is Form.QUIET:
        output.lines(str(one.member) for one in found)
    else:
        output.table(
            ("MEMBER", "STATUS", "CODE", "ATTEMPTS", "BYTES", "NAME", "URL", "DETAIL"),
            (
                (
                    str(one.member), one.status, one.code, str(one.attempts), str(one.bytes),
                    one.name, one.url, one.detail,
                )
                for one in found
            ),
            ("NAME", "URL", "DETAIL"),
        )  # fmt: skip
    return DONE
