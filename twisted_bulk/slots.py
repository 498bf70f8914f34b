"""How many more jobs a process takes. Pure.

A slot is for a job that gets on. One that waits for somebody else's server keeps its place in
memory, but no slot.
"""

from collections.abc import Collection
from dataclasses import dataclass

from twisted_bulk.task import Task

FEW = 100  # units up to which a job is a small one, as in lua/common.lua
EXPRESS = 16  # small jobs that may run beside those that have the slots
MEMBERS = 60_000  # members in memory, beyond which no large job is taken beside waiting ones
STALLED = 10.0  # seconds that a job waits, after which it may have to make room


@dataclass(frozen=True)
class Room:
    """What may be taken now.

    :param count: jobs of any size; ``express``: small ones beside them
    :param evict: a waiting job that is to be given back, as others need its room
    """

    count: int
    express: int = 0
    evict: Task | None = None


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
        return Room(max(0, min(self.slots - getting_on, self.most - len(tasks))))


class PartSlots(Slots):
    """Room for parts of batches: the large ones need memory, small ones shall not wait for them."""

    def room(self, tasks: Collection[Task], now: float) -> Room:
        left = self.most - len(tasks)
        since = {task: task.waits() for task in tasks}
        getting_on = [task for task in tasks if since[task] is None]
        small = sum(task.job.size <= FEW for task in getting_on)
        count = self.slots - (len(getting_on) - min(small, EXPRESS))
        express = max(0, min(EXPRESS - small, left))
        crowded = len(tasks) >= self.slots and sum(task.job.size for task in tasks) >= MEMBERS
        if left > 0 and not (crowded and count > 0):
            return Room(max(0, min(count, left)), express)
        # Large ones that wait have all the room: whoever has waited longest makes some.
        stalled = [(when, task) for task, when in since.items() if when and now - when >= STALLED]
        longest = min(stalled, key=lambda one: one[0], default=(0.0, None))[1]
        return Room(0, express, longest if count > 0 else None)
