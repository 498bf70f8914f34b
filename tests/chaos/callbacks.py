"""Batches whose receiver fails a few times, and a daemon that is killed meanwhile.

    python -m tests.chaos.callbacks [--batches 1000] [--kills 50] [--seconds 400]

Each batch has its parts on two nodes, of which one or the other is killed. The receiver fails
its last callback K = 0 to 8 times, takes its time over progress, and notes what it got. In the
end every batch's last callback has arrived, with one id and a right signature, and nothing of
the batch came after it.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.chaos.storm import LAUNCH
from tests.support.daemon import Daemon, environment
from tests.support.thread_server import Handler, Server
from twisted_bulk.brokers.server_socket import socket_path

FAILURES = 9  # K is one of so many, from 0 on
LEASE = 3.0
SLOW = 1.0  # seconds until the receiver answers to progress
KINDS = (500, 503, 0, 404, 429)  # how the receiver fails; 0: it closes the connection
OPTIONS = ("--parts=8", "--part-files=1", "--notify-every=0.5", "--drain=1", "--retries=20",
           "--request-rate=0", "--allow-net=127.0.0.0/8")  # fmt: skip


@dataclass
class Heard:
    """What the receiver got of one batch."""

    seqs: list[int] = field(default_factory=list)  # of progress, as it came
    going: int = 0  # progress that has not been answered
    ids: set[str] = field(default_factory=set)  # of last callbacks
    tries: int = 0
    arrived: bool = False
    schedules: list[int] = field(default_factory=list)


class Receiver:
    """The members' source, and the receiver of callbacks."""

    def __init__(self) -> None:
        self.heard: dict[str, Heard] = defaultdict(Heard)
        self.wrong: list[str] = []
        self.lasts = 0
        self.secret = ""
        self._lock = threading.Lock()
        receiver = self

        class Both(Handler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                time.sleep(1 + int(self.path[-1]) * 0.2)
                self.reply(b"x" * 1000)

            def do_POST(self) -> None:
                code = receiver.take(self.body(), {k.lower(): v for k, v in self.headers.items()})
                if code:
                    self.reply(b"", code=code)
                else:
                    self.close_connection = True

        self.server = Server(Both)
        self.url, self.close = self.server.url, self.server.close

    def take(self, data: bytes, headers: dict[str, str]) -> int:
        """A callback has come; the status that answers it."""
        try:
            body: dict[str, Any] = Webhook(self.secret).verify(data, headers)
        except WebhookVerificationError as error:
            self.wrong.append(f"{data!r}: {error}")
            return 400
        name = body["task_id"]
        with self._lock:
            heard = self.heard[name]
            if body["schedule"] == "100":
                return self._last(name, heard, body, headers["webhook-id"])
            if heard.tries:
                self.wrong.append(f"{name}: progress {body['seq']} came after the last one")
            if heard.seqs and body["seq"] <= heard.seqs[-1]:
                self.wrong.append(f"{name}: progress {body['seq']} after {heard.seqs[-1]}")
            if heard.schedules and int(body["schedule"]) < heard.schedules[-1]:
                self.wrong.append(f"{name}: {body['schedule']} % after {heard.schedules[-1]} %")
            heard.seqs.append(body["seq"])
            heard.schedules.append(int(body["schedule"]))
            heard.going += 1
        time.sleep(SLOW)
        with self._lock:
            heard.going -= 1
        return 204

    def _last(self, name: str, heard: Heard, body: dict[str, Any], message: str) -> int:
        if heard.going:
            self.wrong.append(f"{name}: the last one came while progress was on its way")
        if heard.seqs and body["seq"] <= heard.seqs[-1]:
            self.wrong.append(f"{name}: last {body['seq']} after progress {heard.seqs[-1]}")
        if body["status"] != "done" or not body["download"]:
            self.wrong.append(f"{name}: {body}")
        heard.ids.add(message)
        heard.tries += 1
        self.lasts += 1
        if heard.tries <= int(name[1:]) % FAILURES:
            return KINDS[(heard.tries + int(name[1:])) % len(KINDS)]
        heard.arrived = True
        return 200


class Nodes:
    """A daemon with an embedded Redis, and a node that only works, with short pauses between tries.

    :param sabotage: a defence to be taken out, as :mod:`tests.chaos.launch` knows them
    """

    def __init__(self, folder: Path, sabotage: str) -> None:
        self.folder = folder
        self.variables = environment() | {
            "CHAOS_LEASE": str(LEASE),
            "CHAOS_SCHEDULE": "0.2,0.5,0.5,1,1,1,1",
            "CHAOS_SABOTAGE": sabotage,
        }
        nodes = self

        class Launched(Daemon):
            def command(self) -> list[str]:
                return [*LAUNCH, *self.options]

            def environment(self) -> dict[str, str]:
                return nodes.variables

        self.daemon = Launched(folder, *OPTIONS)
        self.worker = self._worker()

    def _worker(self) -> "subprocess.Popen[bytes]":
        words = [*LAUNCH, *OPTIONS, f"--data={self.folder}", "--roles=worker"]
        words += [f"--redis=unix://{socket_path(self.folder / 'redis')}"]
        words += [f"--public-url=http://127.0.0.1:{self.daemon.files}"]
        with open(self.folder / "worker.log", "ab") as log:
            return subprocess.Popen(words, env=self.variables, stdout=log, stderr=log)

    def kill(self, number: int) -> None:
        """SIGKILL one of them, and start it again."""
        if number % 2:
            self.worker.kill()
            self.worker.wait()
            self.worker = self._worker()
        else:
            self.daemon.kill()
            self.daemon.start()

    def close(self) -> None:
        """End them."""
        self.worker.terminate()
        self.worker.wait()
        self.daemon.stop()


def insist(daemon: Daemon, method: str, path: str, body: Any = None) -> Any:
    """Call until there is an answer."""
    while True:
        with contextlib.suppress(OSError):  # 503 is one, as is a connection refused
            return daemon.call(method, path, body)
        time.sleep(0.1)


def send_again(daemon: Daemon) -> int:
    """Have every last callback that was given up sent once more; how many those were."""
    path, count = "/v1/batches?callback=undelivered", 0
    page = insist(daemon, "GET", path)
    for shown in page["batches"]:
        with contextlib.suppress(OSError):
            daemon.call("POST", f"/v1/batches/{shown['task_id']}/notify")
            count += 1
    return count


def run(batches: int, kills: int, seconds: float, sabotage: str = "") -> tuple[str, list[str]]:
    """All of it; what it came to, and what was wrong."""
    receiver = Receiver()
    folder = Path(tempfile.mkdtemp(prefix="bwchaos")) / "d"
    names = [f"b{number}" for number in range(batches)]
    nodes = Nodes(folder, sabotage)
    daemon = nodes.daemon
    with contextlib.closing(nodes):
        receiver.secret = (folder / "secret").read_text().strip()

        def post() -> None:
            began = time.monotonic()
            for number, name in enumerate(names):
                urls = [f"{receiver.url}/{name}/{n}" for n in range(3)]
                body = {"task_id": name, "download": urls, "url": f"{receiver.url}/notify"}
                insist(daemon, "POST", "/v1/batches", body)
                pause = began + (number + 1) * seconds / batches - time.monotonic()
                time.sleep(max(0.0, pause))

        posting = threading.Thread(target=post, daemon=True)
        posting.start()
        began, again = time.monotonic(), 0
        for number in range(kills):
            time.sleep(max(0.0, began + (number + 1) * seconds / (kills + 1) - time.monotonic()))
            nodes.kill(number)
        posting.join()
        end = time.monotonic() + 90 + batches / 10
        while (left := [name for name in names if not receiver.heard[name].arrived]) and (
            time.monotonic() < end
        ):
            again += send_again(daemon)
            time.sleep(0.5)
        time.sleep(1)  # for what might come after the last one
    receiver.close()
    wrong = receiver.wrong + [f"{name}: its last callback never came" for name in left]
    wrong += [f"{name}: several ids" for name in names if len(receiver.heard[name].ids) > 1]
    progress = sum(len(heard.seqs) for heard in receiver.heard.values())
    said = (
        f"{batches} batches, {kills} x SIGKILL, {time.monotonic() - began:.0f} s:"
        f" {batches - len(left)} last callbacks arrived, in {receiver.lasts} tries;"
        f" {again} sent again by hand; {progress} of progress; wrong: {len(wrong)}"
    )
    return said, wrong


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--sabotage", default="")
    given = parser.parse_args()
    said, wrong = run(given.batches, given.kills, given.seconds, given.sabotage)
    print(said, json.dumps(wrong[:20], indent=1) if wrong else "")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
