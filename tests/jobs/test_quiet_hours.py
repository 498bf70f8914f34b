"""Windows in which nothing runs."""

from datetime import datetime
from zoneinfo import ZoneInfo

from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.jobs.quiet_hours import parse_hours

H = 3600.0


def at(text: str, zone: str = "UTC") -> float:
    """Seconds since 1970 of a wall clock's time."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


class HoursTests(SynchronousTestCase):
    """Over midnight, by day, by zone."""

    def test_plain(self) -> None:
        """Within one day, its end excluded."""
        hours = parse_hours("08:00-17:30")
        self.assertEqual(hours.closed_for(at("2026-11-20 07:59:59")), 0)
        self.assertEqual(hours.closed_for(at("2026-11-20 08:00:00")), 9.5 * H)
        self.assertEqual(hours.closed_for(at("2026-11-20 17:30:00")), 0)

    def test_midnight(self) -> None:
        """A window over midnight."""
        hours = parse_hours("22:00-06:00")
        self.assertEqual(hours.closed_for(at("2026-11-20 23:00")), 7 * H)
        self.assertEqual(hours.closed_for(at("2026-11-21 05:00")), 1 * H)
        self.assertEqual(hours.closed_for(at("2026-11-21 12:00")), 0)

    def test_days(self) -> None:
        """A window belongs to the day on which it begins."""
        hours = parse_hours("fri,sat 22:00-06:00")  # 2026-11-20 is a Friday
        self.assertEqual(hours.closed_for(at("2026-11-20 05:00")), 0)
        self.assertEqual(hours.closed_for(at("2026-11-21 05:00")), 1 * H)
        self.assertEqual(hours.closed_for(at("2026-11-22 05:00")), 1 * H)
        self.assertEqual(hours.closed_for(at("2026-11-22 23:00")), 0)
        self.assertEqual(
            parse_hours("sat-mon 00:00-24:00").closed_for(at("2026-11-22 12:00")), 36 * H
        )

    def test_joined(self) -> None:
        """Windows that follow one another are one; always closed is a week at least."""
        hours = parse_hours("08:00-12:00, 12:00-13:00")
        self.assertEqual(hours.closed_for(at("2026-11-20 11:00")), 2 * H)
        self.assertGreater(
            parse_hours("00:00-24:00").closed_for(at("2026-11-20 11:00")), 7 * 24 * H
        )

    def test_zone(self) -> None:
        """The wall clock of the zone counts, also on the days it is changed."""
        hours = parse_hours("mon-sun 01:00-05:00 Europe/Berlin")
        self.assertEqual(hours.closed_for(at("2026-11-20 01:00", "Europe/Berlin")), 4 * H)
        self.assertEqual(hours.closed_for(at("2026-03-29 01:00", "Europe/Berlin")), 3 * H)
        self.assertEqual(hours.closed_for(at("2026-10-25 01:00", "Europe/Berlin")), 5 * H)

    def test_mistakes(self) -> None:
        """Said at once; nothing is no window."""
        for text in ("8-17", "08:00", "25:00-26:00", "08:60-09:00", "08:00-08:00", "x 08:00-09:00"):
            with self.assertRaisesRegex(ValueError, "times such as"):
                parse_hours(text)
        with self.assertRaisesRegex(ValueError, "Mars/Base' is not a known time zone"):
            parse_hours("08:00-09:00 Mars/Base")
        self.assertEqual(parse_hours("").closed_for(0), 0)
