"""The page with many batches: how soon it can be used, what open pages cost, how fast it filters.

    python -m bench.page [--batches 10000] [--running 50] [--parts 100] [--pages 20]
                         [--listeners 300] [--seconds 20]

A part of the large batch has 10,000 members, one of 20 failed. Needs chromium and ``.[browser]``.
"""

import argparse
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any, cast

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.daemon import Daemon, cpu_of
from tests.support.redis_servers import RedisServer

REPEAT = 9  # calls of each kind
TABS = "#/", "#/batches", "#/batch/large"
READY = "main table tbody tr"  # of each view; then its links and buttons work
FAILED = "/v1/batches/large/members?status=failed&count=true"


def seconds_of(daemon: Daemon, path: str, method: str = "GET", body: bytes | None = None) -> float:
    """The median time of a call, in seconds."""
    taken = []
    for _ in range(REPEAT):
        asked = urllib.request.Request(daemon.api + path, body, method=method)
        asked.add_header("Content-Type", "application/json")
        began = time.monotonic()
        with urllib.request.urlopen(asked) as answer:
            answer.read()
        taken.append(time.monotonic() - began)
    return median(taken)


def open_pages(browser: Browser, daemon: Daemon, count: int) -> list[Page]:
    """Pages in browsers of their own, so that each has its own stream."""
    pages = []
    for number in range(count):
        page = browser.new_context(locale="en-GB").new_page()
        page.goto(f"{daemon.api}/{TABS[number % 2]}")
        page.wait_for_selector("#live[data-state=live]")
        pages.append(page)
    return pages


def cost(pids: list[int], seconds: float) -> float:
    """The share of a core that processes use."""
    before = cpu_of(pids)
    time.sleep(seconds)
    return (cpu_of(pids) - before) / seconds


def listen(daemon: Daemon, path: str, count: int) -> threading.Event:
    """Read so many streams of events on a thread, until the event is set."""
    over, selector = threading.Event(), selectors.DefaultSelector()
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", daemon.intake))
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)

    def read() -> None:
        while not over.is_set():
            for key, _ in selector.select(0.5):
                cast(socket.socket, key.fileobj).recv(1 << 20)
        for key in list(selector.get_map().values()):
            cast(socket.socket, key.fileobj).close()

    threading.Thread(target=read, daemon=True).start()
    return over


def heap(page: Page) -> int:
    """Bytes of the heap of a page's scripts, and of its documents, after a collection."""
    session: Any = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    return int(session.send("Runtime.getHeapUsage")["usedSize"])


def memory() -> int:
    """Bytes of the largest renderer process that belong to it alone."""
    largest = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"--type=renderer" not in path.read_bytes():
                continue
            rollup = (path.parent / "smaps_rollup").read_text()
        except OSError:
            continue
        private = sum(
            int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_")
        )
        largest = max(largest, private * 1024)
    return largest


def measure(daemon: Daemon, redis: RedisServer, options: argparse.Namespace) -> None:
    """Measure and print."""
    pids = [daemon.process.pid, redis.process.pid]
    for what, path in (
        ("failed members, counted", FAILED),
        ("of one error and host", f"{FAILED}&code=http_error&host=h3.example"),
        ("of these the last page", f"{FAILED}&cursor={options.parts * 10_000 - 500}"),
        ("failed members with a text", f"{FAILED}&text=0999980"),
        ("the batch with its groups", "/v1/batches/large"),
        ("batches by state and id", "/v1/batches?status=done&id=batch-0&count=true"),
        ("batches by code", "/v1/batches?code=http_error&count=true"),
    ):
        print(f"{what}: {1000 * seconds_of(daemon, path):.0f} ms")
    only = b'{"only": {"code": "http_error", "host": "h3.example"}}'
    plan = seconds_of(daemon, "/v1/batches/large/retry?check=true", "POST", only)
    print(f"a plan to retry one group: {1000 * plan:.0f} ms")
    alone = cost(pids, options.seconds)
    for path in ("/v1/batches/running-000/events", "/v1/events"):
        for count in (1, options.listeners):
            over = listen(daemon, path, count)
            time.sleep(3)
            more = cost(pids, options.seconds) - alone
            over.set()
            print(f"{count} listeners to {path} cost {100 * more:.1f} % of a core")
            time.sleep(3)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"))
        for tab in TABS:
            taken = []
            for _ in range(5):
                page = browser.new_context(locale="en-GB").new_page()
                began = time.monotonic()
                page.goto(f"{daemon.api}/{tab}")
                page.wait_for_selector(READY)
                taken.append(time.monotonic() - began)
                page.context.close()
            print(f"{tab} can be used after {median(taken):.2f} s")
        pages = open_pages(browser, daemon, options.pages)
        time.sleep(5)
        shared = cost(pids, options.seconds)
        print(
            f"{options.pages} pages cost {100 * (shared - alone):.1f} % of a core"
            f" ({100 * alone:.1f} % without, {100 * shared:.1f} % with them)"
        )
        print(
            f"a page: {max(map(heap, pages)) / 1e6:.0f} MB of scripts,"
            f" its process {memory() / 1e6:.0f} MB"
        )
        browser.close()


def main() -> None:
    """Fill the queue, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--running", type=int, default=50)
    parser.add_argument("--parts", type=int, default=100)
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--listeners", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    redis = RedisServer()
    data = Path(tempfile.mkdtemp(prefix="bench")) / "data"
    numbers = map(str, (options.batches, options.running, options.parts))
    words = [sys.executable, "-m", "bench.crowd_of_batches", redis.url, str(data), *numbers]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as crowd:
        assert crowd.stdout is not None
        try:
            assert crowd.stdout.readline() == "ready\n"
            with Daemon(data, f"--redis={redis.url}", "--roles=intake,files") as daemon:
                measure(daemon, redis, options)
        finally:
            crowd.kill()
            redis.close()
            shutil.rmtree(data.parent)


if __name__ == "__main__":
    main()
