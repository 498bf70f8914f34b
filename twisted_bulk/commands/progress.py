"""How far a batch or a download is: a bar on a terminal, else a line now and then."""

import time
from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from twisted_bulk.api.answers import Batch
from twisted_bulk.api_client.download import Fetched
from twisted_bulk.commands.output import Form, Output, size_text, time_text, visible

LINE_SECONDS = 5.0  # between two lines in a pipe


class _Shown:
    """Shown while a block runs: a bar of these columns on a terminal, else lines."""

    def __init__(self, output: Output, *columns: ProgressColumn) -> None:
        self._output = output
        self._bar: Progress | None = None
        if output.is_live:
            name = TextColumn("{task.description}", markup=False)
            self._bar = Progress(name, BarColumn(), *columns, console=output.errors)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class BatchProgress(_Shown):
    """Shows a batch at its changes; with JSON lines each change is a document."""

    def __init__(self, output: Output) -> None:
        super().__init__(output, TextColumn("{task.fields[words]}", markup=False))
        self._task: TaskID | None = None
        self._last = ("", -LINE_SECONDS)
        if self._bar is not None:
            self._task = self._bar.add_task("", total=100, words="")

    def __call__(self, batch: Batch) -> None:
        """Show it."""
        if self._output.form is Form.JSONL:
            self._output.document(batch)
        if self._bar is not None and self._task is not None:
            name = visible(f"{batch.task_id} {batch.status}")
            about = {"description": name, "words": visible(words(batch))}
            self._bar.update(self._task, completed=batch.schedule, **about)  # type: ignore[arg-type]
            return
        status, then = self._last
        now = time.monotonic()
        if batch.status != status or now - then >= LINE_SECONDS:
            self._last = batch.status, now
            text = f"{batch.task_id} {batch.status}, {batch.schedule} %, {words(batch)}"
            self._output.note(text)


def words(batch: Batch) -> str:
    """How far a batch is, in a line."""
    found = [f"{batch.done} of {batch.total} done"]
    if batch.failed:
        found.append(f"{batch.failed} failed")
    if batch.rate:
        found.append(f"{size_text(batch.rate)}/s")
    if batch.waits_for:
        found.append(f"waits for {batch.waits_for}")
    if batch.eta is not None and batch.status in ("queued", "running"):
        found.append(f"{time_text(batch.eta)} left")
    return ", ".join(found)


class DownloadProgress(_Shown):
    """Shows how much of the zips is here."""

    def __init__(self, output: Output) -> None:
        columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        super().__init__(output, *columns)
        self._tasks: dict[int, TaskID] = {}
        self._then = -LINE_SECONDS

    def __call__(self, now: Fetched) -> None:
        """Show it."""
        if self._bar is not None:
            if now.number not in self._tasks:
                of = f" ({now.number} of {now.zips})" if now.zips > 1 else ""
                self._tasks[now.number] = self._bar.add_task(
                    visible(now.path.name) + of, total=now.size
                )
            self._bar.update(self._tasks[now.number], completed=now.bytes)
            return
        moment = time.monotonic()
        if moment - self._then >= LINE_SECONDS or now.bytes == now.size:
            self._then = moment
            self._output.note(
                f"{now.path.name}: {size_text(now.bytes)} of {size_text(now.size)}"
                + (f", zip {now.number} of {now.zips}" if now.zips > 1 else "")
            )
