"""One storm: batches going through, processes dying, and the count at the end."""

import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.proxy import Proxy
from tests.support.daemon import Daemon, environment
from tests.support.redis_servers import ask
from tests.support.thread_server import Handler, Server
from twisted_bulk.brokers.server_socket import socket_path

MEMBERS = 3
PARTS = "bw:{bulkwav}:parts:"
LAUNCH = [sys.executable, "-m", "tests.chaos.launch", "-n", "bulkwav"]
STATIC = ("meta", "wk", "waits", "cfg", "rl")  # keys of a queue that stay


def content(path: str) -> bytes:
    """What the source has under ``path``."""
    return hashlib.sha256(path.encode()).digest() * 200


class StormSource:
    """Files that take a while, and the receiver of callbacks."""

    def __init__(self, dice: random.Random, slowest: float) -> None:
        self.last: dict[str, list[dict[str, Any]]] = defaultdict(list)
        source = self

        class Both(Handler):
            def do_GET(self) -> None:
                data = content(self.path)
                self.reply(data[:1000], len(data))
                time.sleep(slowest * dice.random() ** 4)
                with contextlib.suppress(OSError):
                    self.wfile.write(data[1000:])

            def do_POST(self) -> None:
                body = json.loads(self.body())
                if body["schedule"] == "100":
                    source.last[body["task_id"]].append(body)
                self.reply(b"")

        self.server = Server(Both)
        self.url, self.close = self.server.url, self.server.close


@dataclass
class Count:
    """What a storm came to."""

    done: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    refused: int = 0
    poison: int = 0
    repeated_callbacks: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        actions = ", ".join(f"{n} x {what}" for what, n in sorted(self.done.items()))
        return (
            f"{self.batches} batches; {actions}; refused and sent again: {self.refused};"
            f" buried as poison: {self.poison}; callbacks sent more than once:"
            f" {self.repeated_callbacks}; wrong: {len(self.wrong)}"
        )


