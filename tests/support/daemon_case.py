"""A daemon in a process of its own, and a source of recordings for it."""

import json
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import thread_server
from tests.support.daemon import Daemon
from twisted_bulk.commands.demo import recording

NAMES = (
    "force-13566401479-717-20180306-143129-1520317889.321216_2.wav",
    "force-18795851159-706-20180306-143148-1520317908.211_2.wav",
    "force-18757277216-702-20180306-143146-1520317906.37725_2.wav",
)


class Source:
    """Recordings, and the receiver of callbacks; ``gate`` holds answers back while it is clear.

    All, or those in ``held``, if there are any.
    """

    def __init__(self) -> None:
        self.files = {f"/{name}": recording(n) for n, name in enumerate(NAMES)}
        self.asked: list[str] = []
        self.held: set[str] = set()
        self.delay = 0.0  # seconds before each answer
        self.callbacks: list[tuple[float, dict[str, Any]]] = []
        self.gate = threading.Event()
        self.gate.set()
        source = self

        class Handler(thread_server.Handler):
            def do_GET(self) -> None:
                source.asked.append(self.path)
                if not source.held or self.path in source.held:
                    source.gate.wait(60)
                time.sleep(source.delay)
                self.reply(source.files[self.path])

            def do_POST(self) -> None:
                source.callbacks.append((time.monotonic(), json.loads(self.body())))
                self.reply(b"")

        self.server = thread_server.Server(Handler)
        self.url = self.server.url

    def close(self) -> None:
        self.gate.set()
        self.server.close()


def until(condition: Callable[[], Any], seconds: float = 40) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it did not happen")
        time.sleep(0.01)


class DaemonTestCase(SynchronousTestCase):
    """A source, and a daemon that ends with the test."""

    def setUp(self) -> None:
        self.source = Source()
        self.addCleanup(self.source.close)

    def daemon(self, *options: str, ready: str = "/readyz") -> Daemon:
        daemon = Daemon(Path(tempfile.mkdtemp(prefix="bw")), *options, ready=ready)
        self.addCleanup(daemon.__exit__)
        return daemon

    def urls(self, count: int = 3) -> list[str]:
        for n in range(count):
            self.source.files.setdefault(f"/{n}.wav", recording(n))
        return [self.source.url + path for path in list(self.source.files)[:count]]

    def fetch(self, link: str) -> dict[str, bytes]:
        with urllib.request.urlopen(link, timeout=60) as answer:
            path = Path(self.mktemp())
            path.write_bytes(answer.read())
        with zipfile.ZipFile(path) as archive:
            self.assertIsNone(archive.testzip())
            return {name: archive.read(name) for name in archive.namelist()}

    def visible(self, daemon: Daemon) -> list[Path]:
        return list((daemon.data / "public").glob("*/*.zip"))

    def complete(self, daemon: Daemon, batch: str, count: int) -> None:
        """The batch ends well, with one zip that has everything."""
        shown = daemon.wait(batch, 60)
        self.assertEqual((shown["status"], shown["done"]), ("done", count))
        content = self.fetch(shown["download"])
        manifest = json.loads(content.pop("manifest.json"))
        self.assertEqual(sorted(content.values()), sorted(list(self.source.files.values())[:count]))
        self.assertEqual(len(manifest), count)
        until(lambda: len(self.visible(daemon)) == 1)
