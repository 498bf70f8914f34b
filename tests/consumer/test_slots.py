"""How many more jobs a process takes."""

from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.consumer.slots import (
    MAX_EXPRESS,
    MAX_UNITS,
    STALLED_SECONDS,
    PartSlots,
    Room,
    Slots,
)
from twisted_bulk.consumer.task import Task
from twisted_bulk.jobs.model import Job

FEW = 100


def task(size: int = 1000, since: float | None = None) -> Task:
    """One that gets on, or has been waiting."""
    small = size <= FEW
    found = Task(Job(id="j", attempt=1, attachment="", payload=b"", size=size, small=small))
    found.waits = lambda: since
    return found


class SlotsTests(SynchronousTestCase):
    """Jobs that are all alike."""

    def test_free(self) -> None:
        """As many as there are slots."""
        self.assertEqual(Slots(4).room([], 0.0), Room(4))
        self.assertEqual(Slots(4).room([task()] * 3, 0.0), Room(1))
        self.assertEqual(Slots(4).room([task()] * 5, 0.0), Room(0))

    def test_waiting(self) -> None:
        """One that waits holds no slot, but who has a free one is asked first."""
        waiting = [task(since=1.0), task(since=1.0), task()]
        self.assertEqual(Slots(4, 9).room(waiting, 2.0), Room(1, 2))
        self.assertEqual(Slots(2, 9).room(waiting, 2.0), Room(0, 1))

    def test_most(self) -> None:
        """Those that wait are bounded, too."""
        self.assertEqual(Slots(4, 6).room([task(since=1.0)] * 5, 2.0), Room(0, 1))
        self.assertEqual(Slots(4, 6).room([task(since=1.0)] * 6, 2.0), Room(0, 0))


class PartSlotsTests(SynchronousTestCase):
    """Parts of batches."""

    def setUp(self) -> None:
        self.slots = PartSlots(4, 256)

    def test_large_ones(self) -> None:
        """However many large ones run, there is room for small ones."""
        self.assertEqual(self.slots.room([task()] * 4, 0.0), Room(0, 0, MAX_EXPRESS))

    def test_small_ones(self) -> None:
        """These have a bound of their own, and take nobody's slot."""
        small = [task(FEW)] * 10
        self.assertEqual(self.slots.room(small, 0.0), Room(0, 4, MAX_EXPRESS - 10))
        self.assertEqual(
            self.slots.room([*small, *[task()] * 4], 0.0), Room(0, 0, MAX_EXPRESS - 10)
        )
        self.assertEqual(self.slots.room([task(FEW)] * (MAX_EXPRESS + 4), 0.0), Room(0, 0, 0))

    def test_waiting(self) -> None:
        """However many wait for their sources, there is room for others."""
        self.assertEqual(self.slots.room([task(since=0.0)] * 50, 1.0), Room(0, 4, MAX_EXPRESS))

    def test_crowded(self) -> None:
        """Large ones that wait fill the memory: the one that has waited longest is to go."""
        size = MAX_UNITS // 6
        waiting = [task(size, 5.0 + n) for n in range(6)]
        self.assertEqual(self.slots.room(waiting, 6.0), Room(0, 0, MAX_EXPRESS))
        room = self.slots.room(waiting, 5.0 + STALLED_SECONDS)
        self.assertEqual(room, Room(0, 0, MAX_EXPRESS, waiting[0]))
        # Not where all slots are used by others.
        self.assertEqual(self.slots.room([*waiting, *[task()] * 4], 99.0), Room(0, 0, MAX_EXPRESS))

    def test_as_many_as_slots(self) -> None:
        """Whatever their size, so many parts run as there are slots."""
        self.assertEqual(self.slots.room([task(MAX_UNITS, 1.0)] * 3, 99.0).count, 1)
