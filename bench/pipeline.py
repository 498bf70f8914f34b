"""POST to finished zip, beside curl, aria2c, curl + zip, requests and aiohttp + zipfile.

    python -m bench.pipeline [--workload wav wav-store small small-two large] [--runs 5]

Needs nginx, curl, aria2c and zip, and the Python packages requests and aiohttp. Everything runs
on loopback. The files are recordings of noisy tones, a few different ones under many names.
"""

import argparse
import json
import math
import os
import random
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.nginx import Nginx
from tests.support.daemon import Daemon

DISTINCT = 50
PARALLEL = 32
LOOK = 0.01  # seconds between two looks whether a zip is there
LONGEST = 60  # seconds for a batch


@dataclass(frozen=True)
class Workload:
    """Files of a size, in one batch or in several that are posted together."""

    files: int
    size: int
    compress: str
    batches: int = 1
    workers: int = 0


WORKLOADS = {
    "wav": Workload(2000, 600_000, "deflate"),
    "wav-store": Workload(2000, 600_000, "store"),
    "small": Workload(10_000, 10_000, "auto"),
    "small-two": Workload(10_000, 10_000, "auto", batches=2, workers=1),
    "large": Workload(10, 100_000_000, "store"),
}

REQUESTS_ZIPFILE = """
import sys, threading, zipfile
from concurrent.futures import ThreadPoolExecutor
import requests
urls = open(sys.argv[1]).read().split()
lock, local = threading.Lock(), threading.local()
with zipfile.ZipFile(sys.argv[2], "w", zipfile.ZIP_DEFLATED) as archive:
    def fetch(url):
        if not hasattr(local, "session"):
            local.session = requests.Session()
        answer = local.session.get(url, timeout=30)
        answer.raise_for_status()
        with lock:
            archive.writestr(url.rsplit("/", 1)[1], answer.content)
    with ThreadPoolExecutor(int(sys.argv[3])) as pool:
        list(pool.map(fetch, urls))
"""

AIOHTTP_ZIPFILE = """
import asyncio, sys, zipfile
import aiohttp
urls = open(sys.argv[1]).read().split()
async def main():
    gate = asyncio.Semaphore(int(sys.argv[3]))
    with zipfile.ZipFile(sys.argv[2], "w", zipfile.ZIP_DEFLATED) as archive:
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            async def fetch(url):
                async with gate, session.get(url) as answer:
                    answer.raise_for_status()
                    archive.writestr(url.rsplit("/", 1)[1], await answer.read())
            await asyncio.gather(*map(fetch, urls))
asyncio.run(main())
"""


