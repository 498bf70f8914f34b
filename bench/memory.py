"""How much memory the processes take, at most, while something large passes through.

    python -m bench.memory [million] [huge] [hostile] [--urls 1000000] [--files 200]

``million``: one POST of a million URLs, most to the same small file. ``huge``: files of 1 GB
each, sparse, from nginx, as one batch. ``hostile``: see :mod:`bench.hostile`. Needs nginx;
everything runs on loopback.
"""

import argparse
import json
import shutil
import tempfile
import time
import urllib.request
from pathlib import Path

from bench import hostile
from bench.nginx import Nginx
from bench.peaks import Peaks
from tests.support.daemon import Daemon

GIGABYTE = 1 << 30


def post(daemon: Daemon, body: bytes) -> float:
    """Send a batch; returns the seconds until it was accepted."""
    headers = {"Content-Type": "application/json"}
    began = time.perf_counter()
    request = urllib.request.Request(f"{daemon.api}/v1/batches", body, headers)
    urllib.request.urlopen(request, timeout=120).close()
    return time.perf_counter() - began


def million(daemon: Daemon, url: str, root: Path, count: int) -> None:
    """One POST of ``count`` URLs."""
    (root / "small").write_bytes(bytes(1000))
    urls = [f"{url}/small?n={n}" for n in range(count)]
    body = json.dumps({"task_id": "million", "download": urls}).encode()
    peaks = Peaks(daemon)
    taken = post(daemon, body)
    print(f"million: {count} URLs, {len(body) / 1e6:.0f} MB, accepted in {taken:.1f} s")
    print(f"  until then {', '.join(f'{k} {v:.0f} MB' for k, v in peaks.seen.items())}")
    began = time.perf_counter()
    while not daemon.call("GET", "/v1/batches/million")["bytes"]:
        time.sleep(0.05)
    print(f"  first bytes {time.perf_counter() - began:.1f} s after the 202", flush=True)
    ended = daemon.wait("million", 3600)
    took = time.perf_counter() - began
    print(f"  {ended['status']}, {ended['done']} members in {took:.0f} s; peaks: {peaks.stop()}")


def huge(daemon: Daemon, url: str, root: Path, count: int) -> None:
    """A batch of ``count`` files of 1 GB."""
    with open(root / "gigabyte", "wb") as file:
        file.truncate(GIGABYTE)
    urls = [f"{url}/gigabyte?n={n}" for n in range(count)]
    peaks = Peaks(daemon)
    post(daemon, json.dumps({"task_id": "huge", "download": urls}).encode())
    began = time.perf_counter()
    ended = daemon.wait("huge", 7200)
    took = time.perf_counter() - began
    print(
        f"huge: {count} x 1 GB, {ended['status']}, {ended['done']} members in {took:.0f} s;", end=""
    )
    print(f" {count * GIGABYTE / took / 1e6:.0f} MB/s; peaks: {peaks.stop()}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ["million", "huge", "hostile"]
    parser.add_argument("what", nargs="*", default=parts, choices=parts)
    parser.add_argument("--urls", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=200)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench"))
    root = folder / "www"
    root.mkdir()
    with Nginx(folder, root, "tcp_nopush on;") as nginx:
        for name in options.what:
            if name == "hostile":
                hostile.bodies_and_answers(folder / "hostile", 250 * hostile.MEGABYTE)
                continue
            with Daemon(folder / name, "--concurrency=32", "--per-host=32") as daemon:
                url = f"http://127.0.0.1:{nginx.port}"
                if name == "million":
                    million(daemon, url, root, options.urls)
                else:
                    huge(daemon, url, root, options.files)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
