"""Worker processes of a node, and brokers by one setting, in real daemons."""

import json
import os
import signal
import subprocess
import tempfile
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.support.daemon import Daemon, command, environment
from tests.support.daemon_case import DaemonTestCase, until
from tests.support.processes import alive
from tests.support.redis_servers import RedisServer, ask
from twisted_bulk.node.worker_processes import Lines
from twisted_bulk.system.logs import as_line, as_object


def children(daemon: Daemon) -> list[int]:
    """The worker processes of a daemon."""
    path = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children")
    pids = [int(word) for word in path.read_text().split()]

    def works(pid: int) -> bool:
        try:
            return b"twistd" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:  # it ended just now
            return False

    return list(filter(works, pids))


def works(daemon: Daemon, count: int) -> bool:
    """Whether so many worker processes reserve parts."""
    workers = daemon.call("GET", "/v1/stats")["parts"]["workers"]
    return len([worker for worker in workers if worker["silent"] < 5]) >= count


class WorkersTests(DaemonTestCase):
    """``--workers``."""

    def test_kept(self) -> None:
        """They do the node's work; one that is killed is replaced and its part done again."""
        daemon = self.daemon("--roles=intake,files", "--workers=2", "--rate=0")
        until(lambda: works(daemon, 2))
        first = children(daemon)
        self.assertEqual(len(first), 2)
        self.source.gate.clear()
        daemon.post({"task_id": "k", "download": self.urls(20)})
        until(lambda: len(self.source.asked) >= 4)
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        self.source.gate.set()
        until(lambda: len(children(daemon)) == 2 and not set(first) & set(children(daemon)))
        self.complete(daemon, "k", 20)

    def test_end_with_the_node(self) -> None:
        """A stop waits for them; after a kill -9 they end by themselves."""
        daemon = self.daemon("--workers=2")
        until(lambda: len(children(daemon)) == 2)
        first = children(daemon)
        self.assertEqual(daemon.stop(), 0)
        self.assertFalse([pid for pid in first if alive(pid)])
        daemon.start()
        until(lambda: works(daemon, 3))
        second = children(daemon)
        daemon.kill()
        until(lambda: not [pid for pid in second if alive(pid)])
        daemon.start()


class LinesTests(SynchronousTestCase):
    """What children say, in our log."""

    def test_passed_on(self) -> None:
        """A line keeps its time, level, area and fields, wherever it is cut, whatever comes beside
        it; what is no line of a log is a text."""
        seen: list[Any] = []

        @implementer(ILogObserver)
        def note(event: Any) -> None:
            if "child" in event:
                seen.append(as_object(event))

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        said: list[Any] = []
        observer: Any = said.append
        log = Logger(namespace="twisted_bulk.download", observer=observer)
        log.warn("{host} of two words", host="h", job="b@n/2")
        line = as_line(said[0]).encode() + b"\n"
        out, err = Lines("worker 1"), Lines("worker 1")
        for begin in range(0, len(line), 7):
            out.add(line[begin : begin + 7])
            err.add(b"no")
        err.add(b" JSON at all\nrest")
        err.end()
        passed, text, rest = seen
        own = as_object(said[0])
        self.assertEqual(passed.pop("message"), f"worker 1: {own.pop('message')}")
        self.assertEqual({key: passed[key] for key in own}, own)
        self.assertIn("no JSON at all", text["message"])
        self.assertEqual(rest["message"], "worker 1: rest")


