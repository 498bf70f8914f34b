"""How far a last callback is, as users see it; times for users."""

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from twisted_bulk.jobs.group_model import AfterRecord


def time_text(seconds: float | None) -> str | None:
    """A time in seconds since 1970 as users see it: ISO 8601, in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def delivery(after: AfterRecord) -> dict[str, Any]:
    """The state of a last callback: ``{"state", "tries": [{"at", "status", "detail"}], "next"}``.

    The states: ``pending`` (the batch has not ended), ``sending``, ``waiting`` (for the next try),
    ``delivered``, ``refused`` (the receiver answered 410), ``undelivered`` (no try is left).
    """
    tries = [
        {"at": time_text(at), "status": _status(detail), "detail": detail}
        for at, detail in after.failures
    ]
    if after.state == "done":
        code = _status(after.result.decode()) if after.result else None
        tries.append({"at": time_text(after.ended), "status": code, "detail": ""})
        state = "refused" if code == HTTPStatus.GONE else "delivered"
    else:
        states = {"": "pending", "dead": "undelivered", "later": "waiting"}
        state = states.get(after.state, "sending")
    return {"state": state, "tries": tries, "next": time_text(after.due)}


def _status(text: str) -> int | None:
    """The number in a text such as ``HTTP 503``, or None."""
    found = re.match(r"HTTP (\d{3})\b", text)
    return int(found[1]) if found else None
