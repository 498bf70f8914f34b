"""Two nodes, one of which is killed, all of it, every moment.

    python -m tests.chaos.kills [--minutes 5] [--batches 200] [--embedded]

kill -9 of a node's daemon and all that it started, every 0.3 to 2 s, and a new start. Batches are
posted all the while. Then peace: every batch that was accepted has been done, with its whole zip.
A quiet run would fail none of them, so none may fail. With ``--embedded`` the first node keeps the
queue's server, which then ends with it each time.

Beforehand, without kills, the negative control: a batch that kills its process is buried as
poison, and harms nobody else.
"""

import argparse
import contextlib
import io
import os
import random
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from tests.chaos.storm import LAUNCH, content
from tests.support.daemon import Daemon, descendants, environment
from tests.support.redis_servers import RedisServer
from tests.support.thread_server import Handler, Server
from twisted_bulk.brokers.server_socket import socket_path

MEMBERS = 6
SLOWEST = 0.6  # seconds that a member takes at most


class Node(Daemon):
    """A daemon that may be killed with all that it has started."""

    def command(self) -> list[str]:
        return [*LAUNCH, *self.options]

    def environment(self) -> dict[str, str]:
        return environment() | {"CHAOS_POISON": "yes"}

    def kill_all(self) -> None:
        """SIGKILL, to the daemon first, and its children, but for the queue's server."""
        pids = [self.process.pid]
        with contextlib.suppress(OSError):
            pids = descendants(self.process.pid)
        for pid in pids:
            with contextlib.suppress(OSError):
                if "server" not in Path(f"/proc/{pid}/comm").read_text():
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()


class Kills:
    """Two nodes, a source, and what became of the batches."""

    def __init__(self, embedded: bool, seed: int = 1) -> None:
        self.dice = random.Random(seed)
        self.folder = Path(tempfile.mkdtemp(prefix="bwkills"))
        dice = self.dice

        class Slow(Handler):
            def do_GET(self) -> None:
                data = content(self.path)
                self.reply(data[:1000], len(data))
                time.sleep(SLOWEST * dice.random() ** 2)
                with contextlib.suppress(OSError):
                    self.wfile.write(data[1000:])

        self.source = Server(Slow)
        self.redis = None if embedded else RedisServer()
        first = self.folder / "a"
        urls = [f"--redis={self.redis.url}"] * 2 if self.redis else []
        if embedded:
            first.mkdir()
            urls = ["--redis=embedded", f"--redis=unix://{socket_path(first / 'redis')}"]
        self.nodes = [
            Node(self.folder / name, "--rate=0", "--request-rate=0", url)
            for name, url in zip("ab", urls, strict=True)
        ]
        self.kills = 0
        self.accepted: list[str] = []
        self.wrong: list[str] = []

    def close(self) -> None:
        """End all."""
        for node in self.nodes:
            if node.process.poll() is None:
                node.stop()
        if self.redis is not None:
            self.redis.close()
        self.source.close()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """A call of whichever node answers; None: neither did."""
        for node in self.dice.sample(self.nodes, 2):
            with contextlib.suppress(OSError):
                return node.call(method, path, body)
        return None

    def post(self, name: str) -> None:
        """Until it is accepted."""
        urls = [f"{self.source.url}/{name}/{n}.wav" for n in range(MEMBERS)]
        while self.call("POST", "/v1/batches", {"task_id": name, "download": urls}) is None:
            time.sleep(0.1)
        self.accepted.append(name)

    def run(self, batches: int, seconds: float) -> None:
        """The storm, then peace."""
        end = time.monotonic() + seconds

        def post() -> None:
            for n in range(batches):
                self.post(f"k{n}")
                left = max(0.0, end - time.monotonic())
                time.sleep(0.7 * left / (batches - n))

        posting = threading.Thread(target=post, daemon=True)
        posting.start()
        while time.monotonic() < end:
            time.sleep(self.dice.uniform(0.3, 2.0))
            node = self.dice.choice(self.nodes)
            node.kill_all()
            self.kills += 1
            node.spawn()
        for node in self.nodes:
            node.kill_all()
            node.spawn()
        for node in self.nodes:
            node.wait_ready()
        posting.join()
        self.finish(60 + seconds)

    def finish(self, seconds: float) -> None:
        """All are done, and right."""
        end = time.monotonic() + seconds
        left = list(self.accepted)
        states: Counter[str] = Counter()
        while left and time.monotonic() < end:
            still = []
            for name in left:
                shown = self.call("GET", f"/v1/batches/{name}")
                if shown is None or shown["schedule"] != 100:
                    still.append(name)
                    continue
                states[shown["status"]] += 1
                self.check(name, shown)
            left = still
            time.sleep(0.2)
        for name in left:
            self.wrong.append(f"{name} has not ended: {self.call('GET', f'/v1/batches/{name}')}")
        print(f"{len(self.accepted)} batches accepted, {self.kills} kills; {dict(states)};"
              f" wrong: {len(self.wrong)}", flush=True)  # fmt: skip

    def check(self, name: str, shown: dict[str, Any]) -> None:
        """A batch that has ended."""
        if shown["status"] != "done":
            self.wrong.append(f"{name}: {shown['status']} {shown['errors']}")
            return
        path = shown["download"].split("/", 3)[3]
        try:
            archive = zipfile.ZipFile(io.BytesIO(self.fetch(path)))
            for n in range(MEMBERS):
                assert archive.read(f"{n}.wav") == content(f"/{name}/{n}.wav")
        except Exception as error:  # whatever it is, it is wrong
            self.wrong.append(f"{name}: {error!r}")

    def fetch(self, path: str) -> bytes:
        """A file, of the node that has it."""
        for node in self.nodes:
            url = f"http://127.0.0.1:{node.files}/{path}"
            with (
                contextlib.suppress(urllib.error.HTTPError),
                urllib.request.urlopen(url, timeout=20) as answer,
            ):
                return bytes(answer.read())
        raise FileNotFoundError(path)

    def control(self, batches: int) -> None:
        """A poison job among others, without kills."""
        for n in range(batches):
            self.post(f"before{n}")
        self.post("poison")
        died = 0
        end = time.monotonic() + 120
        while time.monotonic() < end:
            for node in self.nodes:
                if node.process.poll() is not None:
                    died += 1
                    node.spawn()  # it may die of it again before it is ready
            shown = self.call("GET", "/v1/batches/poison")
            if shown is not None and shown["schedule"] == 100:
                break
            time.sleep(0.1)
        self.accepted.remove("poison")
        codes = [error["code"] for error in shown["errors"]] if shown else []
        if codes != ["poison"]:
            self.wrong.append(f"the poison job: {shown}")
        if died > 2:
            self.wrong.append(f"{died} daemons died of it")
        for n in range(batches):
            self.post(f"after{n}")
        self.finish(120)
        print(f"the poison job ended as {codes}; {died} daemons died of it before it was alone")


def main() -> int:
    """All of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--embedded", action="store_true")
    options = parser.parse_args()
    wrong = []
    for act in ("control", "run"):
        kills = Kills(options.embedded)
        try:
            if act == "control":
                kills.control(10)
            else:
                kills.run(options.batches, options.minutes * 60)
        finally:
            kills.close()
        wrong += kills.wrong
    print("\n".join(wrong) or "all is well")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
