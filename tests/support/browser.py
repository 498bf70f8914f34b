"""Chromium, driven by playwright, and a daemon whose page it shows."""

import re
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.support import thread_server
from tests.support.daemon_case import DaemonTestCase
from twisted_bulk.commands.demo import recording

try:
    import axe_playwright_python
    from playwright.sync_api import ConsoleMessage, Page, sync_playwright
except ImportError:
    sync_playwright = None  # type: ignore[assignment]

TIMEOUT_MS = 15_000  # for which a step of a test waits for the page
#: Where it is installed; trial's workers may run without a PATH that has it.
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Origin:
    """A server of recordings; a path that is in ``files`` is there, any other one is 404."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.gate = threading.Event()  # answers to /slow… wait for it
        self.callbacks = 0
        self.callback_status = 200
        origin = self

        class Handler(thread_server.Handler):
            def do_GET(self) -> None:
                if self.path.startswith("/slow"):
                    origin.gate.wait(60)
                data = origin.files.get(self.path)
                self.reply(data or b"", code=404 if data is None else 200)

            def do_POST(self) -> None:
                self.body()
                origin.callbacks += 1
                self.reply(b"<h1>no such table</h1>", code=origin.callback_status)

        self.server = thread_server.Server(Handler)
        self.url = self.server.url

    def add(self, *paths: str) -> list[str]:
        """Put recordings there; returns their URLs."""
        for number, path in enumerate(paths):
            self.files[path] = recording(number)
        return [self.url + path for path in paths]

    def close(self) -> None:
        """Serve no more."""
        self.gate.set()
        self.server.close()


class BrowserTestCase(DaemonTestCase):
    """A daemon, a source, and a browser in which no error may happen."""

    def setUp(self) -> None:
        if sync_playwright is None:
            raise SkipTest("needs playwright and axe-playwright-python: pip install '.[browser]'")
        if CHROMIUM is None:
            raise SkipTest("needs chromium")
        super().setUp()
        self.origin = Origin()
        self.addCleanup(self.origin.close)
        driver = sync_playwright().start()
        self.addCleanup(driver.stop)
        self.browser = driver.chromium.launch(executable_path=CHROMIUM)
        self.addCleanup(self.browser.close)
        self.trouble: list[str] = []

    def tab(self, **options: Any) -> "Page":
        """A new tab in a browser of its own."""
        given: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB"}
        context = self.browser.new_context(**given | options)
        context.set_default_timeout(TIMEOUT_MS)
        context.on("console", self._note)
        context.on("weberror", lambda error: self.trouble.append(str(error.error)))
        return context.new_page()

    def _note(self, said: "ConsoleMessage") -> None:
        """Remember an error, unless it is the browser's line for an answer that is no 2xx."""
        text = said.text
        if said.type == "error" and not re.match(
            r"Failed to load resource: the server responded with a status of 4\d\d", text
        ):
            self.trouble.append(text)

    def no_trouble(self) -> None:
        """No error in any tab, and nothing that the policy forbids."""
        self.assertEqual(self.trouble, [])

    def serious(self, page: "Page") -> Sequence[str]:
        """What axe-core finds in a page that is serious or worse."""
        path = Path(axe_playwright_python.__file__).with_name("axe.min.js")
        page.evaluate(path.read_text(encoding="utf-8"))
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']}: {one['nodes'][0]['html']}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]
