"""Whether a failed attempt at a member is repeated, and when. Pure."""

import random

from msgspec.structs import replace

from twisted_bulk.downloads.fetch import Tries
from twisted_bulk.errors import MemberError

PAUSES = (
    1.0,
    2.0,
    4.0,
    8.0,
    16.0,
    30.0,
)  # seconds before further attempts, times 0.5 to 1 at random
MAX_WAIT = 600.0  # seconds of Retry-After that are heeded; a longer time is cut to this one
MAX_THROTTLED = 20  # answers 429 or 503 that use up no try; further ones do
#: Seconds after which the URL that a redirect names may have expired.
EXPIRY_SECONDS = 10.0
EXPIRED_STATUSES = frozenset((400, 401, 403, 404, 410))  # answers of an expired URL
#: Bytes by which a try must have got further, for the count of tries to begin anew.
MIN_ADVANCE = 64 * 1024
MAX_RENEWALS = 3  # times that a member's redirect is then asked for again


def is_expired(tries: Tries, failed: MemberError, waited: float) -> bool:
    """Whether the URL of a redirect had probably expired, so that a new one is asked for.

    :param waited: seconds for which the redirect had waited
    """
    return (
        waited >= EXPIRY_SECONDS
        and failed.answered in EXPIRED_STATUSES
        and tries.renewed < MAX_RENEWALS
    )


def renew(tries: Tries) -> Tries:
    """The redirect is asked for again: the attempt does not count."""
    return replace(tries, renewed=tries.renewed + 1, excused=tries.excused + 1)


def excuse(tries: Tries) -> Tries:
    """The attempt does not count."""
    return replace(tries, excused=tries.excused + 1)


def count(tries: Tries, failed: MemberError) -> Tries:
    """The attempt counts; one that was answered by "not now" is noted."""
    throttled = failed.code == "http_throttled"
    return replace(tries, throttled=tries.throttled + 1) if throttled else tries


def advance(tries: Tries, reached: int) -> Tries:
    """The attempt failed after so many bytes, which the next one can use.

    One that got further by :data:`MIN_ADVANCE` bytes begins the count anew.
    """
    if reached - tries.reached < MIN_ADVANCE:
        return tries
    excused = tries.attempts - tries.stale - min(tries.throttled, MAX_THROTTLED) - 1
    return replace(tries, reached=reached, excused=max(tries.excused, excused))


def pause_before_next(tries: Tries, failed: MemberError, retries: int) -> float | None:
    """Seconds before the next attempt; None: there is none.

    :param tries: the attempts, after :func:`count`
    :param retries: further attempts that may be made
    """
    used = tries.attempts - tries.stale - tries.excused - min(tries.throttled, MAX_THROTTLED)
    if not failed.retry or used > retries or not retries:
        return None
    step = tries.throttled if failed.code == "http_throttled" else used
    pause = PAUSES[max(1, min(step, len(PAUSES))) - 1] * random.uniform(0.5, 1.0)
    if failed.retry_after is not None:
        pause = max(pause, min(failed.retry_after, MAX_WAIT))
    return pause
