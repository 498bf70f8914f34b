"""Times of day at which no job begins.

A window is ``[days] HH:MM-HH:MM``. Commas separate several windows, and the time zone comes last:
``22:00-06:00, sat,sun 00:00-24:00 Europe/Berlin``. A window over midnight belongs to the day on
which it begins. Without a time zone the times are UTC.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EXPECTED = "times such as '22:00-06:00', 'mon-fri 08:00-18:00 Europe/Berlin' or 'sat 00:00-24:00'"
_DAY = "|".join(DAYS)
_WINDOW = re.compile(
    rf"\s*(?:((?:{_DAY})(?:[-,](?:{_DAY}))*)\s+)?(\d\d):(\d\d)-(\d\d):(\d\d)\s*", re.IGNORECASE
)


@dataclass(frozen=True)
class Window:
    """From ``begin`` to ``end`` (minutes after midnight) on ``days`` (0 is Monday)."""

    days: frozenset[int]
    begin: int
    end: int


@dataclass(frozen=True)
class Hours:
    """Windows in one time zone."""

    windows: tuple[Window, ...] = ()
    zone: tzinfo = UTC

    def closed_for(self, now: float) -> float:
        """Seconds from ``now`` (since 1970) until a job may begin; 0: it may begin now."""
        at, begin = now, now
        # One window may follow another. When they fill the week, the answer is 8 days.
        while (end := self._end(at)) is not None and end - begin < 8 * 86400:
            at = end
        return at - begin

    def text(self, when: float, now: float) -> str:
        """The time ``when`` in this zone: ``06:00``, or ``Mon 06:00`` if it is not today."""
        local = datetime.fromtimestamp(when, self.zone)
        same = local.date() == datetime.fromtimestamp(now, self.zone).date()
        return f"{local:%H:%M}" if same else f"{local:%a %H:%M}"

    def _end(self, now: float) -> float | None:
        """The end of the window that ``now`` is in; None: it is in none."""
        local = datetime.fromtimestamp(now, self.zone)
        for window in self.windows:
            for back in (0, 1):
                day = local.date() - timedelta(days=back)
                if day.weekday() not in window.days:
                    continue
                midnight = datetime.combine(day, time(), self.zone)
                length = window.end - window.begin
                begin = _moment(midnight, window.begin)
                end = _moment(midnight, window.begin + (length if length > 0 else length + 1440))
                if begin <= now < end:
                    return end
        return None


ALWAYS = Hours()  # no windows: jobs may begin at any time


def _moment(midnight: datetime, minutes: int) -> float:
    # Hours and minutes are those of the wall clock, also on a day of 23 or 25 hours.
    day = midnight + timedelta(days=minutes // 1440)
    clock = time(minutes % 1440 // 60, minutes % 60)
    return datetime.combine(day.date(), clock, midnight.tzinfo).timestamp()


def _days(text: str | None) -> frozenset[int]:
    if not text:
        return frozenset(range(7))
    days: set[int] = set()
    for word in text.lower().split(","):
        first, _, last = word.partition("-")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        days.update((begin + n) % 7 for n in range((end - begin) % 7 + 1))
    return frozenset(days)


def _window(match: re.Match[str]) -> Window:
    begin_h, begin_m, end_h, end_m = map(int, match.groups()[1:])
    begin, end = begin_h * 60 + begin_m, end_h * 60 + end_m
    if begin >= 1440 or end > 1440 or max(begin_m, end_m) > 59 or begin == end:
        raise ValueError(EXPECTED)
    return Window(_days(match[1]), begin, end)


def parse_hours(text: str) -> Hours:
    """Parse windows, see the module; empty: there are none.

    :raises ValueError: its text says what was expected
    """
    windows, rest = [], text.strip()
    while rest and (match := _WINDOW.match(rest)):
        windows.append(_window(match))
        rest = rest[match.end() :].removeprefix(",")
    if text.strip() and not windows:
        raise ValueError(EXPECTED)
    if not rest.strip():
        return Hours(tuple(windows))
    try:
        return Hours(tuple(windows), ZoneInfo(rest.strip()))
    except (OSError, ValueError, KeyError):
        raise ValueError(f"{EXPECTED}; {rest.strip()!r} is not a known time zone") from None
