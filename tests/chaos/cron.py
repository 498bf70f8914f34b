"""Calls at fixed times, in three processes that are killed and started anew, over many days.

    python -m tests.chaos.cron [--days 200] [--seed 1]

The queue's own scripts run over a clock of this program's. Answers are lost, processes end in the
middle of a look, and sometimes none runs for up to three days. In the end each time was queued
once, and only once: records of ended calls are removed at once, so that no id protects a call.
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim

from tests.support.timed_store import Timed
from twisted_bulk.calls.arguments import Call
from twisted_bulk.calls.cron import Periodic
from twisted_bulk.consumer.periodic_calls import PeriodicCalls
from twisted_bulk.errors import QueueUnavailable
from twisted_bulk.jobs.model import Ack
from twisted_bulk.jobs.scripted import ScriptedQueue
from twisted_bulk.jobs.scripts import SCRIPTS
from twisted_bulk.system.at_once import finish

LINES = {
    "quarter": ("*/15 * * * *", "UTC"),
    "nightly": ("30 2 * * *", "Europe/Berlin"),  # which is left out and comes twice
    "weekdays": ("0 9-17 * * MON-FRI", "America/New_York"),
    "half": ("*/30 1-3 * * *", "Australia/Lord_Howe"),  # whose clocks are changed by half an hour
    "monthly": ("0 0 1 * *", "Asia/Shanghai"),
}
LOST, KILLED = 0.05, 0.03  # chance of a lost answer, and of a process that ends before its step
OVERTAKEN = 0.05  # chance that another process comes between a look and its step
AWAY = 0.002  # chance that no process runs for hours or days


class _Flaky(Timed):
    """A store whose answers may be lost, or whose caller may die before the step."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self.is_flaky = False
        self.between: Callable[[], object] = lambda: None  # called between a look and its step

    async def run(self, *words: Any, **options: Any) -> Any:
        if self.is_flaky and words[0] is SCRIPTS["cron_due"]:
            self.between()
        if self.is_flaky and self._chance.random() < KILLED:
            raise QueueUnavailable("killed")
        reply = await super().run(*words, **options)
        if self.is_flaky and self._chance.random() < LOST:
            raise QueueUnavailable("the answer is lost")
        return reply


class CronKills:
    """Three processes, and a clock."""

    def __init__(self, seed: int, processes: int = 3) -> None:
        self._chance = random.Random(seed)
        self._store = _Flaky(self._chance)
        # Before the clocks of the northern half are changed.
        self._store.now = datetime(2026, 10, 1, 12, tzinfo=ZoneInfo("UTC")).timestamp()
        self._queue = ScriptedQueue(self._store, "cron", 2_000_000, lambda: self._store.now)
        self._periodic = [
            Periodic(name, "f", line, zone, Call(), {}) for name, (line, zone) in LINES.items()
        ]
        self._processes = [self._start() for _ in range(processes)]
        self._store.between = self._overtake
        self.kills = 0
        self.done: Counter[str] = Counter()

    def _start(self) -> PeriodicCalls:
        return PeriodicCalls(self._queue, self._periodic)

    def run(self, days: float) -> list[str]:
        """Let time pass; returns what is wrong."""
        for process in self._processes:
            finish(process.look())
        begin, end = self._store.now, self._store.now + days * 86400
        while self._store.now < end:
            step = self._chance.expovariate(1 / 900)
            if self._chance.random() < AWAY:
                step = self._chance.uniform(3600, 3 * 86400)
            self._store.now = min(end, self._store.now + step)
            for number in self._chance.sample(range(len(self._processes)), k=2):
                self._look(number)
            self._work()
        self._store.is_flaky = False
        for _ in range(20):
            finish(self._processes[0].look())
            self._work()
        return self._wrong(begin, end)

    def _overtake(self) -> None:
        """Now and then another process does a whole look in between."""
        if self._chance.random() < OVERTAKEN:
            self._store.is_flaky = False
            finish(self._start().look())
            self._work()
            self._store.is_flaky = True

    def _look(self, number: int) -> None:
        self._store.is_flaky = True
        try:
            finish(self._processes[number].look())
        except QueueUnavailable:
            if self._chance.random() < 0.5:  # else it only lost its connection
                self._processes[number] = self._start()
                self.kills += 1
        self._store.is_flaky = False

    def _work(self) -> None:
        """Run all calls, and remove their records."""
        finish(self._queue.maintain(keep=60))
        while jobs := finish(self._queue.reserve("w", 500)).jobs:
            self.done.update(job.id for job in jobs)
            finish(self._queue.ack("w", [Ack(job) for job in jobs]))
            for job in jobs:  # as if their retention had passed
                finish(self._store.command("DEL", f"{self._queue.prefix}j:{job.id}"))
                finish(self._store.command("ZREM", f"{self._queue.prefix}done", job.id))

    def _wrong(self, begin: float, end: float) -> list[str]:
        due: set[str] = set()
        for name, (line, zone) in LINES.items():
            then = datetime.fromtimestamp(begin, ZoneInfo(zone))
            for moment in CronSim(line, then):
                if moment.timestamp() > end:
                    break
                due.add(f"cron-{name}-{int(moment.timestamp())}")
        wrong = [f"{one} was not queued" for one in sorted(due - set(self.done))]
        wrong += [f"{one} was never due" for one in sorted(set(self.done) - due)]
        wrong += [f"{one} was queued {n} times" for one, n in self.done.items() if n > 1]
        return wrong


def main() -> None:
    """Run it, and print what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=float, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    chaos = CronKills(given.seed)
    wrong = chaos.run(given.days)
    for line in wrong[:20]:
        print("wrong:", line)
    days = timedelta(days=given.days)
    print(f"{days}: {len(chaos.done)} calls, {chaos.kills} kills, {len(wrong)} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
