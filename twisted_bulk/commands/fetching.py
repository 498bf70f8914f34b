"""``get``: fetches the zips of a batch, and unpacks them."""

import argparse
import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path

from twisted_bulk.api.answers import Batch
from twisted_bulk.api_client.download import zips_of
from twisted_bulk.api_client.events import ENDED
from twisted_bulk.api_client.extraction import extract
from twisted_bulk.api_client.sync_client import Client
from twisted_bulk.commands.exits import FAILED, CommandError, outcome
from twisted_bulk.commands.output import Form, Output
from twisted_bulk.commands.progress import DownloadProgress
from twisted_bulk.commands.viewing import follow

#: In the folder of --extract: zips on their way, and a mark for each that was unpacked.
KEPT = ".bulkwav"


def get(options: argparse.Namespace, client: Client, output: Output) -> int:
    """Fetch the zips of a batch."""
    make_target(options)
    batch = client.batch(options.id)
    if batch.status not in ENDED and options.wait:
        batch = follow(client, options.id, output)
    if batch.status not in ENDED:
        raise CommandError(
            f"batch {batch.task_id} is {batch.status} ({batch.schedule} %)", FAILED, "not_ended",
            f"bulkwav watch {batch.task_id}, or --wait",
        )  # fmt: skip
    fetch(client, batch, options, output)
    return outcome(batch)


def make_target(options: argparse.Namespace) -> None:
    """Make the folder that an option names, before anything else is done.

    :raises CommandError: it cannot be made, or written to
    """
    target = options.extract or options.into
    if not target:
        return
    try:
        Path(target).mkdir(parents=True, exist_ok=True)
        if not os.access(target, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise CommandError(f"{target}: {error.strerror}", code="disk") from None


def fetch(client: Client, batch: Batch, options: argparse.Namespace, output: Output) -> None:
    """Fetch the zips of a batch that has ended, unpack them if that is asked for, and tell it."""
    target = Path(options.extract or options.into or ".")
    zips = zips_of(batch)
    digests = [str(part.sha256) for part in zips]
    count, paths = 0, list[Path]()
    try:
        if not options.extract:
            paths = _download(client, batch, target, options, output)
        elif options.force or not all((target / KEPT / one).exists() for one in digests):
            kept = target / KEPT
            paths = _download(client, batch, kept, options, output)
            count = extract(paths, target, force=options.force)
            for digest in digests:
                (kept / digest).touch()
            for path in paths:
                path.unlink()
            paths = []
        else:
            output.note(f"{target} has all of it already")
    except OSError as error:
        where = error.filename or target
        raise CommandError(f"{where}: {error.strerror or error}", FAILED, "disk") from None
    _told(batch, target, paths, count, options, output)


def _download(
    client: Client, batch: Batch, folder: Path, options: argparse.Namespace, output: Output
) -> list[Path]:
    with DownloadProgress(output) as progress:
        try:
            return client.download(batch, folder, progress=progress, force=options.force)
        except KeyboardInterrupt:
            with contextlib.suppress(OSError):
                output.note("what has come is kept; the same command goes on with it")
            raise


def _told(
    batch: Batch,
    target: Path,
    paths: Sequence[Path],
    count: int,
    options: argparse.Namespace,
    output: Output,
) -> None:
    if output.is_json:
        zips = [
            {"path": str(path), "size": part.size, "sha256": part.sha256}
            for path, part in zip(paths, zips_of(batch), strict=False)
        ]
        extracted = {"extracted": str(target), "files": count} if options.extract else {}
        about = {"task_id": batch.task_id, "status": batch.status, "failed": batch.failed}
        output.document({**about, "zips": zips, **extracted})
    elif options.extract:
        output.line(str(target))
    else:
        output.lines(map(str, paths))
    if batch.failed and output.form is not Form.QUIET:
        output.note(
            f"{batch.failed} of {batch.total} members are missing;"
            f" bulkwav members {batch.task_id} --status failed"
        )
