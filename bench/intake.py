"""Batches taken in a second, beside Flask and gunicorn with four gevent workers.

    python -m bench.intake [--runs 3] [--seconds 10]

Flask only pushes the body to a list; both write to the same Redis, which has ``appendfsync
always``. wrk posts the batch of four URLs by 64 connections. Then ours alone: one POST of 100,000
URLs. Needs wrk and ``pip install -e '.[bench]'``.
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
from pathlib import Path

from tests.daemon import ROOT, Daemon
from tests.servers import RedisServer, free_port, need

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
    options = parser.parse_args()
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
    found: dict[str, list[float]] = {"bulkwav": [], "Flask": []}
    try:
        with Daemon(folder / "data", f"--redis={server.url}", "--roles=intake",
                    "--request-rate=0") as daemon:  # fmt: skip
            time.sleep(2)
            for _ in range(options.runs):
                for name, url in (("bulkwav", daemon.api), ("Flask", f"http://127.0.0.1:{port}")):
                    found[name].append(requests_per_second(f"{url}/", script, options.seconds))
            for name, rates in found.items():
                print(f"{name:8} {statistics.median(rates):8.0f} batches/s", flush=True)
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
