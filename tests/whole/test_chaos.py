"""Short storms; ``python -m tests.chaos``, and the other programs beside it, are the long ones."""

from twisted.trial.unittest import SynchronousTestCase

from tests.chaos import bodies, callbacks, downloads, sameid
from tests.chaos.bulk import TOO_FAST, BulkKills
from tests.chaos.crashpoints import WRITE, CrashPoints
from tests.chaos.kills import Kills
from tests.chaos.storm import Count, Storm
from tests.support.redis_servers import need

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


class KillsTests(SynchronousTestCase):
    """Whole nodes, killed every moment."""

    timeout = 240

    def kills(self) -> Kills:
        kills = Kills(embedded=False)
        self.addCleanup(kills.close)
        return kills

    def test_nothing_fails(self) -> None:
        """However often nodes are killed, no batch is lost, and none fails for it."""
        kills = self.kills()
        kills.run(12, 8)
        self.assertEqual((kills.wrong, len(kills.accepted)), ([], 12))

    def test_poison(self) -> None:
        """A job that kills its process is buried, and harms no other."""
        kills = self.kills()
        kills.control(3)
        self.assertEqual(kills.wrong, [])


class CrashPointTests(SynchronousTestCase):
    """A few of the points at which a worker may end."""

    timeout = 240

    def test_some(self) -> None:
        """Each is followed by one right zip."""
        need("strace")
        crash = CrashPoints()
        self.addCleanup(crash.close)
        crash.run(every=24)
        self.assertEqual(crash.wrong, [])
        self.assertGreaterEqual(sum(crash.points.values()), 3)
        self.assertTrue(crash.points[f"{WRITE} of other threads"])

    def test_full(self) -> None:
        """A disk that is full at one of the writes: the same worker ends with one right zip."""
        crash = CrashPoints(full=True)
        self.addCleanup(crash.close)
        crash.run(every=4, seconds=10)
        self.assertEqual(crash.wrong, [])
        self.assertGreaterEqual(sum(crash.points.values()), 2)
        self.assertTrue(crash.points[f"{WRITE} refused"])


class ChaosDownloadTests(SynchronousTestCase):
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


class BulkKillsTests(SynchronousTestCase):
    """One action on many batches, while the daemon is killed."""

    timeout = 120

    def test_each_once(self) -> None:
        """It goes on to its end, and each batch is tried again once."""
        for (
            _
        ) in "123":  # where the machine is busy, all may be done before it is seen to have begun
            chaos = BulkKills(batches=45, members=10)
            self.addCleanup(chaos.close)
            wrong = chaos.run(kills=1)
            if wrong != [f"{TOO_FAST} 0 times only"]:
                break
        self.assertEqual(wrong, [])


class SameIdTests(SynchronousTestCase):
    """The same batch from everywhere at once."""

    def test_two_nodes(self) -> None:
        """It is taken in once."""
        self.assertEqual(sameid.run(clients=30, ids=5), [])


class CallbackTests(SynchronousTestCase):
    """Last callbacks to a receiver that fails, from nodes that are killed."""

    timeout = 240

    def test_all_arrive(self) -> None:
        """Each with one id, and nothing comes after it."""
        self.assertEqual(callbacks.run(batches=12, kills=2, seconds=4)[1], [])

    def test_many_speakers(self) -> None:
        """Where nodes do not agree on who reports, progress meets the last one."""
        # On a machine that is busy otherwise they may be too slow to meet.
        runs = (callbacks.run(batches=20, kills=0, seconds=5, sabotage="reporter") for _ in "123")
        self.assertTrue(any(wrong for _, wrong in runs))


class ChaosBodyTests(SynchronousTestCase):
    """Bodies that are too large or too slow."""

    timeout = 120

    def test_others_go_on(self) -> None:
        """They are refused, take no memory, and nobody waits for them."""
        self.assertEqual(bodies.run(count=60, length=300_000_000)[1], [])
