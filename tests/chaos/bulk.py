"""Many batches are tried again by one action, and the daemon is killed in the middle of it.

    python -m tests.chaos.bulk [--batches 500] [--members 100] [--kills 3]

All members fail at first; then the source has them, and one bulk action retries all batches. The
daemon is killed (SIGKILL) each time the action has got further, and started again. In the end each
batch is done, and was tried again exactly once.
"""

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support import thread_server
from tests.support.daemon import Daemon
from tests.support.redis_servers import RedisServer, ask

TOO_FAST = "the daemon was killed in between"
JOBS = 10  # parts of a batch: a step of the action changes so many batches that they have 200


class _Source:
    """Has nothing at first, and then everything."""

    def __init__(self) -> None:
        self.has_all = False
        self.asked: Counter[str] = Counter()
        source = self

        class Handler(thread_server.Handler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if source.has_all:
                    source.asked[self.path] += 1
                self.reply(self.path.encode(), code=200 if source.has_all else 404)

        self.server = thread_server.Server(Handler)


class BulkKills:
    """A daemon, a source, and batches that have failed."""

    def __init__(self, batches: int, members: int) -> None:
        self.source, self.redis = _Source(), RedisServer()
        self.names = [f"b{n}" for n in range(batches)]
        self.members = members
        self.folder = Path(tempfile.mkdtemp(prefix="bwbulk"))
        self.daemon = Daemon(
            self.folder / "data", f"--redis={self.redis.url}", "--retries=0", "--per-host=32",
            "--request-rate=0", f"--part-files={max(1, members // JOBS)}",
        )  # fmt: skip

    def close(self) -> None:
        """End everything."""
        self.daemon.__exit__()
        self.source.server.close()
        self.redis.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _await(self, states: tuple[str, ...], seconds: float) -> None:
        """Until no batch is in another state."""
        end, others = time.monotonic() + seconds, "queued,running,failed"
        others = ",".join(one for one in others.split(",") if one not in states)
        path = f"/v1/batches?status={others}&limit=1&count=true"
        while self.daemon.call("GET", path)["count"]["at_least"]:
            if time.monotonic() > end:
                raise AssertionError("they do not end")
            time.sleep(0.2)

    def _done(self, bulk: str) -> tuple[str, int]:
        """The state of the action, and how many batches it has changed, as the queue has it."""
        key = f"bw:{{bulkwav}}:parts:bk:{bulk}"
        state, done = ask(self.redis.socket, "HMGET", key, "state", "done")
        return state.decode(), int(done)

    def run(self, kills: int) -> list[str]:
        """What went wrong."""
        url = self.source.server.url
        for name in self.names:
            urls = [f"{url}/{name}/{n}" for n in range(self.members)]
            self.daemon.post({"task_id": name, "download": urls, "policy": "partial"})
        self._await(("failed",), 600)
        self.source.has_all = True
        plan = self.daemon.call("POST", "/v1/bulk", {"action": "retry", "filter": {}})
        if plan["eligible"] != len(self.names):
            return [f"the plan: {plan}"]
        killed = self._kill_in_between(plan["id"], kills)
        self._await(("done",), 600)
        found: dict[str, Any] = self.daemon.call("GET", f"/v1/bulk/{plan['id']}")
        wrong = [] if killed == kills else [f"{TOO_FAST} {killed} times only"]
        if (found["state"], found["done"]) != ("done", len(self.names)):
            wrong.append(f"the action: {found}")
        for name in self.names:
            shown = self.daemon.call("GET", f"/v1/batches/{name}")
            if (shown["status"], shown["run"], shown["done"]) != ("done", 2, self.members):
                wrong.append(f"{name}: {shown['status']}, run {shown['run']}, {shown['done']}")
        if len(self.source.asked) != len(self.names) * self.members:
            wrong.append(f"{len(self.source.asked)} files were fetched")
        return wrong

    def _kill_in_between(self, bulk: str, kills: int) -> int:
        """Let it run, and kill the daemon each time it has got further; how often that was."""
        with contextlib.suppress(OSError):
            self.daemon.call("POST", f"/v1/bulk/{bulk}/start")
        killed, last = 0, 0
        while killed < kills:
            state, done = self._done(bulk)
            if state == "done":
                break
            if done > last:
                self.daemon.kill()
                killed, last = killed + 1, self._done(bulk)[1]
                self.daemon.start()
        return killed


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=500)
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("--kills", type=int, default=3)
    given = parser.parse_args()
    began, chaos = time.monotonic(), BulkKills(given.batches, given.members)
    try:
        wrong = chaos.run(given.kills)
    finally:
        chaos.close()
    total = given.batches * given.members
    print(f"{total} members, {given.kills} kills, {time.monotonic() - began:.0f} s:", end=" ")
    print("each batch tried again once" if not wrong else "\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
