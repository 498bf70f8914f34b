"""Calls as data: arguments, declarations, cron lines."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim
from twisted.trial.unittest import SynchronousTestCase

from tests.chaos.cron import CronKills
from tests.support.timed_store import Timed
from twisted_bulk.calls import arguments
from twisted_bulk.calls.arguments import Call, call, decode, decode_value, encode, encode_value
from twisted_bulk.calls.cron import Periodic
from twisted_bulk.calls.declarations import BadArguments, declare
from twisted_bulk.consumer.periodic_calls import PeriodicCalls
from twisted_bulk.jobs.scripted import ScriptedQueue
from twisted_bulk.system.at_once import finish


class ArgumentTests(SynchronousTestCase):
    """Arguments in a payload."""

    def test_round_trip(self) -> None:
        """They come back as they were; the order of named ones does not matter."""
        for asked in (call(), call([1]), call({"a": 1}), call(1, "b", c=None), call(a={"b": [2]})):
            found = decode(encode("f", asked))
            self.assertEqual((found.function, tuple(found.args), found.kwargs),
                             ("f", asked.args, asked.kwargs))  # fmt: skip
        self.assertEqual(encode("", call(a=1, b=2)), encode("", call(b=2, a=1)))
        self.assertEqual(encode("", call("x")), b'{"args":["x"]}')

    def test_refused(self) -> None:
        """A value that JSON does not have, and too many bytes."""
        for wrong in (object(), {1, 2}, {("a", "b"): 1}, datetime.now(), b"x", Decimal(1)):
            self.assertRaises(TypeError, encode, "", call(wrong))
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        for odd in (float("nan"), float("inf"), "\ud800", deep):
            self.assertRaises(ValueError, encode, "", call(odd))
        self.patch(arguments, "MAX_PAYLOAD_BYTES", 30)
        self.assertRaises(ValueError, encode, "", call("x" * 30))
        for text in (b"", b"[1]", b'{"n":1}', b'{"args":3}'):
            self.assertRaises(ValueError, decode, text)

    def test_values(self) -> None:
        """What a function returns is JSON; else its repr."""
        for value, shown in ((None, None), ((1, "a"), [1, "a"]), ({"a": 1.5}, {"a": 1.5})):
            self.assertEqual(decode_value(encode_value(value)), shown)
        cycle: list[Any] = []
        cycle.append(cycle)
        for odd in (object(), "\ud800", cycle):
            self.assertIn("object", decode_value(encode_value(odd)))


class DeclarationTests(SynchronousTestCase):
    """What a function can be called with."""

    def test_check(self) -> None:
        """As Python itself would say it."""

        def resize(path: str, /, width: int = 80, *, quality: int) -> None: ...

        told = declare(resize, {"tries": 5})
        told.check("resize", call("a", quality=1))
        told.check("resize", call("a", 3, quality=1))
        for wrong, words in (
            (call(quality=1), "missing a required .*argument: 'path'"),
            (call("a"), "missing a required .*argument: 'quality'"),
            (call("a", 1, 2, quality=1), "too many positional arguments"),
            (call("a", quality=1, size=2), "unexpected keyword argument 'size'"),
        ):
            with self.assertRaisesRegex(BadArguments, f"^resize: .*{words}"):
                told.check("resize", wrong)

    def test_anything(self) -> None:
        """Functions with ``*`` take anything, and so do builtins that do not tell."""

        def anything(*args: Any, **kwargs: Any) -> None: ...

        for function in (anything, max):
            declare(function, {}).check("f", call(1, 2, 3))
        with self.assertRaisesRegex(TypeError, "trise is no option"):
            declare(anything, {"trise": 3})
        for wrong in ({"delay": float("nan")}, {"tries": 0}, {"priority": "x"}, {"window": -1},
                      {"expires": float("inf")}, {"unique": 3}):  # fmt: skip
            self.assertRaises(ValueError, declare, anything, wrong)


class CronTests(SynchronousTestCase):
    """Calls at fixed times."""

    def entry(self, line: str, zone: str = "UTC") -> Periodic:
        return Periodic("n", "f", line, zone, Call(), {})

    def test_gone_on_with(self) -> None:
        """From any time on they are those that would have come anyway, also over changed clocks."""
        for line, zone in (
            ("*/20 * * * *", "Europe/Berlin"), ("30 2 * * *", "Europe/Berlin"),
            ("15,45 1,2 * * *", "Australia/Lord_Howe"), ("0 0 29 2 *", "UTC"),
        ):  # fmt: skip
            for day in ("2026-03-28", "2026-10-24", "2026-10-03", "2026-04-04"):
                begin = datetime.fromisoformat(f"{day}T22:00").replace(tzinfo=ZoneInfo(zone))
                whole = CronSim(line, begin)
                then = begin.timestamp()
                for _ in range(40 if line[0] != "0" else 3):
                    then = self.entry(line, zone).following(then)
                    self.assertEqual(then, next(whole).timestamp(), (line, zone, day))

    def test_hour_that_comes_twice(self) -> None:
        """From within its second time on, nothing is due that is past."""
        second = datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
        due = self.entry("30 2 * * *", "Europe/Berlin").following(second)
        self.assertEqual(datetime.fromtimestamp(due, ZoneInfo("Europe/Berlin")).day, 26)

    def test_mistakes(self) -> None:
        """Lines and zones that cannot be read are refused when they are registered."""
        for line, zone in (("* * * *", "UTC"), ("61 * * * *", "UTC"), ("* * * * *", "Europe/Berln"),
                           ("0 0 31 2 *", "UTC"), ("* * * * *", "../etc/passwd")):  # fmt: skip
            self.assertRaises(ValueError, self.entry, line, zone)

    def test_too_late(self) -> None:
        """Times that nobody saw are made up for, a week back."""
        store = Timed()
        queue = ScriptedQueue(store, "q", 1000, lambda: store.now)
        daily = PeriodicCalls(queue, [self.entry("0 12 * * *")])
        finish(daily.look())
        store.now += 30 * 86400
        for _ in range(2):
            finish(daily.look())
        self.assertEqual(finish(queue.stats()).counts["todo"], 7)

    def test_clock_set_back(self) -> None:
        """A clock that was days ahead, and then is right again, stops nothing for days."""
        store = Timed()
        queue = ScriptedQueue(store, "q", 10_000, lambda: store.now)
        hourly = PeriodicCalls(queue, [self.entry("0 * * * *")])
        finish(hourly.look())
        for ahead in (2 * 86400, -2 * 86400, 3600, 3600):
            store.now += ahead
            finish(hourly.look())
        now, (last,) = finish(queue.last_times({"n": "0 * * * * UTC"}))
        self.assertLess(abs(now - last), 3700)
        # The two that were due since were queued while the clock was ahead: each time once.
        self.assertEqual(finish(queue.stats()).counts["todo"], 48)

    def test_kills(self) -> None:
        """Three processes, killed and started anew: each time once; the long run is in chaos."""
        chaos = CronKills(seed=7)
        self.assertEqual(chaos.run(days=8), [])
        self.assertGreater(chaos.kills, 20)
