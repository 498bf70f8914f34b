"""Records of batches as the queue returns them."""

from typing import Any

import msgspec

from twisted_bulk.batch.model import PartResult, Zip
from twisted_bulk.jobs.group_model import GroupRecord, PartRecord


def record(state: str, *parts: PartRecord, units: int = 0, **fields: Any) -> GroupRecord:
    given: dict[str, Any] = {
        "id": "b", "digest": "", "run": "n", "spec": b"{}", "seq": 3, "created": 1e9,
        "started": 1e9 + 1, "ended": None, "now": 1e9 + 11, "place": None,
    }  # fmt: skip
    total = sum(part.size for part in parts)
    return GroupRecord(state=state, parts=parts, total=total, units=units, **given | fields)


def part(state: str, size: int = 4, **fields: Any) -> PartRecord:
    empty: dict[str, Any] = {"ok": 0, "progress": b"", "result": b"", "why": "", "error": ""}
    return PartRecord(state=state, size=size, **empty | fields)


def result(done: int, failed: int) -> bytes:
    errors: list[dict[str, Any]] = [
        {"url": "http://h/", "code": "dns_failed", "detail": "", "attempts": 1}
    ] * failed
    value = PartResult(
        folder="b-0",
        zips=[Zip("b-0/b.zip", 9, "s", done)] if done else [],
        done=done,
        failed=failed,
        bytes=99,
        errors=errors,
    )
    return msgspec.json.encode(value)
