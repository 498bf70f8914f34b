"""Others' trouble, and kills: nothing is lost, and nobody waits who need not. On real daemons."""

import json
import random
import signal
import socket
import threading
import time
import urllib.error
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.chaos.storm import LAUNCH
from tests.support.daemon import Daemon, descendants, environment
from tests.support.daemon_case import DaemonTestCase, until
from tests.support.redis_servers import free_port
from tests.support.thread_server import Handler


class KilledTests(DaemonTestCase):
    """Kills, as many as there are."""

    def test_any_number(self) -> None:
        """A batch outlives every kill of its daemon, also those before its first heartbeat.

        Fails on ecffb8f: after the third it has failed as poison, with 0 of 60 done.
        """
        daemon = self.daemon("--rate=0", "--per-host=2")
        self.source.delay = 0.1
        daemon.post({"task_id": "k", "download": self.urls(60)})
        dice = random.Random(11)
        for _ in range(8):
            time.sleep(dice.uniform(0.0, 0.3))
            daemon.kill()
            daemon.start()
        self.complete(daemon, "k", 60)

    def test_before_anything_came(self) -> None:
        """Also one that never gets anywhere while it is killed is no poison.

        Fails on ecffb8f: its worker was lost three times.
        """
        daemon = self.daemon("--rate=0")
        self.source.gate.clear()
        daemon.post({"task_id": "k", "download": self.urls(3)})
        for _ in range(4):
            self.source.asked.clear()
            until(lambda: self.source.asked)
            daemon.kill()
            daemon.start()
        self.source.gate.set()
        self.complete(daemon, "k", 3)

    def test_poison(self) -> None:
        """A batch that kills its process is buried after three that had nothing else in hand;
        the daemon outlives these, and other batches are done."""

        class Poisoned(Daemon):
            def command(self) -> list[str]:
                return [*LAUNCH, *self.options]

            def environment(self) -> dict[str, str]:
                return environment() | {"CHAOS_POISON": "yes"}

        self.source.gate.clear()
        folder = Path(self.mktemp()).absolute()
        daemon = Poisoned(folder, "--rate=0")
        self.addCleanup(daemon.__exit__)
        daemon.post({"task_id": "good", "download": self.urls(3)})
        until(lambda: self.source.asked)
        daemon.post({"task_id": "poison", "download": self.urls(1)})
        for _ in range(2):  # it takes the daemon with it until it is a suspect
            daemon.process.wait(30)
            daemon.spawn()  # the first one may die before it is ready
        daemon.wait_ready()
        self.source.gate.set()
        shown = daemon.wait("poison", 90)
        self.assertEqual((shown["status"], shown["errors"][0]["code"]), ("failed", "poison"))
        self.assertIsNone(daemon.process.poll())
        self.assertEqual(daemon.wait("good", 60)["status"], "done")


class StalledTests(DaemonTestCase):
    """Batches whose sources stall, beside one whose source does not."""

    def test_small_one_passes(self) -> None:
        """However many wait for their sources, and though they came first, it is done at once.

        Fails on ecffb8f: four of them have all slots.
        """
        daemon = self.daemon("--rate=0", "--header-timeout=60s", "--drain=0s")
        stalled = [self.hole() for _ in range(12)]
        for n, url in enumerate(stalled):
            urls = [f"{url}/{k}" for k in range(20)]
            daemon.post({"task_id": f"s{n}", "download": urls, "priority": 5})
        daemon.post({"task_id": "small", "download": self.urls(3)})
        self.assertEqual(daemon.wait("small", 30)["status"], "done")
        for n in range(12):
            shown = daemon.call("GET", f"/v1/batches/s{n}")
            self.assertEqual((shown["status"], shown["done"], shown["failed"]), ("running", 0, 0))
        until(lambda: daemon.call("GET", "/v1/batches/s0")["waits_for"])

    def hole(self, address: str = "127.0.0.1") -> str:
        """A server that accepts and says nothing."""
        sock = socket.socket()
        sock.bind((address, 0))
        sock.listen(100)
        self.addCleanup(sock.close)
        return f"http://{address}:{sock.getsockname()[1]}"

    def test_small_one_passes_large_ones(self) -> None:
        """Healthy large batches have all slots: a small one for another host does not wait.

        Fails on ecffb8f: it stays queued until one of them has ended.
        """
        other = type(self.source)()
        self.addCleanup(other.close)
        daemon = self.daemon("--rate=0", "--parts=2")
        other.gate.clear()
        other.files = {f"/{n}": b"x" for n in range(150)}
        for n in range(4):
            urls = [other.url + path for path in other.files]
            daemon.post({"task_id": f"large{n}", "download": urls})
        until(lambda: other.asked)
        daemon.post({"task_id": "small", "download": self.urls(3)})
        self.assertEqual(daemon.wait("small", 30)["status"], "done")
        other.gate.set()
        for n in range(4):
            self.assertEqual(daemon.wait(f"large{n}", 60)["done"], 150)

    def test_last_callback_passes(self) -> None:
        """More receivers that never answer than there are slots: a healthy one's last callback
        comes while all of these are waited for.

        Fails on ecffb8f: it comes when the first of them have run into their deadlines.
        """
        daemon = self.daemon("--rate=0", "--notify-every=60s", "--request-rate=0")
        (url,) = self.urls(1)
        for n in range(250):
            receiver = f"{self.hole(f'127.0.{n + 1}.1')}/n"
            daemon.post({"task_id": f"d{n}", "download": [url], "url": receiver})
        for n in range(250):
            daemon.wait(f"d{n}", 60)
        daemon.post({"task_id": "h", "download": [url], "url": f"{self.source.url}/n"})
        until(lambda: any(body["task_id"] == "h" for _, body in self.source.callbacks))
        self.assertNotIn("last callback of d", daemon.log.read_text())


