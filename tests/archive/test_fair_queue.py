"""Work that waits for a thread."""

from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.archive.fair_queue import LONGEST_WAITING_EVERY, FairQueue


class TurnsTests(SynchronousTestCase):
    """What is next of what many wait for."""

    def test_order(self) -> None:
        """Owners in turn; of each the lowest rank, and of two alike the first."""
        turns: FairQueue[str] = FairQueue()
        for rank, item in ((5, "e"), (1, "b"), (1, "c"), (0, "a")):
            turns.add("big", rank, item)
        turns.add("small", 9, "z")
        self.assertEqual("".join(turns.take() for _ in range(3)), "azb")
        turns.add("new", 0, "n")
        self.assertEqual("".join(turns.take() for _ in range(3)), "cne")

    def test_nobody_waits_for_ever(self) -> None:
        """The youngest has its turn, however many older ones come meanwhile."""
        turns: FairQueue[int] = FairQueue()
        turns.add("a", 99, 99)
        for rank in range(LONGEST_WAITING_EVERY):
            turns.add("a", rank, rank)
        self.assertEqual(
            [turns.take() for _ in range(LONGEST_WAITING_EVERY + 1)],
            [*range(LONGEST_WAITING_EVERY - 1), 99, LONGEST_WAITING_EVERY - 1],
        )
