"""The whole daemon in processes of its own: what users do, and what happens to servers."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.daemon import Daemon, SharingDaemon, environment
from tests.support.daemon_case import NAMES, DaemonTestCase, Source, until
from tests.support.redis_servers import RedisServer, free_port
from twisted_bulk.commands.demo import recording


class MainTests(DaemonTestCase):
    """The main job."""

    def test_original(self) -> None:
        """The original service's request, callbacks and zip."""
        daemon = self.daemon("--notify-every=0.3", "--retries=1")
        dead = f"http://asd.invalid/{NAMES[2]}"
        self.source.gate.clear()
        batch = {
            "task_id": "2",
            "download": [*self.urls(), dead],
            "url": self.source.url + "/notify",
        }
        daemon.call("POST", "/", batch)
        until(lambda: len(self.source.callbacks) >= 3)
        self.source.gate.set()
        until(lambda: self.source.callbacks[-1][1]["download"])
        shown = daemon.wait("2")
        self.assertEqual((shown["status"], shown["done"], shown["failed"]), ("partial", 3, 1))
        content = self.fetch(shown["download"])
        manifest = {entry["url"]: entry for entry in json.loads(content.pop("manifest.json"))}
        self.assertEqual(content, {name: self.source.files[f"/{name}"] for name in NAMES})
        self.assertEqual(
            (manifest[dead]["status"], manifest[dead]["code"]), ("failed", "dns_failed")
        )
        bodies = [body for _, body in self.source.callbacks]
        self.assertEqual({body["task_id"] for body in bodies}, {"2"})
        self.assertEqual({body["download"] for body in bodies[:-1]}, {""})
        self.assertTrue(all(isinstance(body["schedule"], str) for body in bodies))
        schedules = [int(body["schedule"]) for body in bodies]
        self.assertEqual(schedules, sorted(schedules))
        self.assertTrue(max(schedules[:-1]) < 100 == schedules[-1])
        self.assertEqual(bodies[-1]["download"], shown["download"])
        self.assertEqual([body["seq"] for body in bodies], list(range(1, len(bodies) + 1)))

    def test_parts(self) -> None:
        """A large batch comes in several zips, each with its share of the manifest."""
        daemon = self.daemon("--part-files=4", "--rate=0")
        daemon.post({"task_id": "p", "download": self.urls(10)})
        shown = daemon.wait("p")
        self.assertEqual([part["members"] for part in shown["parts"]], [4, 4, 2])
        names: list[str] = []
        for number, part in enumerate(shown["parts"], 1):
            self.assertTrue(part["download"].endswith(f"/p.part00{number}.zip"))
            names += self.fetch(part["download"])
        self.assertEqual(len(names), 10 + 3)

    def test_policies(self) -> None:
        """Strict fails with its first failure, a share when it cannot be met any more."""
        daemon = self.daemon("--retries=0")
        bad = "http://127.0.0.1:1/x"
        for policy, failures, status in (
            ("strict", 1, "failed"),
            (0.7, 1, "partial"),
            (0.8, 2, "failed"),
            ("partial", 3, "partial"),
        ):
            name = f"{policy}-{failures}"
            urls = [*self.urls(), *[bad] * failures]
            daemon.post({"task_id": name, "download": urls, "policy": policy})
            shown = daemon.wait(name)
            self.assertEqual(shown["status"], status, name)
            self.assertEqual(bool(shown["download"]), status == "partial")
        daemon.post({"task_id": "none", "download": [bad, bad]})
        self.assertEqual(daemon.wait("none")["status"], "failed")

    def test_timeout(self) -> None:
        """What has not come when the batch's time is up has failed; the rest is served."""
        daemon = self.daemon("--notify-every=0.1")
        quick = Source()
        self.addCleanup(quick.close)
        self.source.gate.clear()
        urls = [self.urls()[0], quick.url + "/" + NAMES[0]]
        daemon.post({"task_id": "t", "download": urls, "timeout": 0.5})
        shown = daemon.wait("t")
        self.assertEqual(
            (shown["status"], shown["errors"][0]["code"]), ("partial", "batch_timeout")
        )
        # Nobody asked for callbacks.
        self.assertNotIn("progress of", daemon.log.read_text())

    def test_same_url(self) -> None:
        """One URL many times in a batch: fetched once, in the zip under each name."""
        daemon = self.daemon("--rate=0")
        (url,) = self.urls(1)
        entries = [url, url, {"url": url, "name": "c"}, {"url": url, "headers": {"X-Own": "1"}}]
        daemon.post({"task_id": "k", "download": entries})
        shown = daemon.wait("k")
        self.assertEqual((shown["status"], shown["done"], shown["failed"]), ("done", 4, 0))
        self.assertEqual(len(self.source.asked), 2)
        members = self.fetch(shown["download"])
        manifest = json.loads(members.pop("manifest.json"))
        self.assertEqual(set(members.values()), {recording(0)})
        self.assertEqual((len(members), len(manifest)), (4, 4))

    def manifest(self, daemon: Daemon, batch: str) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{daemon.intake}/v1/batches/{batch}/manifest"
        with urllib.request.urlopen(url, timeout=20) as answer:
            self.assertEqual(answer.headers["Content-Type"], "application/jsonl")
            return [json.loads(line) for line in answer.read().splitlines()]

    def test_retry(self) -> None:
        """What failed is fetched again, the rest is taken over; the new link has all."""
        daemon = self.daemon("--rate=0", "--retries=0", "--part-files=4", "--keep=1h")
        urls = self.urls(6)
        lost = {f"/{url.rsplit('/', 1)[1]}" for url in urls[1:3]}
        back = {path: self.source.files.pop(path) for path in lost}
        daemon.post({"task_id": "k", "download": urls, "url": self.source.url})
        shown = daemon.wait("k")
        self.assertEqual((shown["status"], shown["done"], shown["failed"]), ("partial", 4, 2))
        first, second = (part["download"] for part in shown["parts"])
        statuses = [line["status"] for line in self.manifest(daemon, "k")]
        self.assertEqual(statuses, ["done", "failed", "failed", "done", "done", "done"])
        before = self.fetch(first)
        until(lambda: self.lasts() == ["partial"])
        self.source.files |= back
        self.source.asked.clear()
        self.source.gate.clear()
        again = daemon.call("POST", "/v1/batches/k/retry")
        self.assertIn(again["status"], ("queued", "running"))
        self.assertEqual((again["run"], again["download"]), (2, first))  # until there is another
        self.assertEqual(self.fetch(first), before)
        with self.assertRaises(urllib.error.HTTPError) as caught:
            daemon.call("POST", "/v1/batches/k/retry")
        self.assertEqual(caught.exception.code, 409)
        self.source.gate.set()
        shown = daemon.wait("k")
        self.assertEqual((shown["status"], shown["done"], shown["failed"]), ("done", 6, 0))
        self.assertEqual(set(self.source.asked), lost)
        self.assertEqual(shown["parts"][1]["download"], second)
        self.assertNotEqual(shown["parts"][0]["download"], first)
        runs = [(body["run"], body["status"]) for _, body in self.source.callbacks]
        self.assertLessEqual({run for run, status in runs if status == "partial"}, {1})
        self.assertLessEqual({run for run, status in runs if status == "done"}, {2})
        members = self.fetch(shown["parts"][0]["download"])
        self.assertEqual(len(json.loads(members["manifest.part001.json"])), 4)
        for name in set(before) - {"manifest.part001.json"}:
            self.assertEqual(members[name], before[name])
        self.assertEqual({members[path[1:]] for path in lost}, set(back.values()))
        until(lambda: self.lasts() == ["partial", "done"])
        with self.assertRaises(urllib.error.HTTPError) as caught:
            daemon.call("POST", "/v1/batches/k/retry")
        self.assertEqual(caught.exception.code, 409)

    def test_while_it_runs(self) -> None:
        """Members that have failed are told while others are still fetched, as is their host."""
        daemon = self.daemon("--rate=0", "--retries=0", "--workers=1")
        self.source.held, (good, *_) = {"/0.wav"}, self.urls(4)
        held = f"{self.source.url}/0.wav"
        self.source.files["/0.wav"] = recording(0)
        self.source.gate.clear()

        class Nothing(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

        other = ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
        threading.Thread(target=other.serve_forever, daemon=True).start()
        self.addCleanup(other.server_close)
        self.addCleanup(other.shutdown)
        where = f"http://u:s3cr3t@127.0.0.1:{other.server_port}"
        lost = [f"{where}/no?token=s3cr3t&n={n}" for n in range(12)]
        daemon.post({"task_id": "r", "download": [held, good, *lost]})
        until(lambda: daemon.call("GET", "/v1/batches/r")["failed"] == 12)
        shown = daemon.call("GET", "/v1/batches/r")
        self.assertEqual((shown["status"], len(shown["errors"])), ("running", 12))
        self.assertEqual({error["member"] for error in shown["errors"]}, set(range(3, 15)))
        until(lambda: len(self.manifest(daemon, "r")) == 13)
        lines = self.manifest(daemon, "r")
        self.assertEqual({line["status"] for line in lines}, {"done", "failed"})
        self.assertIn("10 requests to 127.0.0.1", daemon.log.read_text())
        self.source.gate.set()
        shown = daemon.wait("r")
        members = self.fetch(shown["download"])
        for text in (shown, self.manifest(daemon, "r"), members["manifest.json"].decode(),
                     daemon.log.read_text()):  # fmt: skip
            self.assertNotIn("s3cr3t", str(text))
        folder = shown["download"].split("/")[3]
        self.assertNotIn(folder, daemon.log.read_text())

    def lasts(self) -> list[str]:
        """How the batches ended, as callbacks said."""
        bodies = [body for _, body in self.source.callbacks]
        return [body["status"] for body in bodies if body["schedule"] == "100"]

    def test_retry_without_a_zip(self) -> None:
        """A batch that failed altogether can be tried again, too; until then it has a manifest."""
        daemon = self.daemon("--rate=0", "--retries=0")
        urls = self.urls(3)
        path = f"/{urls[2].rsplit('/', 1)[1]}"
        data = self.source.files.pop(path)
        daemon.post({"task_id": "k", "download": urls, "policy": "strict"})
        self.assertEqual(daemon.wait("k")["status"], "failed")
        codes = {line["code"] for line in self.manifest(daemon, "k")}
        self.assertIn("connection_lost", codes)
        self.source.files[path] = data
        daemon.call("POST", "/v1/batches/k/retry")
        shown = daemon.wait("k")
        self.assertEqual((shown["status"], len(self.fetch(shown["download"]))), ("done", 4))

    def test_part_bytes(self) -> None:
        """Zips end before they grow too large; each says where all members are."""
        size = len(recording(0))
        daemon = self.daemon("--rate=0", f"--part-bytes={3 * size}", "--compress=store")
        daemon.post({"task_id": "k", "download": self.urls(7), "url": self.source.url})
        shown = daemon.wait("k")
        self.assertEqual(shown["status"], "done")
        self.assertEqual([part["volume"] for part in shown["parts"]], [1, 2, 3, 4])
        ends = [part["download"].rsplit("/", 1)[1] for part in shown["parts"]]
        self.assertEqual(ends[:2], ["k.part001.zip", "k.part001-2.zip"])
        everything: dict[str, bytes] = {}
        for part in shown["parts"]:
            members = self.fetch(part["download"])
            ending = "" if part["volume"] == 1 else f"-{part['volume']}"
            manifest = json.loads(members.pop(f"manifest.part001{ending}.json"))
            self.assertEqual(len(members), part["members"])
            here = {line["name"] for line in manifest if line["volume"] == part["volume"]}
            self.assertEqual(here, set(members))
            everything |= members
        self.assertEqual(len(everything), 7)

    def test_delete(self) -> None:
        """Cancelled while it runs, nothing appears; deleted when done, the link says gone."""
        daemon = self.daemon("--drain=1")
        self.source.gate.clear()
        daemon.post({"task_id": "c", "download": self.urls()})
        until(lambda: self.source.asked)
        self.assertEqual(daemon.call("DELETE", "/v1/batches/c")["status"], "cancelled")
        self.source.gate.set()
        daemon.post({"task_id": "d", "download": self.urls()})
        link = daemon.wait("d")["download"]
        daemon.call("DELETE", "/v1/batches/d")
        until(lambda: not self.visible(daemon))
        with self.assertRaises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(link)
        self.assertEqual(caught.exception.code, 410)

    def test_mistakes_in_ports(self) -> None:
        """A port that is taken ends the start with one line."""
        daemon = self.daemon()
        with self.assertRaises(AssertionError) as caught:
            self.daemon(f"--intake=tcp:{daemon.intake}:interface=127.0.0.1")
        last = str(caught.exception).strip().splitlines()[-1]
        self.assertRegex(last, r"bulkwav: Couldn't listen on 127.0.0.1:\d+: ")


class CrashTests(DaemonTestCase):
    """Ends that nobody announced."""

    def begin(self, daemon: Daemon, count: int = 40) -> None:
        """A batch whose first members have come, and whose rest waits."""
        urls = self.urls(count)
        self.source.gate.clear()
        daemon.post({"task_id": "k", "download": urls})
        until(lambda: len(self.source.asked) >= 8)

    def test_daemon_killed(self) -> None:
        """kill -9 of the daemon in mid-batch: a new start finishes it, with one zip."""
        daemon = self.daemon("--rate=0")
        self.begin(daemon)
        daemon.kill()
        self.source.gate.set()
        daemon.start()
        self.complete(daemon, "k", 40)
        self.assertEqual(len(list((daemon.data / "spool").iterdir())), 1)

    def noted(self, daemon: Daemon) -> int:
        """How many members are in unfinished archives."""
        journals = daemon.data.glob("spool/*/*/journal")
        return sum(len(path.read_bytes().splitlines()) for path in journals)

    def test_not_fetched_again(self) -> None:
        """What had come before a kill -9, or an orderly stop, is not asked for once more."""
        for end in ("kill", "stop"):
            daemon = self.daemon("--rate=0", "--drain=0.1s")
            urls = self.urls(40)
            last = f"/{urls[-1].rsplit('/', 1)[1]}"
            self.source.asked.clear()
            self.source.gate.clear()
            self.source.held = {last}
            daemon.post({"task_id": "k", "download": urls})
            until(lambda: self.noted(daemon) == 39 and last in self.source.asked)  # noqa: B023
            getattr(daemon, end)()
            self.source.gate.set()
            daemon.start()
            self.complete(daemon, "k", 40)
            self.assertEqual(len(self.source.asked), 41, end)
            self.assertEqual(self.source.asked.count(last), 2)
            self.assertEqual(len(list((daemon.data / "spool").iterdir())), 1)

    def test_killed_at_random(self) -> None:
        """However often and whenever it is killed."""
        daemon = self.daemon("--rate=0", "--per-host=2")
        daemon.post({"task_id": "k", "download": self.urls(60)})
        dice = random.Random(11)
        for _ in range(2):  # the third loss of a worker would bury the part
            time.sleep(dice.uniform(0.05, 0.4))
            daemon.kill()
            daemon.start()
        self.complete(daemon, "k", 60)

    def test_redis_killed(self) -> None:
        """kill -9 of the embedded server in mid-batch: the daemon goes on without a restart."""
        daemon = self.daemon("--rate=0")
        self.begin(daemon)
        os.kill(daemon.redis_pid(), signal.SIGKILL)
        self.source.gate.set()
        until(lambda: "the embedded server ended" in daemon.log.read_text())
        until(lambda: self.answers(daemon))
        self.complete(daemon, "k", 40)
        self.assertIsNone(daemon.process.poll())

    def answers(self, daemon: Daemon) -> bool:
        try:
            return bool(daemon.call("GET", "/readyz"))
        except urllib.error.HTTPError:
            return False

    def test_orphan(self) -> None:
        """A zip that no record names is gone after the next start; named ones stay."""
        daemon = self.daemon("--rate=0")
        daemon.post({"task_id": "k", "download": self.urls()})
        link = daemon.wait("k")["download"]
        daemon.stop()
        orphan = daemon.data / "public" / f"k-{'0' * 32}"
        orphan.mkdir()
        (orphan / "k.zip").write_bytes(b"PK")
        daemon.start()
        until(lambda: len(self.visible(daemon)) == 1)
        self.fetch(link)


class SharingTests(SynchronousTestCase):
    """Several processes behind one port."""

    def test_shared(self) -> None:
        """Each answers its part of the clients, and all know of every batch."""
        server = RedisServer()
        self.addCleanup(server.close)
        folder, port = Path(tempfile.mkdtemp(prefix="bw")), free_port()
        options = f"--redis={server.url}", "--roles=intake"
        names = [f"b{number}" for number in range(40)]
        with (
            SharingDaemon(folder / "1", port, *options) as one,
            SharingDaemon(folder / "2", port, *options) as two,
        ):
            for name in names:
                one.post({"task_id": name, "download": ["http://files.example/a.wav"]})
            for name in names:
                self.assertEqual(two.call("GET", f"/v1/batches/{name}")["status"], "queued")
            one.stop()
            for name in names:
                self.assertEqual(two.call("GET", f"/v1/batches/{name}")["status"], "queued")
            answered = [node.log.read_text().count('"POST"') for node in (one, two)]
        self.assertEqual(sum(answered), len(names))
        self.assertGreater(min(answered), 0)


class LogTests(DaemonTestCase):
    """What a daemon says of its work."""

    def test_lines(self) -> None:
        """One JSON object a line, by area, with the batch, and no secret of any URL."""
        daemon = self.daemon("--retries=0")
        dead = f"127.0.0.1:{free_port()}"
        urls = [f"http://me:canary@{dead}/a.wav?token=canary", f"http://{dead}/b.wav?canary"]
        daemon.post({"task_id": "k", "download": urls, "url": f"http://{dead}/n?key=canary"})
        daemon.wait("k")
        until(lambda: "last callback of k" in daemon.log.read_text())
        daemon.stop()
        text = daemon.log.read_text()
        self.assertNotIn("canary", text)
        lines = [json.loads(line) for line in text.splitlines()]
        areas = {line["area"] for line in lines}
        self.assertTrue({"access", "download", "notify", "daemon"} <= areas, areas)
        self.assertTrue([line for line in lines if line.get("batch") == "k"])
        asked = [line for line in lines if line.get("path") == "/v1/batches"]
        self.assertEqual((asked[0]["method"], asked[0]["status"]), ("POST", 202))


class StopTests(DaemonTestCase):
    """SIGTERM, and starts without Redis."""

    def test_finishes(self) -> None:
        """A part that ends within the drain is done before the process ends with status 0."""
        daemon = self.daemon("--rate=0")
        self.source.gate.clear()
        daemon.post({"task_id": "s", "download": self.urls()})
        until(lambda: len(self.source.asked) == 3)
        daemon.process.send_signal(signal.SIGTERM)
        until(lambda: "stopping" in daemon.log.read_text())
        with self.assertRaises(OSError):
            daemon.call("GET", "/healthz")
        self.source.gate.set()
        self.assertEqual(daemon.process.wait(20), 0)
        self.assertEqual(len(self.visible(daemon)), 1)
        asked = len(self.source.asked)
        daemon.start()
        self.complete(daemon, "s", 3)
        self.assertEqual(len(self.source.asked), asked)

    def test_gives_back(self) -> None:
        """One that does not is given back; the next start goes on with it."""
        daemon = self.daemon("--rate=0", "--drain=0.3")
        self.source.gate.clear()
        daemon.post({"task_id": "s", "download": self.urls()})
        until(lambda: len(self.source.asked) == 3)
        redis = daemon.redis_pid()
        self.assertEqual(daemon.stop(), 0)
        self.assertFalse(Path(f"/proc/{redis}").exists())
        self.assertEqual(list((daemon.data / "spool").iterdir()), [])
        self.source.gate.set()
        daemon.start()
        self.complete(daemon, "s", 3)

    def test_before_redis(self) -> None:
        """Started before its Redis, the daemon waits, says so, and then works."""
        server = RedisServer()
        self.addCleanup(server.close)
        server.kill()
        daemon = self.daemon(f"--redis={server.url}", "--rate=0", ready="/healthz")
        self.assertEqual(self.status(daemon, "/readyz"), 503)
        server.start()
        until(lambda: self.status(daemon, "/readyz") == 200)
        daemon.post({"task_id": "r", "download": self.urls()})
        self.complete(daemon, "r", 3)

    def status(self, daemon: Daemon, path: str) -> int:
        try:
            with urllib.request.urlopen(daemon.api + path, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


class DemoTests(SynchronousTestCase):
    """``bulkwav demo``."""

    def test_demo(self) -> None:
        """It runs through and leaves nothing behind."""
        run = "import sys; from twisted_bulk.commands.main import main; sys.exit(main(['demo']))"
        place = self.mktemp()
        os.mkdir(place)
        done = subprocess.run(
            [sys.executable, "-c", run], capture_output=True, text=True, timeout=60,
            env=environment() | {"TMPDIR": os.path.abspath(place)},
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("36 of 36 recordings are in the zip, identical", done.stdout)
        self.assertIn("dead.invalid/recording-00.wav (dns_failed)", done.stdout)
        self.assertIn("exit status 0", done.stdout)
        self.assertEqual(os.listdir(place), [])
