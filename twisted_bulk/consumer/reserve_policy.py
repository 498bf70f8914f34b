"""How many jobs a worker takes, and of which kind. Pure, over ``now``.

A *suspect* is run with nothing else in its process, see :class:`~twisted_bulk.jobs.model.Alone`. A
worker with ``Alone.YES`` that has other jobs waits for them to end by themselves, for
``DRAIN_SECONDS``. Then it takes no more jobs until they have ended. After twice that time it takes
other jobs again, because one of its own may take very long.
"""

from collections.abc import Collection

from twisted_bulk.consumer.slots import NO_ROOM, STALLED_SECONDS, Room, Slots
from twisted_bulk.consumer.task import Task
from twisted_bulk.jobs.model import Alone, Reserved, Supply
from twisted_bulk.system.periodic import pause_after

DRAIN_SECONDS = 60.0  # that a suspect waits before this worker takes nothing else
IDLE_PAUSES = (0.05, 0.1, 0.2, 0.5)  # seconds between looks at an empty queue
#: The longest sleep in seconds, by the answer to the last reserve; after other answers the pauses
#: are IDLE_PAUSES. It is short in quiet hours, too, because the wall clock may be set.
LONGEST_SLEEPS = {
    Supply.PAUSED: 1.0,
    Supply.STOP: 1.0,
    Supply.BUSY: 0.05,  # a slot is free as soon as its job only waits
    Supply.RATE: 30.0,
    Supply.CLOSED: 30.0,
}


def sleep_after(reserved: Reserved, idle: int) -> float:
    """Seconds to sleep after an answer without a job.

    :param idle: answers without a job in a row, this one included
    """
    longest = LONGEST_SLEEPS.get(reserved.supply) or pause_after(IDLE_PAUSES, idle - 1)
    return longest if reserved.wait is None else min(longest, reserved.wait)


class ReservePolicy:
    """The decisions of one worker.

    :param slots: room for jobs
    :param alone: what the worker does about suspects
    """

    def __init__(self, slots: Slots, alone: Alone) -> None:
        self._slots = slots
        self._alone = alone
        self._suspects_since: float | None = None  # since when suspects wait
        self._waiting = 0  # other jobs that waited when the queue was last asked

    def heard(self, reserved: Reserved, now: float) -> None:
        """The queue has answered."""
        self._waiting = reserved.waiting
        if not reserved.suspects:
            self._suspects_since = None
        elif self._suspects_since is None:
            self._suspects_since = now

    def is_draining(self, now: float) -> bool:
        """Whether nothing is taken, so that a suspect can soon run alone."""
        since = self._suspects_since
        return self._alone is Alone.YES and since is not None and now - since >= DRAIN_SECONDS

    def room(
        self, tasks: Collection[Task], occupied: int, now: float, is_open: bool
    ) -> tuple[Alone, Room]:
        """How to ask for jobs, and for how many.

        :param tasks: jobs that run
        :param occupied: slots taken by calls that could not be ended
        :param is_open: jobs may be begun: a waiting one may have to make room for them
        """
        if self._alone is Alone.WATCHED:
            for task in tasks:
                since = task.waits()
                if since is not None and now - since >= STALLED_SECONDS:
                    task.yield_room()  # it only waits, and other suspects wait for its room
            return self._alone, NO_ROOM if tasks else Room(1)
        if any(task.alone for task in tasks):
            return Alone.NO, NO_ROOM
        if self._alone is Alone.YES and self._suspects_since is not None:
            if not tasks and not occupied:
                return self._alone, Room(1)
            if now - self._suspects_since >= 2 * DRAIN_SECONDS:
                self._suspects_since = now  # the jobs that run take too long: others first
            elif self.is_draining(now):
                return Alone.NO, NO_ROOM
        room = self._slots.room(tasks, now)
        if room.evict is not None and self._waiting and is_open:
            room.evict.yield_room()
        count = max(0, room.count - occupied)
        return Alone.NO, Room(count, max(0, room.late), max(0, room.express))