class BrokerTests(DaemonTestCase):
    """``--broker``."""

    def test_sqlite(self) -> None:
        """Several processes on one file; after a kill -9 a new start goes on."""
        path = Path(tempfile.mkdtemp(prefix="bw")) / "queue.db"
        daemon = self.daemon(f"--broker=sqlite://{path}", "--workers=1", "--rate=0")
        self.assertFalse((daemon.data / "redis" / "lock").exists())
        self.source.gate.clear()
        daemon.post({"task_id": "k", "download": self.urls(20)})
        until(lambda: len(self.source.asked) >= 4)
        daemon.kill()
        self.source.gate.set()
        daemon.start()
        self.complete(daemon, "k", 20)

    def test_memory(self) -> None:
        """Within one process, nothing on disk but files."""
        daemon = self.daemon("--broker=memory:", "--rate=0")
        daemon.post({"task_id": "k", "download": self.urls()})
        self.complete(daemon, "k", 3)

    def test_refused(self) -> None:
        """What a broker cannot do is said at the start."""
        for options, said in (
            (["--broker=memory:", "--workers=1"], "workers: "),
            (["--broker=memory:", "--roles=intake"], "roles: "),
            (["--broker=memory:", "--redis=redis://h"], "broker: "),
            (["--broker=mongodb://h"], "broker on the command line"),
        ):
            words = [*command(*options), f"--data={self.mktemp()}"]
            done = subprocess.run(words, capture_output=True, env=environment(), timeout=60)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr.decode(), f"^bulkwav: {said}")


