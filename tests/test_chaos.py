"""Short storms; ``python -m tests.chaos``, and ``.crashpoints`` and ``.downloads`` of it, are the
long ones."""

from twisted.trial.unittest import SynchronousTestCase

from tests.chaos import downloads, sameid
from tests.chaos.crashpoints import CrashPoints
from tests.chaos.storm import Count, Storm
from tests.servers import need

LEASE = 3.0


class StormTests(SynchronousTestCase):
    """Everything at once, and with one defence out."""

    timeout = 240

    def storm(self, sabotage: str = "", seconds: float = 6) -> Count:
        storm = Storm(lease=LEASE, sabotage=sabotage)
        self.addCleanup(storm.close)
        # Without its fence a queue is betrayed by workers that come back late.
        only = "freeze" if sabotage == "fence" else ""
        return storm.run(round(seconds * 2), seconds, bool(sabotage), only)

    def test_nothing_lost(self) -> None:
        """No batch is lost or done twice, no file and no key is left."""
        count = self.storm()
        self.assertEqual(count.wrong, [])
        self.assertEqual(count.batches, 12)

    def test_without_fence(self) -> None:
        """A worker that was frozen overwrites what another has done."""
        self.assertTrue(self.storm("fence", 30).wrong)

    def test_without_renewal(self) -> None:
        """Workers lose parts that they work on."""
        self.assertTrue(self.storm("renewal", 6).wrong)

    def test_without_fsync(self) -> None:
        """What was published is not whole after a power cut."""
        self.assertTrue(self.storm("fsync", 6).wrong)


class CrashPointTests(SynchronousTestCase):
    """A few of the points at which a worker may end."""

    timeout = 240

    def test_some(self) -> None:
        """Each is followed by one right zip."""
        need("strace")
        crash = CrashPoints()
        self.addCleanup(crash.close)
        crash.run(every=16)
        self.assertEqual(crash.wrong, [])
        self.assertGreaterEqual(sum(crash.points.values()), 3)

    def test_full(self) -> None:
        """A disk that is full at one of the writes: the same worker ends with one right zip."""
        crash = CrashPoints(full=True)
        self.addCleanup(crash.close)
        crash.run(every=4, seconds=15)
        self.assertEqual(crash.wrong, [])
        self.assertGreaterEqual(sum(crash.points.values()), 2)


class DownloadTests(SynchronousTestCase):
    """Finished zips, by clients that are broken off."""

    timeout = 240

    def test_resumed(self) -> None:
        """Each has the file in the end, also when the server was killed meanwhile."""
        for name in ("curl", "wget", "aria2c"):
            need(name)
        found = downloads.run(each=3, restarts=2)
        self.assertEqual(
            {name: right for name, (right, _) in found.items()}, dict.fromkeys(found, 3)
        )
        self.assertGreater(min(breaks for _, breaks in found.values()), 3)


class SameIdTests(SynchronousTestCase):
    """The same batch from everywhere at once."""

    def test_two_nodes(self) -> None:
        """It is taken in once."""
        self.assertEqual(sameid.run(clients=30, ids=5), [])
