"""Many clients post the same batch at once, over two nodes.

    python -m tests.chaos.sameid [--clients 200] [--ids 100]

Each id must be taken in once, whoever was first, and every other client be told so.
"""

import argparse
import sys
import tempfile
import threading
import time
import urllib.error
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.redis_servers import RedisServer


def post(node: Daemon, task_id: str, together: threading.Barrier) -> int:
    """The status that one client gets."""
    together.wait()
    body = {"task_id": task_id, "download": ["http://files.example/a.wav"]}
    try:
        return 200 if "schedule" in node.post(body) else 202
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def run(clients: int, ids: int) -> list[str]:
    """What went wrong."""
    server = RedisServer("--appendfsync", "always")
    wrong = []
    options = (f"--redis={server.url}", "--roles=intake", "--request-rate=0")
    folder = Path(tempfile.mkdtemp(prefix="bw"))
    with Daemon(folder / "1", *options) as one, Daemon(folder / "2", *options) as two:
        with ThreadPoolExecutor(clients) as pool:
            for number in range(ids):
                together = threading.Barrier(clients)
                going = [
                    pool.submit(post, (one, two)[client % 2], f"id{number}", together)
                    for client in range(clients)
                ]
                statuses = Counter(one.result() for one in going)
                if statuses != Counter({202: 1, 200: clients - 1}):
                    wrong.append(f"id{number}: {dict(statuses)}")
        counts = two.call("GET", "/v1/stats")["parts"]["counts"]
        if sum(counts.values()) != ids:
            wrong.append(f"{counts} jobs for {ids} batches")
    server.close()
    return wrong


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--ids", type=int, default=100)
    given = parser.parse_args()
    began = time.monotonic()
    wrong = run(given.clients, given.ids)
    print(f"{given.ids} ids by {given.clients} clients, {time.monotonic() - began:.0f} s:", end=" ")
    print("each taken in once" if not wrong else "\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