class WorkersOperatorTests(DaemonTestCase):
    """What an operator sees and changes."""

    def test_live(self) -> None:
        """Paused, a batch waits with its place; its priority may change; then it runs."""
        daemon = self.daemon("--rate=0", "--cluster-parts=3")
        settings = daemon.call("PATCH", "/v1/queue", {"paused": True})["parts"]["settings"]
        self.assertEqual(settings, {"paused": True, "max_doing": 3})
        for name in ("a", "b"):
            daemon.post({"task_id": name, "download": self.urls()})
        self.assertEqual(daemon.call("GET", "/v1/batches/b")["position"], 2)
        self.assertEqual(daemon.call("PATCH", "/v1/batches/b", {"priority": 5})["position"], 1)
        parts = daemon.call("GET", "/v1/stats")["parts"]
        self.assertEqual((parts["counts"]["waiting"], parts["backlog"]), (2, 6))
        settings = daemon.call("PATCH", "/v1/queue", {"paused": None, "max_doing": None})
        self.assertEqual(settings["parts"]["settings"], {})
        for name in ("a", "b"):
            self.assertEqual(daemon.wait(name)["status"], "done")
        parts = daemon.call("GET", "/v1/stats")["parts"]
        self.assertEqual((parts["counts"]["done"], parts["backlog"], parts["eta"]), (2, 0, 0))
        self.assertLess(parts["empty_for"], 60)

    def takes(self, daemon: Daemon, body: dict[str, Any]) -> bool:
        """Whether a batch is taken in now: the memory is looked at once a second."""
        try:
            daemon.post(body)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        return True

    def test_full_redis(self) -> None:
        """Over maxmemory a POST gets 503, what runs ends, the queue drains, a POST works again."""
        server = RedisServer()
        self.addCleanup(server.close)
        daemon = self.daemon(f"--redis={server.url}", "--rate=0", "--parts=2")
        self.source.gate.clear()
        urls = self.urls()
        for n in range(6):
            daemon.post({"task_id": f"k{n}", "download": urls})
        until(lambda: len(self.source.asked) >= 3)
        ask(server.socket, "CONFIG", "SET", "maxmemory", "1")
        with self.assertRaises(urllib.error.HTTPError) as caught:
            daemon.post({"task_id": "more", "download": urls})
        self.assertEqual(caught.exception.code, 503)
        self.assertTrue(int(caught.exception.headers["Retry-After"]) > 0)
        self.assertEqual(json.load(caught.exception)["code"], "queue_full")
        self.source.gate.set()
        for n in range(6):
            self.assertEqual(daemon.wait(f"k{n}")["status"], "done")
        ask(server.socket, "CONFIG", "SET", "maxmemory", "0")
        until(lambda: self.takes(daemon, {"task_id": "more", "download": urls}))
        self.assertEqual(daemon.wait("more")["status"], "done")

    def test_memory(self) -> None:
        """With little memory left a POST gets 503 before anything goes wrong, and what could only
        be tried again goes; the embedded server has a limit."""
        server = RedisServer("--maxmemory", "20mb")
        self.addCleanup(server.close)
        daemon = self.daemon(f"--redis={server.url}", "--retries=0")
        daemon.post({"task_id": "old", "download": [f"{self.source.url}/none", *self.urls(1)]})
        self.assertEqual(daemon.wait("old")["status"], "partial")
        for _ in range(34):
            ask(server.socket, "RPUSH", "junk", "x" * 500_000)
        for path, body in (("", {"download": self.urls()}), ("/old/retry", None)):
            until(lambda: "of the queue's memory are in use" in daemon.log.read_text())
            with self.assertRaises(urllib.error.HTTPError) as caught:
                daemon.call("POST", f"/v1/batches{path}", body)
            said = json.load(caught.exception)
            self.assertEqual((said["status"], said["code"]), (503, "queue_full"))
        with self.assertRaises(urllib.error.HTTPError) as caught:
            daemon.call("GET", "/readyz")
        self.assertEqual(json.load(caught.exception)["code"], "queue_full")
        until(lambda: "cannot be tried again" in daemon.log.read_text())
        ask(server.socket, "DEL", "junk")
        until(lambda: "there is room in the queue again" in daemon.log.read_text())
        with self.assertRaises(urllib.error.HTTPError) as caught:
            daemon.call("POST", "/v1/batches/old/retry")
        self.assertIn("memory was short", json.load(caught.exception)["detail"])
        daemon.post({"task_id": "new", "download": self.urls()})
        self.assertEqual(daemon.wait("new")["status"], "done")
        daemon = self.daemon("--redis-memory=50M")
        where = daemon.data / "redis" / "redis.sock"
        self.assertEqual(ask(where, "CONFIG", "GET", "maxmemory"), [b"maxmemory", b"50000000"])

    def test_two_nodes(self) -> None:
        """The same id by many clients at once on two nodes is one batch."""
        server = RedisServer()
        self.addCleanup(server.close)
        first = self.daemon(f"--redis={server.url}", "--rate=0")
        second = self.daemon(f"--redis={server.url}", "--rate=0", "--roles=intake")
        urls = self.urls()
        with ThreadPoolExecutor(16) as pool:
            for n in range(10):
                body = {"task_id": f"k{n}", "download": urls}
                posts = [pool.submit(node.post, body) for node in (first, second) * 8]
                self.assertEqual({post.result()["task_id"] for post in posts}, {f"k{n}"})
        for n in range(10):
            self.assertEqual(first.wait(f"k{n}")["done"], len(urls))
        self.assertEqual(len(first.call("GET", "/v1/batches")["batches"]), 10)
        until(lambda: len(self.visible(first)) == 10)
        body = {"task_id": "k0", "download": urls[:1]}
        with self.assertRaises(urllib.error.HTTPError) as caught:
            second.post(body)
        self.assertEqual(caught.exception.code, 409)


class WorkerSpoolTests(DaemonTestCase):
    """Results that Redis was not there for."""

    def test_outlives_the_worker(self) -> None:
        """A zip made while Redis is away counts, though its worker was stopped meanwhile."""
        server = RedisServer()
        self.addCleanup(server.close)
        daemon = self.daemon(f"--redis={server.url}", "--rate=0")
        self.source.gate.clear()
        daemon.post({"task_id": "k", "download": self.urls()})
        until(lambda: len(self.source.asked) >= 3)
        server.kill()
        self.source.gate.set()
        until(lambda: list((daemon.data / "spool").glob("*/*.parts.acks")))
        asked = len(self.source.asked)
        daemon.stop()
        self.assertTrue(list((daemon.data / "spool").glob("*/*.parts.acks")))
        server.start()
        daemon.start()
        self.complete(daemon, "k", 3)
        self.assertEqual(len(self.source.asked), asked)
