"""Ends all batches of some states, by one call that has to be made twice."""

import hashlib

from twisted_bulk.errors import InvalidRequest, NotConfirmed
from twisted_bulk.jobs.group_index import GroupFilter
from twisted_bulk.jobs.groups import GroupQueue

STATES = ("queued", "running")
PAGE_SIZE = 100  # ids in one reply of the queue
VALID_SECONDS = 120.0  # for which a confirmation is accepted at least; at most twice as long


def check_states(text: str) -> list[str]:
    """The states that a query names, separated by commas.

    :raises InvalidRequest: there is none, or one of batches that have ended
    """
    states = [state for state in text.split(",") if state]
    if not states or not set(states) <= set(STATES):
        raise InvalidRequest("status: expected queued, running or queued,running")
    return sorted(set(states))


def confirmation(states: list[str], owner: str, now: float) -> str:
    """The word that the second call must have. It changes every :data:`VALID_SECONDS`.

    It protects against a mistaken call, and is not a secret.
    """
    words = f"{','.join(states)} {owner} {int(now / VALID_SECONDS)}"
    return hashlib.sha256(words.encode()).hexdigest()[:8]


async def cancel_all(
    queue: GroupQueue, states: list[str], owner: str, confirm: str, now: float
) -> int:
    """End all batches in ``states``; of those that are queued meanwhile some may be left.

    :param owner: the token whose batches end; empty: everybody's
    :param confirm: the word that the call before was told, or empty
    :param now: seconds on a clock that all nodes share
    :returns: how many were ended
    :raises NotConfirmed: ``confirm`` is not that word; the error tells it
    """
    found = [batch for state in states for batch in await _ids(queue, state, owner)]
    if confirm not in (confirmation(states, owner, now - age) for age in (0.0, VALID_SECONDS)):
        raise NotConfirmed(
            f"{len(found)} batches would be cancelled: to do it, call again within"
            f" {VALID_SECONDS:.0f} s with confirm={confirmation(states, owner, now)}"
        )
    cancelled = 0
    for batch in found:
        cancelled += await queue.cancel_group(batch) or 0
    return cancelled


async def _ids(queue: GroupQueue, state: str, owner: str) -> list[str]:
    wanted = GroupFilter(states=[state], owner=owner)
    found: list[str] = []
    cursor = ""
    while True:
        ids, cursor = await queue.groups(wanted, cursor, PAGE_SIZE)
        found += ids
        if not cursor:
            return found