class AllAwayTests(DaemonTestCase):
    """A source that is away for a while."""

    def setUp(self) -> None:
        super().setUp()
        self.port = free_port()
        self.body = b"x" * 1000
        self.url = f"http://127.0.0.1:{self.port}"

    def serve(self, answer: int = 200) -> ThreadingHTTPServer:
        """The source, at its port; ``answer``: all it says."""
        body = self.body

        class Answering(Handler):
            def do_GET(self) -> None:
                self.reply(body, code=answer)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        server = Server(("127.0.0.1", self.port), Answering)
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def close() -> None:
            server.shutdown()
            server.server_close()

        self.addCleanup(close)
        return server

    def post(self, daemon: Daemon, members: int = 60) -> None:
        urls = [f"{self.url}/{n}" for n in range(members)]
        daemon.post({"task_id": "a", "download": urls})

    def shown(self, daemon: Daemon) -> dict[str, Any]:
        return dict(daemon.call("GET", "/v1/batches/a"))

    def test_comes_back(self) -> None:
        """No member fails because its host was away: they wait, and it is asked now and then.

        Fails on ecffb8f: all of them have failed after a second.
        """
        daemon = self.daemon("--rate=0", "--retries=1")
        self.post(daemon)
        until(lambda: "away since" in self.shown(daemon)["waits_for"])
        self.assertIn("is away", daemon.log.read_text())
        time.sleep(2)  # far longer than the tries of a member alone take
        shown = self.shown(daemon)
        self.assertEqual((shown["failed"], shown["status"]), (0, "running"))
        self.serve()
        shown = daemon.wait("a", 60)
        self.assertEqual((shown["status"], shown["done"]), ("done", 60))
        until(lambda: "is back" in daemon.log.read_text())

    def test_unavailable(self) -> None:
        """The same where a proxy before it says 502."""
        daemon = self.daemon("--rate=0", "--retries=1")
        server = self.serve(502)
        self.post(daemon)
        until(lambda: "away since" in self.shown(daemon)["waits_for"])
        time.sleep(1)
        server.shutdown()
        server.server_close()
        self.serve()
        shown = daemon.wait("a", 60)
        self.assertEqual((shown["status"], shown["done"]), ("done", 60))

    def test_given_up(self) -> None:
        """After --host-patience all of its members fail, with what was the matter."""
        daemon = self.daemon("--rate=0", "--host-patience=2s")
        self.post(daemon)
        shown = daemon.wait("a", 60)
        self.assertEqual((shown["status"], shown["failed"]), ("failed", 60))
        self.assertEqual({error["code"] for error in shown["errors"]}, {"connect_failed"})
        self.assertTrue(all("has been away for" in e["detail"] for e in shown["errors"]))


class SharedFolderTests(DaemonTestCase):
    """Several daemons on one folder, and their embedded server."""

    def runs(self, pid: int) -> bool:
        """Whether a process is there."""
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except FileNotFoundError:
            return False

    def test_second_one_leaves(self) -> None:
        """A second daemon on the folder joins and leaves; the first one's batches go on.

        Fails on ecffb8f: it ends the first one's server.
        """
        first = self.daemon("--rate=0")
        redis = first.redis_pid()
        self.source.gate.clear()
        first.post({"task_id": "k", "download": self.urls(3)})
        second = Daemon(first.data, "--rate=0")
        self.assertEqual(second.call("GET", "/v1/batches/k")["task_id"], "k")
        self.assertEqual(second.stop(), 0)
        self.assertEqual(first.redis_pid(), redis)
        self.source.gate.set()
        self.complete(first, "k", 3)

    def test_ends_with_the_daemon(self) -> None:
        """However the daemon ends, its server does as well, and nothing of it is left running.

        Fails on ecffb8f: after a second Ctrl-C, or a kill -9, the server has no parent and stays.
        """
        for signals in ((signal.SIGINT, signal.SIGINT), (signal.SIGKILL,)):
            daemon = self.daemon("--rate=0", "--workers=1")
            self.source.gate.clear()
            daemon.post({"task_id": "k", "download": self.urls(3)})
            until(lambda: self.source.asked)
            pids = [*descendants(daemon.process.pid), daemon.redis_pid()]
            for number in signals:
                daemon.process.send_signal(number)
                if number == signal.SIGINT:
                    until(lambda: "stopping" in daemon.log.read_text())  # noqa: B023
            daemon.process.wait(30)
            until(lambda: not any(self.runs(pid) for pid in pids))  # noqa: B023
            text = daemon.log.read_text()
            if signals[0] == signal.SIGINT:
                self.assertIn("stopping: up to 30 s for", text)
            self.source.gate.set()
            self.source.asked.clear()


