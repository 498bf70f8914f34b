"""Nodes that are put together and not started."""

import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.errors import ConfigError
from twisted_bulk.node.child_roles import child_settings
from twisted_bulk.node.outgoing import make_agent
from twisted_bulk.node.quarantine import Quarantine
from twisted_bulk.node.sources import load
from twisted_bulk.node.values import Role
from twisted_bulk.node.wiring import Wiring
from twisted_bulk.node.worker_processes import WorkerProcesses
from twisted_bulk.service import build

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


class WiringTests(SynchronousTestCase):
    """Nodes with a reactor in memory, in temporary folders."""

    def setUp(self) -> None:
        self.data = Path(tempfile.mkdtemp(prefix="bw"))
        self.patch(tempfile, "tempdir", None)  # build() sets it
        self.reactor: Any = MemoryReactorClock()

    def settings(self, **given: str) -> Any:
        return load({"data": str(self.data), "broker": "memory:"} | given, {})

    def build(self, **given: str) -> list[str]:
        """The types of a node's services, in the order of their start."""
        daemon = build(self.settings(**given), self.reactor)
        return [type(service).__name__ for service in daemon]

    def refused(self, pattern: str, **given: str) -> None:
        error = self.assertRaises(ConfigError, build, self.settings(**given), self.reactor)
        self.assertRegex(str(error), pattern)

    def test_all_roles(self) -> None:
        """The broker starts first and the API last: they stop in the reverse order."""
        started = self.build()
        self.assertEqual(started[0], "SqliteStore")
        self.assertEqual(started[-5:], ["Janitor", "GuardedAgent", "Feed", "Bulk", "Listener"])
        self.assertLess(started.index("Downloader"), started.index("Runner"))
        self.assertEqual(started.count("Runner"), 2)
        self.assertNotIn("Quarantine", started)

    def test_roles(self) -> None:
        """A node has the parts of its roles, and no others."""
        sqlite = {"broker": f"sqlite://{self.data}/q.db"}
        files = self.build(**sqlite, roles="files")
        self.assertEqual(files, ["SqliteStore", "DiskSpace", "Listener", "Janitor"])
        worker = self.build(**sqlite, roles="worker", workers="2")
        self.assertLess(worker.index(WorkerProcesses.__name__), worker.index("Downloader"))
        self.assertIn(Quarantine.__name__, worker)
        self.assertNotIn("Listener", worker)
        self.assertEqual(self.build(**sqlite, roles="intake").count("Listener"), 1)

    def test_child(self) -> None:
        """A process that a node has started starts no others, and quarantine sends no callbacks."""
        sqlite = {"broker": f"sqlite://{self.data}/q.db"}
        child = self.build(**sqlite, roles="worker", workers="2", lifeline="yes")
        self.assertNotIn(WorkerProcesses.__name__, child)
        self.assertNotIn(Quarantine.__name__, child)
        alone = self.build(**sqlite, roles="worker", lifeline="yes", quarantine="yes")
        self.assertEqual((child.count("Runner"), alone.count("Runner")), (2, 1))

    def test_child_settings(self) -> None:
        """A child gets the node's settings in the role of a worker; limits are not set twice."""
        given = self.settings(cluster_parts="5", concurrency="7", rate="1k", access_log="x")
        wiring = Wiring(given, self.reactor)
        found = child_settings(wiring, quarantine="yes")
        settings = load({}, found)
        self.assertEqual((settings.concurrency, settings.rate), (7, 1000))
        self.assertEqual(settings.roles, frozenset([Role.WORKER]))
        self.assertTrue(settings.lifeline and settings.quarantine)
        self.assertEqual(settings.cluster_parts, 0)
        self.assertLessEqual({10000, 10001}, settings.own_ports)

    def test_settings_that_do_not_go_together(self) -> None:
        """Each is refused before anything runs, by the name of the setting."""
        self.refused("^workers: ", workers="1")
        self.refused("^roles: ", roles="worker")
        self.refused("^broker: ", redis="redis://h")
        self.refused("^disk_soft: ", disk_soft="80", disk_back="80")
        self.refused("^disk_soft: ", disk_soft="96")
        self.refused("^intake: .*proxy_protocol", intake="haproxy:tcp:1")
        self.refused("^files: not an endpoint", files="tcp:port")
        self.refused("^proxy_protocol: ", files="ssl:443", proxy_protocol="yes")
        self.refused("^access_log: ", access_log=str(self.data / "none" / "log"))

    def test_authorities(self) -> None:
        """A file without a usable certificate is refused."""
        path = self.data / "ca.pem"
        for text, pattern in (("", "no certificate"), (CERTIFICATE, "cannot use")):
            path.write_text(text)
            wiring = Wiring(self.settings(ca=str(path)), self.reactor)
            error = self.assertRaises(ConfigError, make_agent, wiring)
            self.assertRegex(str(error), f"^ca: .*{pattern}")

    def test_shared_clock(self) -> None:
        """Nothing runs by itself before the node is started."""
        self.build()
        self.assertIsInstance(self.reactor, Clock)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
