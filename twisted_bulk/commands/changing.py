"""``cancel``, ``retry``, ``delete``, ``notify``, ``priority``: batches changed, one or many."""

import argparse
import sys
import time
from collections.abc import Sequence

import msgspec

from twisted_bulk.api.answers import Batch
from twisted_bulk.api.plans import BulkAction
from twisted_bulk.api_client.events import ENDED
from twisted_bulk.api_client.failures import Refused
from twisted_bulk.api_client.sync_client import Client
from twisted_bulk.commands.exits import DONE, FAILED, CommandError, outcome
from twisted_bulk.commands.output import Output, count_text
from twisted_bulk.commands.viewing import One, conditions_of, each, follow, show_briefly

POLL_SECONDS = 0.5  # between two looks at a bulk action
MAX_LEFT_SHOWN = 5  # reasons for which batches are left as they are


def change(
    action: str, one: One, options: argparse.Namespace, client: Client, output: Output
) -> int:
    """Do ``action`` with the batches that are named, or with those that conditions choose.

    :param one: does it with one batch
    """
    conditions = conditions_of(options)
    if bool(options.ids) == bool(conditions or options.all):
        raise CommandError("give ids, or conditions such as --status, or --all")
    if options.ids:
        if action == "delete":
            confirm(
                options, output, f"delete {count_text(len(options.ids), 'batch')} with all zips?"
            )
        return _each(one, options.ids, client, output)
    plan = client.plan_bulk(action, conditions)
    while plan.state == "finding":
        time.sleep(POLL_SECONDS)
        plan = client.bulk(plan.id)
    if plan.eligible:
        confirm(options, output, f"{action} {plan.eligible} of {count_text(plan.total, 'batch')}?")
        plan = _started(client, plan, output)
    return _ended(plan, output)


def confirm(options: argparse.Namespace, output: Output, question: str) -> None:
    """Ask before something that cannot be undone.

    :raises CommandError: nobody can be asked and --yes is not given, or the answer is no
    """
    if options.yes:
        return
    if not output.is_asking:
        raise CommandError(f"{question} nobody can be asked here", hint="say --yes")
    output.note(f"{question} [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was changed", FAILED, "not_confirmed")


def _each(one: One, ids: Sequence[str], client: Client, output: Output) -> int:
    """Change one batch after the other."""
    found = each(one, ids, client, output)
    if not output.is_json:
        show_briefly(found.batches, client, output)
    return found.told(output)


def _started(client: Client, plan: BulkAction, output: Output) -> BulkAction:
    """Start a bulk action; returns it when it has ended."""
    plan, told = client.start_bulk(plan.id), -1
    while plan.state == "running":
        if plan.done != told:
            output.note(f"{plan.action}: {plan.done} of {plan.eligible}")
            told = plan.done
        time.sleep(POLL_SECONDS)
        plan = client.bulk(plan.id)
    return plan


def _ended(plan: BulkAction, output: Output) -> int:
    if output.is_json:
        output.document(plan)
    else:
        output.line(f"{plan.action}: {plan.done} of {count_text(plan.total, 'batch')}")
        for left in plan.left[:MAX_LEFT_SHOWN]:
            output.note(f"{count_text(left.batches, 'batch')} left alone: {left.reason}")
    return FAILED if plan.state == "stopped" else DONE


def cancel(options: argparse.Namespace, client: Client, output: Output) -> int:
    """End batches that are queued or running."""
    return change("cancel", Client.cancel, options, client, output)


def delete(options: argparse.Namespace, client: Client, output: Output) -> int:
    """Remove batches that have ended, with their zips."""

    def one(client: Client, task_id: str) -> Batch:
        batch = client.delete(task_id)
        # What the server answers is the batch as it was; its links are gone.
        parts = [msgspec.structs.replace(part, download="") for part in batch.parts]
        return msgspec.structs.replace(batch, status="deleted", download="", parts=parts)

    return change("delete", one, options, client, output)


def notify(options: argparse.Namespace, client: Client, output: Output) -> int:
    """Send last callbacks again."""
    return change("notify", Client.notify, options, client, output)


def priority(options: argparse.Namespace, client: Client, output: Output) -> int:
    """Give batches that wait another priority."""

    def one(client: Client, task_id: str) -> Batch:
        batch = client.prioritise(task_id, options.priority)
        if batch.status in ENDED:
            raise Refused(409, "has_ended", f"batch {task_id} has ended")
        return batch

    return _each(one, options.ids, client, output)


def retry(options: argparse.Namespace, client: Client, output: Output) -> int:
    """Fetch again what failed."""
    only = {name: getattr(options, name) for name in ("host", "text") if getattr(options, name, "")}
    if options.ids and options.code:
        only["code"] = options.code
    body = {"only": only} if only else {}
    if only and not options.ids:
        raise CommandError("--host and --text need ids of batches")
    if options.check:
        if len(options.ids) != 1:
            raise CommandError("--check needs the id of one batch")
        plan = client.retry_plan(options.ids[0], **body)
        if output.is_json:
            output.document(plan)
        else:
            output.line(f"{count_text(plan.retried, 'member')} would be fetched again")
        return DONE
    if options.watch and len(options.ids) != 1:
        raise CommandError("--watch needs the id of one batch")
    if options.ids:
        options = argparse.Namespace(**{**vars(options), "code": ""})
    if options.watch:
        client.retry(options.ids[0], **body)
        batch = follow(client, options.ids[0], output)
        _each(Client.batch, [batch.task_id], client, output)
        return outcome(batch)
    return change("retry", lambda client, one: client.retry(one, **body), options, client, output)