class ImpatientOperatorTests(DaemonTestCase):
    """Stop, pause, night hours and a full disk, as they are told."""

    def code(self, daemon: Daemon, method: str, path: str) -> tuple[int, dict[str, Any]]:
        """A call that may fail."""
        try:
            return 200, daemon.call(method, path)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def test_stop_is_revocable(self) -> None:
        """What runs is given back with what it has; it goes on when that is taken back.

        Fails on ecffb8f: it runs on, and nothing runs after it, until a restart.
        """
        daemon = self.daemon("--rate=0")
        urls = self.urls(20)
        last = f"/{urls[-1].rsplit('/', 1)[1]}"
        self.source.held = {last}
        self.source.gate.clear()
        daemon.post({"task_id": "k", "download": urls})
        until(lambda: daemon.call("GET", "/v1/batches/k")["done"] == 19)
        daemon.call("PATCH", "/v1/queue", {"stop": True})
        until(lambda: daemon.call("GET", "/v1/batches/k")["waits_for"] == "stopped")
        self.assertEqual(self.code(daemon, "GET", "/readyz")[0], 503)
        self.assertEqual(self.code(daemon, "GET", "/readyz")[1]["code"], "queue_stopped")
        asked = len(self.source.asked)
        self.source.gate.set()
        daemon.call("PATCH", "/v1/queue", {"stop": None})
        self.complete(daemon, "k", 20)
        self.assertEqual(len(self.source.asked), asked + 1)
        self.assertEqual(
            self.code(daemon, "GET", "/readyz")[1], {"status": "ready", "waits_for": ""}
        )
        text = daemon.log.read_text()
        self.assertEqual((text.count("nothing is begun: stopped"), text.count("goes on")), (1, 1))

    def test_hours(self) -> None:
        """Night hours are said wherever somebody might look."""
        daemon = self.daemon("--rate=0", "--no-run=00:00-24:00")
        daemon.post({"task_id": "k", "download": self.urls(1)})
        until(lambda: daemon.call("GET", "/v1/batches/k")["waits_for"].startswith("hours until"))
        why = daemon.call("GET", "/v1/batches/k")["waits_for"]
        self.assertEqual(
            self.code(daemon, "GET", "/readyz"), (200, {"status": "ready", "waits_for": why})
        )
        self.assertEqual(daemon.call("GET", "/v1/stats")["parts"]["waits_for"], why)
        self.assertEqual(daemon.log.read_text().count(f"nothing is begun: {why}"), 1)

    def test_full_disk(self) -> None:
        """Not ready where a batch would be refused, with the numbers."""
        daemon = self.daemon("--disk-soft=2", "--disk-back=1", ready="/healthz")
        until(lambda: self.code(daemon, "GET", "/readyz")[0] == 507)
        told = self.code(daemon, "GET", "/readyz")[1]
        self.assertEqual(told["code"], "disk_full")
        self.assertRegex(told["detail"], r"^\d+ % of the disk are in use")

    def test_cancel_all(self) -> None:
        """All that is queued or running ends by a call that is made twice."""
        daemon = self.daemon("--rate=0")
        daemon.call("PATCH", "/v1/queue", {"paused": True})
        for n in range(150):
            daemon.post({"task_id": f"k{n}", "download": self.urls(1)})
        path = "/v1/batches?status=queued,running"
        status, told = self.code(daemon, "DELETE", path)
        self.assertEqual((status, told["code"]), (409, "not_confirmed"))
        self.assertIn("150 batches would be cancelled", told["detail"])
        word = told["detail"].rpartition("confirm=")[2]
        self.assertEqual(self.code(daemon, "DELETE", f"{path}&confirm=x")[0], 409)
        self.assertEqual(
            self.code(daemon, "DELETE", f"{path}&confirm={word}")[1], {"cancelled": 150}
        )
        self.assertEqual(daemon.call("GET", "/v1/batches/k149")["status"], "cancelled")
        for wrong in ("", "?status=done", "?status=queued,x"):
            self.assertEqual(self.code(daemon, "DELETE", f"/v1/batches{wrong}")[0], 400)
