"""Batches taken in a second, beside Flask and gunicorn with four gevent workers.

    python -m bench.intake [--runs 3] [--seconds 10]

Ours is one process, and then two that share a port. Flask only pushes the body to a list; all
write to the same Redis, which has ``appendfsync always``. wrk posts the batch of four URLs by 64
connections. Then ours alone: one POST of 100,000 URLs. Needs wrk and ``pip install -e '.[bench]'``.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from tests.support.daemon import ROOT, Daemon, SharingDaemon
from tests.support.redis_servers import RedisServer, ask, free_port, need

BATCH = {"download": [f"http://files.example/recordings/{n}.wav" for n in range(4)]}
SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[{body}]]
"""


def requests_per_second(url: str, script: Path, seconds: int) -> float:
    """As wrk counts them; all of them must have been accepted."""
    words = [need("wrk"), "-t1", "-c64", f"-d{seconds}s", "-s", str(script), url]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(said)
    found = re.search(r"Requests/sec:\s+([0-9.]+)", said)
    assert found is not None, said
    return float(found[1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench"))
    script = folder / "post.lua"
    script.write_text(SCRIPT.replace("{body}", json.dumps(BATCH)))
    server = RedisServer("--appendfsync", "always")
    port = free_port()
    flask = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", "4", "-b", f"127.0.0.1:{port}",
         "--log-level", "error", "bench.peers.flask_intake:app"],
        env=os.environ | {"REDIS_SOCKET": str(server.socket), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    found: dict[str, list[float]] = defaultdict(list)
    options = f"--redis={server.url}", "--roles=intake", "--request-rate=0"
    shared = free_port()
    try:
        with (
            Daemon(folder / "1", *options) as daemon,
            SharingDaemon(folder / "2", shared, *options) as two,
            SharingDaemon(folder / "3", shared, *options),
        ):
            time.sleep(2)
            peers = {"bulkwav, one process": daemon.api, "bulkwav, two processes": two.api}
            peers["Flask, four processes"] = f"http://127.0.0.1:{port}"
            for _ in range(given.runs):
                for name, url in peers.items():
                    ask(server.socket, "FLUSHALL")  # each begins with an empty server
                    found[name].append(requests_per_second(f"{url}/", script, given.seconds))
            for name, rates in found.items():
                print(f"{name:24} {statistics.median(rates):8.0f} batches/s", flush=True)
            urls = [f"http://files.example/recordings/{n}.wav" for n in range(100_000)]
            began = time.perf_counter()
            daemon.post({"download": urls})
            print(f"100,000 URLs in one POST: accepted in {time.perf_counter() - began:.2f} s")
    finally:
        flask.terminate()
        flask.wait()
        server.close()


if __name__ == "__main__":
    main()
