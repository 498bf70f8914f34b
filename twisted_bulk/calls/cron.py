"""Calls at fixed times: cron lines with a time zone, and when they are due. Pure."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from twisted_bulk.calls.arguments import Call

MAX_LATE_SECONDS = 7 * 86400.0  # of a time that no consumer saw; older ones are left out


@dataclass(frozen=True)
class Periodic:
    """A function that is called at fixed times, once in all processes.

    Where the clocks are changed, it is as with Debian's cron: a time that is left out counts at the
    end of the gap. A time that comes twice counts once, but for lines with ``*`` as the hour.

    :param name: of this entry in the queue; two entries have two names
    :param function: its name
    :param line: five fields, as in crontab(5)
    :param zone: as ``Europe/Berlin``
    :param options: of its calls
    :raises ValueError: line or zone cannot be read
    """

    name: str
    function: str
    line: str
    zone: str
    call: Call
    options: dict[str, Any]

    def __post_init__(self) -> None:
        if len(self.line.split()) != 5:
            raise ValueError(f"cron line {self.line!r}: expected five fields")
        try:
            CronSim(self.line, datetime(2026, 1, 1, tzinfo=self._zone))
        except CronSimError as error:
            raise ValueError(f"cron line {self.line!r}: {error}") from None

    @cached_property
    def _zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.zone)
        except (OSError, ValueError, LookupError):
            raise ValueError(f"there is no time zone {self.zone!r}") from None

    @property
    def key(self) -> str:
        """The line and the zone, in one text."""
        return f"{self.line} {self.zone}"

    def following(self, after: float) -> int:
        """The first time after ``after`` at which it is due; in seconds since 1970."""
        times = CronSim(self.line, datetime.fromtimestamp(after, self._zone))
        # From within an hour that comes twice, the first one may be of the hour before it.
        return next(int(one.timestamp()) for one in times if one.timestamp() > after)
