"""``submit``: hands a batch in, or tells what would become of it."""

import argparse
from typing import Any

import msgspec

from twisted_bulk.api.answers import Accepted
from twisted_bulk.api.plans import Preflight
from twisted_bulk.api_client.sync_client import Client
from twisted_bulk.commands.exits import DONE, FAILED, PARTIAL, CommandError, outcome
from twisted_bulk.commands.fetching import fetch, make_target
from twisted_bulk.commands.inputs import Columns, read_order
from twisted_bulk.commands.output import Form, Output, count_text, size_text, time_text
from twisted_bulk.commands.viewing import follow


def submit(options: argparse.Namespace, client: Client, output: Output) -> int:
    """Hand a batch in; wait for it, and fetch it, if that is asked for."""
    if options.probe and not options.check:
        raise CommandError("--probe goes with --check")
    columns = Columns(options.url_column, options.name_column, options.sha256_column)
    order = read_order(options.files, options.format, columns) | _fields(options)
    if options.check:
        return _check(client.check(order, options.probe), output)
    make_target(options)
    answer = client.submit_order(order)
    is_followed = options.watch or options.into or options.extract
    if not (is_followed and output.is_json):
        _told(answer, output)
    if not is_followed:
        return DONE
    try:
        batch = follow(client, answer.task_id, output)
    except KeyboardInterrupt:
        if output.form is Form.JSON:  # the only place where its id stands
            output.document({"task_id": answer.task_id, "status": "unknown"})
        raise
    if batch.status in ("done", "partial") and (options.into or options.extract):
        fetch(client, batch, options, output)
    elif output.form is Form.JSON:
        output.document(batch)
    return outcome(batch)


def _told(answer: Accepted | Any, output: Output) -> None:
    """Tell what became of a batch that was handed in."""
    if output.is_json:
        output.document(answer)
        return
    output.line(answer.task_id)
    if isinstance(answer, Accepted):
        place = f", place {answer.position} in the queue" if answer.position else ""
        output.note(
            f"queued: {count_text(answer.total, 'URL')}{place}; bulkwav watch {answer.task_id}"
        )
    else:
        output.note(f"this batch was handed in before: it is {answer.status}")


def _fields(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of the batch that options give."""
    given = {
        "task_id": options.id, "url": options.callback, "policy": options.policy,
        "priority": options.priority, "filename": options.filename, "layout": options.layout,
        "expires": options.expires, "timeout": options.timeout, "compress": options.compress,
    }  # fmt: skip
    found: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if options.header:
        found["headers"] = dict(options.header)
    if options.retry_on:
        found["retry_on"] = options.retry_on
    return found


def _check(found: Preflight, output: Output) -> int:
    """Tell what would become of a batch; returns 3 if some members would fail at once."""
    refused = sum(one.members for one in found.refused)
    if output.is_json:
        output.document(found)
    elif output.form is Form.QUIET:
        output.line(str(refused))
    else:
        output.lines(_findings(found))
    if found.callback is not None:
        output.note(f"the callback cannot be sent: {found.callback.detail}")
    return DONE if not refused else FAILED if refused >= found.checked else PARTIAL


def _findings(found: Preflight) -> list[str]:
    lines = [f"{count_text(found.total, 'URL')}, {count_text(found.parts, 'zip')}"]
    hosts = [f"{one.host} ({one.members})" for one in found.hosts[:5]]
    more = len(found.hosts) - len(hosts) + found.more_hosts
    lines.append(f"hosts: {', '.join(hosts)}" + (f", {more} more" if more > 0 else ""))
    for title, findings in (
        ("would fail at once", found.refused),
        ("stand twice", found.duplicates),
        ("get another name", found.renamed),
    ):
        for one in findings:
            why = f": {one.code}, {one.detail}" if one.detail else ""
            lines.append(f"{one.members} {title}{why}; as {one.examples[0]}")
    if isinstance(found.probe, msgspec.Struct):
        probe = found.probe
        size = "unknown" if probe.bytes is None else f"about {size_text(int(probe.bytes))}"
        lines.append(f"size: {size} ({probe.sized} of {probe.asked} that were asked told it)")
        for name, seconds in (
            ("fetching", probe.fetch_seconds), ("downloading the zips", probe.download_seconds)
        ):  # fmt: skip
            if seconds is not None:
                lines.append(f"{name}: about {time_text(seconds)}")
        lines += [f"{one.members} do not answer well: {one.code}; as {one.example}"
                  for one in probe.failures]  # fmt: skip
    return lines
