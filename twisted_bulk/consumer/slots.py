"""How many more jobs a process takes. Pure.

A slot is for a job that makes progress. A job that only waits for somebody else's server stays in
memory, but takes no slot.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from twisted_bulk.consumer.task import Task

MAX_EXPRESS = 32  # small jobs that may run beside the jobs that have the slots
#: Units of all jobs in memory. Beyond it a large job is taken only after a waiting job was given
#: back.
MAX_UNITS = 60_000
STALLED_SECONDS = 10.0  # that a job only waits; then it may be given back to make room


@dataclass(frozen=True)
class Room:
    """How many jobs may be taken now.

    :param count: jobs of any size, for free slots
    :param late: further jobs, for slots of jobs that only wait; workers with a free slot come first
    :param express: further small jobs, beside jobs that have the slots
    :param evict: a job that only waits and has to be given back, as others need its room
    """

    count: int
    late: int = 0
    express: int = 0
    evict: Task | None = None


NO_ROOM = Room(0)


class Slots:
    """Room for jobs that are all alike.

    :param slots: jobs at once that make progress
    :param most: jobs at once, with those that only wait; 0: as many as slots
    """

    def __init__(self, slots: int, most: int = 0) -> None:
        self.slots = slots
        self.most = most or slots

    def room(self, tasks: Collection[Task], now: float) -> Room:
        """How many jobs may be taken beside ``tasks``, which run."""
        active = sum(task.waits() is None for task in tasks)
        return self._split(self.slots - active, tasks)

    def _split(self, more: int, tasks: Collection[Task]) -> Room:
        """The room for ``more`` jobs: first the free slots, then the slots of jobs that wait."""
        more = max(0, min(more, self.most - len(tasks)))
        count = max(0, min(more, self.slots - len(tasks)))
        return Room(count, more - count)


class PartSlots(Slots):
    """Room for parts of batches: large ones need memory, and small ones do not wait for them."""

    def room(self, tasks: Collection[Task], now: float) -> Room:
        since = {task: task.waits() for task in tasks}
        active = [task for task in tasks if since[task] is None]
        small = min(MAX_EXPRESS, sum(task.job.small for task in active))
        room = self._split(self.slots - (len(active) - small), tasks)
        express = max(0, min(MAX_EXPRESS - small, self.most - len(tasks) - room.count - room.late))
        is_full = sum(task.job.size for task in tasks) >= MAX_UNITS or len(tasks) >= self.most
        if room.count or not is_full or len(active) - small >= self.slots:
            return replace(room, express=express)
        # Jobs that only wait have all the room: the one that has waited longest makes some.
        waiting = [(when, task) for task, when in since.items() if when is not None]
        when, task = min(waiting, key=lambda pair: pair[0], default=(now, None))
        return Room(0, 0, express, task if now - when >= STALLED_SECONDS else None)