def make_recordings(folder: Path, count: int, size: int) -> list[str]:
    """``count`` names for WAV files of about ``size`` bytes."""
    dice = random.Random(1)
    names = []
    for number in range(min(count, DISTINCT)):
        path = folder / f"take-{number}.wav"
        pitch = dice.uniform(5, 60)
        samples = min(size, 1_000_000) // 2
        frames = struct.pack(
            f"<{samples}h",
            *(
                int(4000 * math.sin(n / pitch) * math.sin(n / 9000) + dice.gauss(0, 120))
                for n in range(samples)
            ),
        ) * max(1, size // 1_000_000)
        with wave.open(str(path), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(8000)
            out.writeframes(frames)
    for number in range(count):
        name = f"rec-{number:06}.wav"
        os.link(folder / f"take-{number % DISTINCT}.wav", folder / name)
        names.append(name)
    return names


def children_cpu() -> float:
    """CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def commands(*lines: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of commands that run one after the other."""
    cpu, wall = children_cpu(), time.perf_counter()
    for line in lines:
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - wall, children_cpu() - cpu


def visible(daemon: Daemon, name: str) -> Any:
    """The batch once its zip is there: its folder appears as a whole.

    Asking the API meanwhile, or looking at more, would take the time of what is measured.
    """
    end, public = time.monotonic() + LONGEST, daemon.data / "public"
    while time.monotonic() < end and not any(
        folder.startswith(f"{name}-") for folder in os.listdir(public)
    ):
        time.sleep(LOOK)
    return daemon.wait(name)


def bulkwav(daemon: Daemon, urls: list[str], number: int, work: Workload) -> tuple[float, float]:
    """Wall and CPU seconds from the POST until the zip is there, for each batch."""
    names = [f"run-{number}-{n}" for n in range(work.batches)]
    cpu, wall = daemon.cpu(), time.perf_counter()
    for name in names:
        daemon.post({"task_id": name, "download": urls, "compress": work.compress})
    ended = [visible(daemon, name) for name in names]
    wall, cpu = time.perf_counter() - wall, daemon.cpu() - cpu
    for name, done in zip(names, ended, strict=True):
        if done["status"] != "done":
            raise SystemExit(f"bulkwav: {json.dumps(done['errors'])}")
        daemon.call("DELETE", f"/v1/batches/{name}")
    return wall / work.batches, cpu / work.batches


def measure(workload: str, runs: int, only: str) -> None:
    """One workload, all peers in turn, and print."""
    work = WORKLOADS[workload]
    files, size, compress = work.files, work.size, work.compress
    folder = Path(tempfile.mkdtemp(prefix="bench"))
    root = folder / "www"
    root.mkdir()
    names = make_recordings(root, files, size)
    results: dict[str, list[tuple[float, float]]] = {}
    with (
        Nginx(folder, root, "tcp_nopush on;") as nginx,
        Daemon(
            folder / "data",
            f"--concurrency={PARALLEL}",
            f"--per-host={PARALLEL}",
            f"--workers={work.workers}",
        ) as daemon,
    ):
        urls = [f"http://127.0.0.1:{nginx.port}/{name}" for name in names]
        listing, script = folder / "urls", folder / "urls.curl"
        listing.write_text("\n".join(urls))
        out = folder / "out"
        script.write_text(
            "\n".join(f'url = "{url}"\noutput = "{out}/{url.rsplit("/", 1)[1]}"' for url in urls)
        )
        curl = [
            "curl",
            "-s",
            "-f",
            "--parallel",
            "--parallel-max",
            f"{PARALLEL}",
            "-K",
            f"{script}",
        ]
        aria2c = ["aria2c", "-q", "-d", str(out), "-i", str(listing), f"-j{PARALLEL}"]
        aria2c += [f"-x{16}", "--file-allocation=none", "--auto-file-renaming=false"]
        packed = folder / "out.zip"
        zipped = ["zip", "-0" if compress == "store" else "-1", "-q", "-r", str(packed), str(out)]
        more = [str(listing), str(packed), str(PARALLEL)]
        peers: dict[str, Callable[[int], Any]] = {
            "curl, download only": lambda n: commands(curl),
            "aria2c, download only": lambda n: commands(aria2c),
            "bulkwav": lambda n: bulkwav(daemon, urls, n, work),
            "curl + zip": lambda n: commands(curl, zipped),
            "requests + zipfile": lambda n: commands(
                [sys.executable, "-c", REQUESTS_ZIPFILE, *more]
            ),
            "aiohttp + zipfile": lambda n: commands([sys.executable, "-c", AIOHTTP_ZIPFILE, *more]),
        }
        peers = {name: run for name, run in peers.items() if only in name or "curl, " in name}
        for number in range(runs):
            for name, run in peers.items():
                out.mkdir()
                results.setdefault(name, []).append(run(number))
                shutil.rmtree(out)
                packed.unlink(missing_ok=True)
        peak = daemon.peak_memory()
    shutil.rmtree(folder)
    several = f", each of {work.batches} batches at once" if work.batches > 1 else ""
    title = f"{workload}: {files} files of {size} bytes, {compress}{several}"
    report(f"{title}, {runs} runs, medians", results)
    print(
        f"peak memory of bulkwav: {peak / 1e6:.0f} MB"
        f" (its Redis: {daemon.redis_memory / 1e6:.0f} MB)\n",
        flush=True,
    )


def report(title: str, results: dict[str, list[tuple[float, float]]]) -> None:
    """Print medians, and ratios to curl."""
    base = statistics.median(wall for wall, _ in results["curl, download only"])
    print(f"{title}\n{'':22}{'wall s':>8}{'CPU s':>8}{'x curl':>8}")
    for name, runs in results.items():
        wall, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"{name:22}{wall:8.2f}{cpu:8.2f}{wall / base:8.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", nargs="*", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", help="part of a name: measure just those, and curl")
    options = parser.parse_args()
    for workload in options.workload:
        measure(workload, options.runs, options.only)


if __name__ == "__main__":
    main()
