"""All batches of some states, ended in one call that has to be made twice."""

import hashlib

from twisted_bulk.errors import InvalidRequest, NotConfirmed
from twisted_bulk.jobs.groups import GroupQueue

STATES = ("queued", "running")
PAGE = 100  # ids in one reply of the queue
VALID = 120.0  # seconds for which a confirmation is taken


def check_states(text: str) -> list[str]:
    """The states that a query names, separated by commas.

    :raises InvalidRequest: there is none, or one of batches that have ended
    """
    states = [state for state in text.split(",") if state]
    if not states or not set(states) <= set(STATES):
        raise InvalidRequest("status: expected queued, running or queued,running")
    return sorted(set(states))


def confirmation(states: list[str], owner: str, now: float) -> str:
    """What the second call has to say: it is the same for :data:`VALID` to twice as many seconds.

    It guards against a slip of the hand, and is no secret.
    """
    words = f"{','.join(states)} {owner} {int(now / VALID)}"
    return hashlib.sha256(words.encode()).hexdigest()[:8]


async def cancel_all(
    queue: GroupQueue, states: list[str], owner: str, confirm: str, now: float
) -> int:
    """End all batches in ``states``; what is queued meanwhile may or may not be among them.

    :param owner: whose, or empty: everybody's
    :param now: seconds on a clock that all nodes share
    :returns: how many were ended
    :raises NotConfirmed: ``confirm`` is not what the call before was told
    """
    found = [batch for state in states for batch in await _ids(queue, state, owner)]
    if confirm not in (confirmation(states, owner, now - age) for age in (0.0, VALID)):
        raise NotConfirmed(
            f"{len(found)} batches would be cancelled: to do it, call again within"
            f" {VALID:.0f} s with confirm={confirmation(states, owner, now)}"
        )
    cancelled = 0
    for batch in found:
        cancelled += await queue.cancel_group(batch) or 0
    return cancelled


async def _ids(queue: GroupQueue, state: str, owner: str) -> list[str]:
    found: list[str] = []
    cursor = ""
    while True:
        ids, cursor = await queue.groups(state, cursor, PAGE, owner)
        found += ids
        if not cursor:
            return found
