"""``watch``, ``list``, ``show``, ``members``: batches looked at."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import msgspec

from twisted_bulk.api.answers import Batch
from twisted_bulk.api_client.failures import ClientError
from twisted_bulk.api_client.fields import BatchConditions
from twisted_bulk.api_client.sync_client import Client
from twisted_bulk.commands.exits import DONE, CommandError, command_error, outcome
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
        show_briefly([batch], client, output)
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
        show_briefly(found, client, output)
    return DONE


One = Callable[[Client, str], Batch]


def each(
    one: One, ids: Sequence[str], client: Client, output: Output
) -> tuple[list[Batch], CommandError | None]:
    """Do something with one batch after the other; an error does not keep the others from it.

    :returns: the batches, and the last error; the errors before it were told
    """
    found: list[Batch] = []
    failed: CommandError | None = None
    for task_id in ids:
        try:
            found.append(one(client, task_id))
        except ClientError as error:
            if failed is not None and not output.is_json:
                output.fail(failed, "bulkwav")
            failed = command_error(error)
    return found, failed


def show_briefly(batches: Sequence[Batch], client: Client, output: Output) -> None:
    """List batches: a row for each, or their ids."""
    ids = list(_names(batches, client))
    if output.form is Form.QUIET:
        output.lines(ids)
        return
    heads = ("ID", "STATUS", "%", "DONE", "FAILED", "TOTAL", "CREATED", "ZIP")
    rows = [
        (
            name, batch.status, str(batch.schedule), str(batch.done),
            str(batch.failed), str(batch.total), batch.created, batch.download,
        )
        for name, batch in zip(ids, batches, strict=True)
    ]  # fmt: skip
    shown = -1 if output.is_terminal else None  # half a link is of no use
    output.table(heads[:shown], [row[:shown] for row in rows], ("CREATED",))


def _names(batches: Sequence[Batch], client: Client) -> Iterator[str]:
    """Ids by which this client finds batches: with the name of another token before them."""
    own = client.who().name if any(batch.owner for batch in batches) else ""
    for batch in batches:
        is_other = batch.owner not in ("", own)
        yield f"{batch.owner}:{batch.task_id}" if is_other else batch.task_id


def show(options: argparse.Namespace, client: Client, output: Output) -> int:
    """Show one batch, or several."""
    found, failed = each(Client.batch, options.ids, client, output)
    if failed is not None and output.form is Form.JSON:
        raise failed
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
    if failed is not None:
        raise failed
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