class Storm:
    """A daemon with its embedded Redis, worker processes beside it, and trouble.

    :param lease: seconds; None for the program's own
    :param sabotage: a defence to be taken out, as :mod:`tests.chaos.launch` knows them
    """

    def __init__(
        self, *, workers: int = 4, lease: float | None = None, sabotage: str = "", seed: int = 1
    ) -> None:
        self.dice = random.Random(seed)
        self.count = Count()
        self.lease = lease or 30.0
        self.data = Path(tempfile.mkdtemp(prefix="bwchaos"))
        self.source = StormSource(self.dice, 1.5 * (lease or 4))
        self.environment = environment() | {"CHAOS_SYNCED": str(self.data / "synced")}
        if lease:
            self.environment["CHAOS_LEASE"] = str(lease)
        self.environment["CHAOS_SABOTAGE"] = sabotage
        self.daemon = self._daemon()
        self.proxy = Proxy(self.data / "proxy.sock", socket_path(self.data / "redis"))
        self.workers = [self._worker() for _ in range(workers)]
        self.frozen: set[int] = set()
        self.links: dict[str, str] = {}
        self.accepted: list[str] = []
        self.losses = 0

    def _daemon(self, *options: str) -> Daemon:
        storm = self

        class Launched(Daemon):
            def command(self) -> list[str]:
                return [*LAUNCH, *self.options]

            def environment(self) -> dict[str, str]:
                return storm.environment

        # Its own worker sends callbacks only: it is never killed.
        more = ("--roles=intake,files", "--rate=0", *options)
        return Launched(self.data, *more)

    def _worker(self) -> "subprocess.Popen[bytes]":
        with open(self.data / "workers.log", "ab") as log:
            words = [*LAUNCH, f"--data={self.data}", "--roles=worker", "--drain=1", "--parts=4"]
            words += [f"--redis=unix://{self.data}/proxy.sock", "--allow-net=127.0.0.0/8"]
            words += [f"--public-url=http://127.0.0.1:{self.daemon.files}", "--notify-every=1"]
            return subprocess.Popen(words, env=self.environment, stdout=log, stderr=log)

    # What happens

    def kill_worker(self) -> None:
        """SIGKILL, and the power goes with it: what was not synced is gone."""
        number = self.dice.randrange(len(self.workers))
        if number in self.frozen:
            return
        self.workers[number].kill()
        self.workers[number].wait()
        self.losses += self.held(self.workers[number].pid)
        self.lose_power()
        self.workers[number] = self._worker()
        self.count.done["SIGKILL worker"] += 1

    def lose_power(self) -> None:
        """Cut every visible zip to what was synced of it."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.data / "synced").read_text().splitlines()
            synced: dict[int, int] = {}
            for line in lines:
                inode, _, size = line.partition(" ")
                synced[int(inode)] = int(size or 0)
            for path in (self.data / "public").glob("*/*.zip"):
                about = path.stat()
                if synced.get(about.st_ino, 0) < about.st_size:
                    os.truncate(path, synced.get(about.st_ino, 0))

    def kill_redis(self) -> None:
        """SIGKILL the embedded server."""
        with contextlib.suppress(AssertionError, ProcessLookupError):
            os.kill(self.daemon.redis_pid(), signal.SIGKILL)
            self.count.done["SIGKILL redis"] += 1

    def freeze(self) -> None:
        """SIGSTOP the worker that holds most, for two leases."""
        if self.frozen:
            return
        number = max(range(len(self.workers)), key=lambda n: self.held(self.workers[n].pid))
        self.frozen.add(number)
        process = self.workers[number]
        process.send_signal(signal.SIGSTOP)
        self.losses += self.held(process.pid)
        self.count.done["SIGSTOP for two leases"] += 1

        def thaw() -> None:
            with contextlib.suppress(OSError):
                process.send_signal(signal.SIGCONT)
            self.frozen.discard(number)

        timer = threading.Timer(2 * self.lease, thaw)
        timer.daemon = True
        timer.start()

    def cut(self) -> None:
        """Cut all workers' connections to Redis in mid-reply."""
        self.proxy.cut()
        self.count.done["cut in mid-reply"] += 1

    # The run

    def submit(self, name: str) -> None:
        """POST until it is accepted."""
        urls = [f"{self.source.url}/{name}/{n}.wav" for n in range(MEMBERS)]
        body = {"task_id": name, "download": urls, "url": f"{self.source.url}/notify"}
        while True:
            try:
                self.daemon.post(body)
            except OSError:  # 503 is one, as is a connection refused
                self.count.refused += 1
                time.sleep(0.2)
                continue
            self.accepted.append(name)
            self.count.batches += 1
            return

    def run(self, batches: int, seconds: float, impatient: bool = False, only: str = "") -> Count:
        """Trouble for so long, batches all the while; then peace, and the count.

        :param impatient: end as soon as something is wrong
        :param only: the name of the one trouble there is
        """
        began = time.monotonic()
        acts: list[Callable[[], None]] = [self.kill_worker, self.kill_redis, self.freeze, self.cut]
        if only:
            acts = [getattr(self, only)]

        def over() -> bool:
            return impatient and bool(self.count.wrong)

        posting = threading.Thread(target=self._post, args=(batches, seconds, over), daemon=True)
        posting.start()
        while time.monotonic() - began < seconds and not over():
            self.dice.choice(acts)()
            time.sleep(self.dice.uniform(1, 3))
            self.look(self.accepted[-400:])
        posting.join()
        if not over():
            self.finish()
        return self.count

    def _post(self, batches: int, seconds: float, over: Callable[[], bool]) -> None:
        began = time.monotonic()
        for n in range(batches):
            if over():
                return
            self.submit(f"b{n}")
            time.sleep(max(0.0, began + (n + 1) * seconds / batches - time.monotonic()))

    def look(self, names: list[str]) -> int:
        """Look at batches; how many have not ended. A link that was seen must stay."""
        left = 0
        for name in names:
            try:
                shown = self.daemon.call("GET", f"/v1/batches/{name}")
            except OSError as error:
                if getattr(error, "code", 0) == 404:
                    self.wrong(f"{name} is lost")
                left += 1
                continue
            link = shown["download"]
            if name in self.links and link != self.links[name]:
                self.wrong(f"{name} was {self.links[name]}, now {link or shown['status']}")
            if shown["schedule"] != 100:
                left += 1
            elif name not in self.links:
                self.links[name] = link
                self._ended(name, shown)
        return left

    def wrong(self, what: str) -> None:
        """Something that must not be."""
        if what not in self.count.wrong:
            self.count.wrong.append(what)

    def _ended(self, name: str, shown: dict[str, Any]) -> None:
        codes = {error["code"] for error in shown["errors"]}
        if shown["status"] == "failed" and codes == {"poison"}:
            self.count.poison += 1
        elif shown["status"] != "done":
            self.wrong(f"{name}: {shown['status']} {codes}")

    def finish(self) -> None:
        """Peace: everything ends, and is right; then retention leaves nothing."""
        end = time.monotonic() + 60 + 4 * self.lease
        while self.frozen:
            time.sleep(0.1)
        left = self.accepted
        while (n := self.look(left)) and time.monotonic() < end:
            left = [name for name in left if name not in self.links]
            time.sleep(0.2)
        if n:
            self.wrong(f"{n} batches never ended")
        while len(self.source.last) < len(self.accepted) and time.monotonic() < end + 30:
            time.sleep(0.2)
        self.lose_power()
        self.look(self.accepted)
        self.check_files()
        self.check_callbacks()
        self.check_losses()
        self.retire()

    def check_files(self) -> None:
        """Every link has its whole zip; there are no other files."""
        for name, link in self.links.items():
            if not link:
                continue
            try:
                with urllib.request.urlopen(link, timeout=20) as answer:
                    archive = zipfile.ZipFile(io.BytesIO(answer.read()))
                for n in range(MEMBERS):
                    assert archive.read(f"{n}.wav") == content(f"/{name}/{n}.wav")
            except Exception as error:  # whatever it is, it is wrong
                self.wrong(f"{name}: {error!r}")
        # The sweep comes once a minute, and at a start.
        self.daemon.stop()
        self.daemon.start()
        named = {link.split("/")[3] for link in self.links.values() if link}
        end = time.monotonic() + 10
        while time.monotonic() < end:
            visible = {path.parent.name for path in (self.data / "public").glob("*/*.zip")}
            if visible == named:
                break
            time.sleep(0.1)
        for folder in visible ^ named:
            self.wrong(f"public/{folder} is {'an orphan' if folder in visible else 'gone'}")

    def check_callbacks(self) -> None:
        """Every batch's last callback came, and always with one link."""
        for name in self.accepted:
            said = {body["download"] for body in self.source.last[name]}
            if said != {self.links.get(name)}:
                self.wrong(f"{name}: last callback said {said}, the record {self.links.get(name)}")
            self.count.repeated_callbacks += len(self.source.last[name]) - 1

    def check_losses(self) -> None:
        """Only workers that were killed or frozen lost parts, and only those that they had."""
        minutes = self.ask("KEYS", f"{PARTS}m:*")
        lost = sum(int(self.ask("HGET", key.decode(), "lost") or 0) for key in minutes)
        self.count.done["parts lost by a worker"] = lost
        if lost > self.losses:
            self.wrong(f"{lost} parts were lost by workers that held {self.losses}")

    def retire(self) -> None:
        """Retention: no file and no key is left."""
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.wait()
        self.daemon.stop()
        self.daemon.options = (*self.daemon.options, "--keep=0.5s")
        self.daemon.start()
        end = time.monotonic() + 60 + len(self.accepted) / 20
        while (left := self.keys()) and time.monotonic() < end:
            time.sleep(0.5)
        if left:
            self.wrong(f"{len(left)} keys are left, such as {sorted(left)[:5]}")
        spool = [path.name for path in (self.data / "spool").iterdir()]
        if spool:
            self.wrong(f"left in spool: {spool}")

    def ask(self, *words: str) -> Any:
        """One command to the embedded server."""
        return ask(socket_path(self.data / "redis"), *words)

    def keys(self) -> set[str]:
        """Keys of batches and jobs."""
        keys = [key.decode() for key in self.ask("KEYS", "*")]
        # Members of a POST that failed half-way go by themselves, within the hour.
        keys = [key for key in keys if ":a:" not in key or self.ask("TTL", key) < 0]
        # What all queues share has no queue's name before it: the clock, hosts in trouble, limits.
        names = {key.split(":", 3)[3] for key in keys if key.count(":") > 2}
        # Of a forgotten batch the number of its last change stays for an hour.
        if self.ask("ZCARD", f"{PARTS}changes") == self.ask("ZCARD", f"{PARTS}gone"):
            names -= {"changes", "gone"}
        return {name for name in names if name not in STATIC and not name.startswith("m:")}

    def held(self, worker: int) -> int:
        """How many parts the server thinks that a process holds."""
        try:
            keys = self.ask("KEYS", f"{PARTS}w:*-{worker}-*")
            return sum(self.ask("SCARD", key.decode()) for key in keys)
        except OSError:
            return 4  # it was killed a moment ago

    def close(self) -> None:
        """End everything that was started."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        if self.daemon.process.poll() is None:
            self.daemon.stop()
        self.source.close()
        self.proxy.close()
        shutil.rmtree(self.data, ignore_errors=True)
