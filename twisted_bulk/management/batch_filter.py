"""The filter of a list of batches, checked, and applied to what is shown. Pure."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from twisted_bulk.errors import InvalidRequest
from twisted_bulk.jobs.group_index import AFTER_FAILED, AFTER_TRYING, GroupFilter
from twisted_bulk.jobs.group_model import GROUP_STATES
from twisted_bulk.orders.queries import BatchFilter

#: What a batch's id, and a token's name, may have; also the beginning of one.
_WORD = re.compile(r"[A-Za-z0-9._~-]{0,128}")
_CODE = re.compile(r"[a-z0-9_]{0,64}")
_SECONDS = re.compile(r"[0-9]{1,11}(\.[0-9]{1,6})?")
#: The states of a last callback that a list may ask for, with the tags of their groups.
CALLBACKS = {"undelivered": AFTER_FAILED, "waiting": AFTER_TRYING}


def batch_filter(asked: BatchFilter, owner: str | None) -> GroupFilter | None:
    """The filter; None: no batch can match, as it asks for batches that the token may not see.

    :param owner: the token whose batches are listed; None: everybody's
    :raises InvalidRequest: names the parameter
    """
    states = tuple(word for word in asked.status.split(",") if word)
    if not set(states) <= set(GROUP_STATES):
        raise InvalidRequest(f"status: expected one or more of {', '.join(GROUP_STATES)}")
    for name, pattern in (("id", _WORD), ("owner", _WORD), ("code", _CODE)):
        if not pattern.fullmatch(getattr(asked, name)):
            raise InvalidRequest(f"{name}: this cannot be one")
    if asked.callback not in ("", *CALLBACKS):
        raise InvalidRequest(f"callback: expected {' or '.join(CALLBACKS)}")
    tags = [asked.code] if asked.code else []
    if asked.callback:
        tags.append(CALLBACKS[asked.callback])
    if owner is not None and asked.owner not in ("", owner):
        return None
    return GroupFilter(
        states=_in_order(states), owner=owner or asked.owner, tags=tuple(tags), prefix=asked.id,
        since=_time("since", asked.since), before=_time("before", asked.before),
    )  # fmt: skip


def meets(shown: Mapping[str, Any], wanted: GroupFilter) -> bool:
    """Whether a batch matches a filter, by what the API shows of it."""
    tags = {failure["code"] for failure in shown["failures"]}
    tags.add(CALLBACKS.get(shown.get("callback", {}).get("state"), ""))
    created = datetime.fromisoformat(shown["created"]).timestamp()
    return (
        (not wanted.states or shown["status"] in wanted.states)
        and wanted.owner in ("", shown["owner"])
        and tags.issuperset(wanted.tags)
        and shown["task_id"].startswith(wanted.prefix)
        and (wanted.since is None or created >= wanted.since)
        and (wanted.before is None or created < wanted.before)
    )


def _in_order(states: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(states), key=GROUP_STATES.index))


def _time(name: str, text: str) -> float | None:
    if not text:
        return None
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        found = datetime.fromisoformat(text[:40])
    except ValueError:
        raise InvalidRequest(f"{name}: expected a time such as 2026-11-30T18:00:00Z") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
