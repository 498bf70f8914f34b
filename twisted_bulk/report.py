"""A batch as its users see it: the API's object and the callback's. Pure."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from twisted_bulk.batch import PartProgress, PartResult
from twisted_bulk.jobs import ENDED, GroupRecord, PartRecord

MAX_ERRORS = 100  # failed members named in a report


def percent(units: int, total: int, state: str) -> int:
    """``schedule``: whole percents of thousandths, 100 only when all has ended."""
    if state in ENDED:
        return 100
    return min(99, units // (total * 10)) if total else 0


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


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
    """The result of each part that has one."""
    return [
        msgspec.json.decode(part.result, type=PartResult) if part.result else None
        for part in record.parts
    ]


def report(record: GroupRecord, link_base: str) -> dict[str, Any]:
    """A batch as the API shows it; links appear only when it has ended well."""
    done = failed = size = 0
    rate, waits_for = 0.0, ""
    errors: list[dict[str, Any]] = []
    parts = []
    good = record.state in ("done", "partial")
    for number, (part, result) in enumerate(
        zip(record.parts, part_results(record), strict=True), 1
    ):
        status = _part_status(part, result)
        shown: dict[str, Any] = {"part": number, "volume": 1, "status": status}
        shown |= {"download": "", "members": part.size}
        if result:
            done, failed = done + result.done, failed + result.failed
            size += result.bytes
            errors += result.errors
        elif part.progress and part.state == "doing":
            now = msgspec.json.decode(part.progress, type=PartProgress)
            done, failed = done + now.done, failed + now.failed
            size, rate = size + now.bytes, rate + now.rate
            waits_for = waits_for or now.waits_for
        elif part.state == "dead":
            failed += part.size
            errors.append({"part": number, "code": part.why, "detail": part.error})
        parts += [
            shown
            | {"volume": volume, "download": f"{link_base}/{one.link}" if good else ""}
            | {"members": one.members, "size": one.size, "sha256": one.sha256}
            for volume, one in enumerate(result.zips if result else [], 1)
        ] or [shown]
    eta = None
    if record.state == "running" and record.started is not None and record.units:
        left = record.total * 1000 - record.units
        eta = round((record.now - record.started) * left / record.units, 1)
    return {
        "task_id": record.id,
        "status": record.state,
        "schedule": percent(record.units, record.total, record.state),
        "total": record.total,
        "done": done,
        "failed": failed,
        "bytes": size,
        "rate": round(rate),
        "eta": eta,
        "waits_for": waits_for,
        "position": None if record.place is None else record.place + 1,
        "download": next((part["download"] for part in parts if part["download"]), ""),
        "parts": parts,
        "errors": errors[:MAX_ERRORS],
        "created": _time(record.created),
        "started": _time(record.started),
        "finished": _time(record.ended),
    }


def callback(shown: dict[str, Any], seq: int) -> dict[str, Any]:
    """The callback's body from a report: the original service's three fields first."""
    last = shown["status"] in ENDED
    body = {
        "task_id": shown["task_id"],
        "download": shown["download"],
        "schedule": str(shown["schedule"]),
        "status": shown["status"],
        "seq": seq,
    }
    body |= {key: shown[key] for key in ("total", "done", "failed", "bytes", "eta")}
    if last:
        body |= {key: shown[key] for key in ("parts", "errors")}
    return body
