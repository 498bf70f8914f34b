"""``watch``, ``list``, ``show``, ``members``: batches looked at."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
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


@dataclass
class Each:
    """What became of several batches."""

    batches: list[Batch] = field(default_factory=list)
    errors: list[tuple[str, CommandError]] = field(default_factory=list)

    def told(self, output: Output) -> int:
        """Write the documents, where JSON is asked for; returns the status of the last error.

        :raises CommandError: the only one failed
        """
        if self.errors and len(self.batches) + len(self.errors) == 1:
            raise self.errors[0][1]
        if output.form is Form.JSONL:
            for batch in self.batches:
                output.document(batch)
        elif output.is_json and not self.errors and len(self.batches) == 1:
            output.document(self.batches[0])
        elif output.is_json:
            errors = [{"id": name, **error.shown} for name, error in self.errors]
            output.document({"batches": self.batches, "errors": errors})
        for _, error in self.errors:
            output.complain(error, "bulkwav")
        return self.errors[-1][1].status if self.errors else DONE


def each(one: One, ids: Sequence[str], client: Client, output: Output) -> Each:
    """Do something with one batch after the other; an error does not keep the others from it."""
    found = Each()
    for task_id in ids:
        try:
            found.batches.append(one(client, task_id))
        except ClientError as error:
            found.errors.append((task_id, command_error(error)))
    return found


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
    found = each(Client.batch, options.ids, client, output)
    if output.form is Form.QUIET:
        output.lines(_names(found.batches, client))
    elif not output.is_json:
        for batch in found.batches:
            output.lines(described(batch))
    return found.told(output)


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
