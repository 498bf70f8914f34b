"""How many more jobs a process takes. Pure.

A slot is for a job that gets on. One that waits for somebody else's server keeps its place in
memory, but no slot.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from twisted_bulk.consumer.task import Task

EXPRESS = 32  # small jobs that may run beside those that have the slots
MEMBERS = 60_000  # members in memory, beyond which no large job is taken beside waiting ones
STALLED = 10.0  # seconds that a job waits, after which it may have to make room


@dataclass(frozen=True)
class Room:
    """What may be taken now.

    :param count: jobs of any size
    :param late: more of them, beside jobs that only wait, if nobody with a free slot wants them
    :param express: the same of small ones, beside jobs that get on
    :param evict: a waiting job that is to be given back, as others need its room
    """

    count: int
    late: int = 0
    express: int = 0
    evict: Task | None = None


NO_ROOM = Room(0)


class Slots:
    """Room for jobs that are all alike.

    :param slots: jobs at once that get on
    :param most: jobs at once, those that wait included; by default as many as slots
    """

    def __init__(self, slots: int, most: int = 0) -> None:
        self.slots = slots
        self.most = most or slots

    def room(self, tasks: Collection[Task], now: float) -> Room:
        """What may be taken beside ``tasks``, which run."""
        getting_on = sum(task.waits() is None for task in tasks)
        return self._split(self.slots - getting_on, tasks)

    def _split(self, more: int, tasks: Collection[Task]) -> Room:
        """Of ``more`` jobs some have a slot that nobody uses, the others that of a waiting job."""
        more = max(0, min(more, self.most - len(tasks)))
        count = max(0, min(more, self.slots - len(tasks)))
        return Room(count, more - count)


class PartSlots(Slots):
    """Room for parts of batches: the large ones need memory, small ones shall not wait for them."""

    def room(self, tasks: Collection[Task], now: float) -> Room:
        since = {task: task.waits() for task in tasks}
        getting_on = [task for task in tasks if since[task] is None]
        # Beside the slots some small ones may run.
        small = min(EXPRESS, sum(task.job.small for task in getting_on))
        room = self._split(self.slots - (len(getting_on) - small), tasks)
        express = max(0, min(EXPRESS - small, self.most - len(tasks) - room.count - room.late))
        crowded = sum(task.job.size for task in tasks) >= MEMBERS or len(tasks) >= self.most
        if room.count or not crowded or len(getting_on) - small >= self.slots:
            return replace(room, express=express)
        # Jobs that wait have all the room: the one that has waited longest makes some.
        stalled = [(when, task) for task, when in since.items() if when is not None]
        when, task = min(stalled, key=lambda one: one[0], default=(now, None))
        return Room(0, 0, express, task if now - when >= STALLED else None)
