"""A batch as its users see it: the objects of the API and of the callbacks."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from twisted_bulk.batch.delivery import delivery, time_text
from twisted_bulk.batch.expectations import HTML
from twisted_bulk.batch.failure_counts import FailureCounts, Group
from twisted_bulk.batch.masks import mask
from twisted_bulk.batch.model import Outcome, PartProgress, PartResult, Spec, Zip, task_of
from twisted_bulk.jobs.group_model import ENDED, GroupRecord, PartRecord

MAX_ERRORS = 100  # failed members in a report; the manifest has all
MAX_GROUPS = 100  # groups of failed members in a report, besides one for each error
MAX_URL_LENGTH = 500  # characters of their URLs; longer ones are cut
#: The limits for a batch in a list of batches. One batch by itself is shown with all its parts.
MAX_BRIEF_ERRORS, MAX_BRIEF_URL_LENGTH, MAX_BRIEF_PARTS, MAX_BRIEF_GROUPS = 3, 100, 10, 3
DOWNLOADABLE_STATES = ("done", "partial")  # of a batch


def percent(units: int, total: int, state: str) -> int:
    """The field ``schedule``: whole percents; 100 only when the batch has ended.

    :param units: thousandths of members that are done
    """
    if state in ENDED:
        return 100
    return min(99, units // (total * 10)) if total else 0


def _part_status(part: PartRecord, result: PartResult | None) -> str:
    if part.state == "doing":
        return "running"
    if part.state in ("todo", "later"):
        return "queued"
    if result is None:
        return part.why if part.why in ("cancelled", "expired") else "failed"
    if not result.failed:
        return "done"
    return "partial" if result.done else "failed"


def part_results(record: GroupRecord) -> list[PartResult | None]:
    """The results of all parts, in order; None: the part has none yet."""
    return [
        msgspec.json.decode(part.result, type=PartResult) if part.result else None
        for part in record.parts
    ]


def error_of(outcome: Outcome) -> dict[str, Any]:
    """A failed member as an object of the list ``errors``."""
    return {
        "member": outcome.member,
        "url": _cut(outcome.url, MAX_URL_LENGTH),
        "code": outcome.code,
        "detail": outcome.detail,
        "attempts": outcome.attempts,
    }


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _error(error: dict[str, Any], url: int) -> dict[str, Any]:
    """An error with its URL cut, and masked if an older version of the program wrote it."""
    if "url" not in error:
        return error
    shown = error["url"] if "member" in error else mask(error["url"])
    return error | {"url": _cut(shown, url)}


@dataclass
class _Sum:
    """The sums over all parts of a batch."""

    done: int = 0
    failed: int = 0
    bytes: int = 0
    rate: float = 0.0
    waits_for: str = ""
    errors: list[dict[str, Any]] = field(default_factory=list)
    warnings: int = 0
    failures: FailureCounts = field(default_factory=FailureCounts)

    def add_result(self, result: PartResult) -> None:
        self.done += result.done
        self.failed += result.failed
        self.bytes += result.bytes
        self.errors += result.errors
        self.warnings += result.warnings
        self._add_failures(result.failures)

    def add_progress(self, now: PartProgress) -> None:
        self.done += now.done
        self.failed += now.failed
        self.bytes += now.bytes
        self.rate += now.rate
        self.waits_for = self.waits_for or now.waits_for
        self.errors += now.errors
        self.warnings += now.warnings
        self._add_failures(now.failures)

    def _add_failures(self, failures: Iterable[Group]) -> None:
        for group in failures:
            self.failures.add(*group)


def _zips(record: GroupRecord, part: PartRecord, result: PartResult | None) -> list[Zip]:
    """The zips of a part that can be downloaded.

    While a batch is tried again, these are the zips of its run before.
    """
    if record.state in DOWNLOADABLE_STATES:
        return result.zips if result else []
    if record.state in ENDED or record.before not in DOWNLOADABLE_STATES:
        return []
    if result is None and part.previous:
        result = msgspec.json.decode(part.previous, type=PartResult)
    return result.zips if result else []


def _parts(record: GroupRecord, link_base: str, total: _Sum) -> Iterator[dict[str, Any]]:
    """An object for each zip, and one for each part that has none; adds to ``total``."""
    for number, (part, result) in enumerate(
        zip(record.parts, part_results(record), strict=True), 1
    ):
        if result:
            total.add_result(result)
        elif part.progress and part.state in ("doing", "todo", "later"):
            now = msgspec.json.decode(part.progress, type=PartProgress)
            if part.state != "doing":  # its worker is gone, its files are kept for the next one
                now = msgspec.structs.replace(now, rate=0.0, waits_for="")
            total.add_progress(now)
        elif part.state == "dead":
            total.failed += part.size
            total.failures.add(part.why, "", part.size)
            total.errors.append({"part": number, "code": part.why, "detail": part.error})
        shown: dict[str, Any] = {"part": number, "volume": 1}
        shown |= {"status": _part_status(part, result), "download": "", "members": part.size}
        downloadable = _zips(record, part, result)
        zips = downloadable or (result.zips if result else [])
        yield from [
            shown
            | {"volume": volume, "download": _url(link_base, one) if downloadable else ""}
            | {"members": one.members, "size": one.size, "sha256": one.sha256}
            for volume, one in enumerate(zips, 1)
        ] or [shown]


def _url(link_base: str, found: Zip) -> str:
    return f"{link_base}/{quote(found.link, '/:')}"


def report(record: GroupRecord, link_base: str, brief: bool = False) -> dict[str, Any]:
    """A batch as the API shows it; the README has its fields.

    It has links when it has ended well, also while it is tried again.

    :param link_base: the URL of the file port, without a slash at its end
    :param brief: for a list: only the first errors and parts
    """
    total = _Sum()
    parts = list(_parts(record, link_base, total))
    eta = None
    if record.state == "running" and record.started is not None and record.units:
        left = record.total * 1000 - record.units
        eta = round((record.now - record.started) * left / record.units, 1)
    most_errors = MAX_BRIEF_ERRORS if brief else MAX_ERRORS
    url_length = MAX_BRIEF_URL_LENGTH if brief else MAX_URL_LENGTH
    shown = {
        "task_id": task_of(record.id),
        "owner": msgspec.json.decode(record.spec, type=Spec).owner,
        "status": record.state,
        "run": record.runs + 1,
        "schedule": percent(record.units, record.total, record.state),
        "total": record.total,
        "done": total.done,
        "failed": total.failed,
        "bytes": total.bytes,
        "rate": round(total.rate),
        "eta": eta,
        "waits_for": total.waits_for,
        "position": None if record.place is None else record.place + 1,
        "download": next((part["download"] for part in parts if part["download"]), ""),
        "parts": parts[:MAX_BRIEF_PARTS] if brief else parts,
        "errors": [_error(error, url_length) for error in total.errors[:most_errors]],
        "failures": [
            {"code": code, "host": host, "members": members}
            for code, host, members in total.failures.largest(
                MAX_BRIEF_GROUPS if brief else MAX_GROUPS
            )
        ],
        "warnings": total.warnings,
        "warning": HTML if total.warnings else "",
        "created": time_text(record.created),
        "started": time_text(record.started),
        "finished": time_text(record.ended),
    }
    if record.after is not None:
        shown["callback"] = delivery(record.after)
    return shown


def callback(shown: dict[str, Any], seq: int) -> dict[str, Any]:
    """The body of a callback.

    :param shown: the batch, see :func:`report`
    :param seq: number of the callback within its batch
    """
    last = shown["status"] in ENDED
    body = {
        "task_id": shown["task_id"],
        "download": shown["download"] if last else "",
        "schedule": str(shown["schedule"]),
        "status": shown["status"],
        "seq": seq,
        "run": shown["run"],
    }
    if shown["owner"]:
        body["owner"] = shown["owner"]
    body |= {key: shown[key] for key in ("total", "done", "failed", "bytes", "eta")}
    if last:
        body |= {key: shown[key] for key in ("parts", "errors", "warnings", "warning")}
    return body
