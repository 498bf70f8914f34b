"""The page in Chromium, as people use it."""

import hashlib
from pathlib import Path
from typing import Any

from tests.support.browser import BrowserTestCase
from tests.support.daemon_case import until

XSS = "<img src=x onerror=document.title='hacked'>.wav"


class BrowserTests(BrowserTestCase):
    """From the form to the zip, from the list to many batches."""

    def test_from_the_form_to_the_zip(self) -> None:
        """Submit, watch, find out why some failed, mend the source, retry just those, fetch."""
        daemon = self.daemon()
        good = self.origin.add(*(f"/{n}.wav" for n in range(8)), "/slow.wav")
        bad = [f"{self.origin.url}/late{n}.wav" for n in range(3)]
        page = self.tab()
        page.goto(daemon.api)
        page.click("text=New batch")
        page.fill(
            "#urls", "\n".join([*good, *bad, "http://127.0.0.1:9/x.wav", "javascript:alert(1)"])
        )
        page.click("text=Check first")
        page.wait_for_selector("text=not an http or https URL")
        page.click("text=More settings")
        page.fill("#task_id", "calls")
        page.click("button:text-is('Submit')")
        page.wait_for_selector("h1:has-text('calls')")
        # The bar moves by itself.
        page.wait_for_selector(".badge[data-state=running]")
        until(lambda: page.evaluate("document.querySelector('progress').value > 0"))
        self.origin.gate.set()
        page.wait_for_selector("p.row .badge[data-state=partial]")
        self.assertIn("9 / 14, 5 failed", page.inner_text(".bar"))
        failures = page.locator("section", has_text="Failures, by reason")
        group = failures.locator("tr", has_text="http_error")
        self.assertIn(self.origin.url.removeprefix("http://"), group.inner_text())
        group.locator("text=Show these").click()
        page.wait_for_selector("#members .count:text-is('3 files')")
        self.assertIn("code=http_error", page.url)
        self.assertIn("HTTP 404", page.inner_text("#members"))
        self.origin.add(*(f"/late{n}.wav" for n in range(3)))
        group.locator("text=Retry these").click()
        page.wait_for_selector("dialog:has-text('3 files are fetched again')")
        self.assertIn("2 others stay failed", page.inner_text("dialog"))
        page.click("dialog button.main")
        page.wait_for_selector("text=12 / 14, 2 failed")
        with page.expect_download() as download:
            page.click("a:text-is('Download')")
        self.assertEqual(Path(download.value.path()).read_bytes()[:2], b"PK")
        self.assertIn("at your rate", page.inner_text("thead >> nth=0").lower())
        page.click("text=Delete")
        page.click("dialog button.danger")
        page.wait_for_selector("h1:text-is('Batches')")
        self.assertEqual(daemon.call("GET", "/v1/batches")["batches"], [])
        self.no_trouble()

    def test_filter_and_cancel_all(self) -> None:
        """The filter stands in the address; a plan, its confirmation, its progress."""
        daemon = self.daemon()
        daemon.call("PATCH", "/v1/queue", {"paused": True})
        slow = self.origin.add("/slow.wav")
        for n in range(6):
            daemon.post({"task_id": f"{'march' if n < 4 else 'april'}-{n}", "download": slow})
        page = self.tab()
        page.goto(f"{daemon.api}/#/batches")
        page.wait_for_selector("text=6 batches")
        page.fill("input[name=id]", "march")
        page.check("input[name=queued]")
        page.click("button:text-is('Show')")
        page.wait_for_selector("text=4 batches")
        self.assertIn("status=queued&id=march", page.url)
        page.reload()
        page.wait_for_selector("text=4 batches")
        self.assertEqual(page.input_value("input[name=id]"), "march")
        page.click("text=Select all that the filter finds")
        page.click(".actions >> text=Cancel")
        page.wait_for_selector("dialog:has-text('4 of 4 would be changed')")
        page.click("dialog button.danger")
        page.wait_for_selector("dialog:has-text('4 of 4 done')")
        page.click("dialog >> text=Close")
        page.wait_for_selector("text=0 batches")
        self.assertIn("status=queued&id=march", page.url)
        page.click("text=Show all")
        page.wait_for_selector("text=6 batches")
        # One that is selected, and a plan that is not confirmed.
        page.check("tr:has-text('april-5') input")
        page.click(".actions >> text=Delete")
        page.wait_for_selector("dialog:has-text('have not ended')")
        self.assertTrue(page.is_disabled("dialog button.danger"))
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")
        # A new batch moves no row, until it is wanted.
        daemon.post({"task_id": "new", "download": slow})
        page.click("text=There are new batches")
        page.wait_for_selector("tbody tr:first-child:has-text('new')")
        daemon.call("PATCH", "/v1/queue", {"paused": None})
        self.origin.gate.set()
        page.wait_for_selector("tr:has-text('new') .badge[data-state=done]")
        self.no_trouble()

    def test_overview(self) -> None:
        """What needs a person comes first; the queue is paused and resumed."""
        daemon = self.daemon("--retries=0")
        self.origin.callback_status = 410
        (url,) = self.origin.add("/slow.wav")
        daemon.post({"task_id": "b", "download": [url, f"{self.origin.url}/none.wav"]})
        page = self.tab()
        page.goto(daemon.api)
        page.wait_for_selector("tr:has-text('b') .badge[data-state=running]")
        page.wait_for_selector(".alerts:has-text('Nothing needs you')")
        self.origin.gate.set()
        page.wait_for_selector(".alerts >> text=1 batch of the last 24 hours has failures")
        page.wait_for_selector(".badge", state="hidden")
        page.click("text=Pause the queue")
        page.wait_for_selector(".alerts:has-text('The queue is paused')")
        self.assertEqual(daemon.call("GET", "/v1/stats")["parts"]["waits_for"], "paused")
        page.click("text=Resume the queue")
        page.wait_for_selector("text=Pause the queue")
        page.fill("#rate", "50")
        page.locator("form", has=page.locator("#rate")).locator("button").click()
        until(lambda: daemon.call("GET", "/v1/files")["rate"] == 50_000)
        page.click(".alerts a")
        page.wait_for_selector("h1:text-is('Batches')")
        page.wait_for_selector("tr:has-text('refused by the server, such as 404')")
        self.no_trouble()

    def test_tokens(self) -> None:
        """A wrong token, a right one, one that may only read; a tab keeps its own."""
        tokens = Path(self.mktemp())
        scopes = {"chief": "admin", "clerk": "submit,read", "eye": "read", "box": "submit"}
        tokens.write_text(
            "".join(
                f"{hashlib.sha256(n.encode()).hexdigest()} {n} {s}\n" for n, s in scopes.items()
            )
        )
        daemon = self.daemon(f"--tokens={tokens.absolute()}", ready="/healthz")
        page = self.tab()
        page.clock.install()
        page.goto(f"{daemon.api}/#/batches")
        for token in ("wrong", "clerk"):
            page.fill("#token", token)
            page.click("button:text-is('Sign in')")
            page.wait_for_selector("text=does not know" if token == "wrong" else "text=0 batches")
        self.assertNotIn("clerk", page.url)
        page.click("text=New batch")
        page.fill("#urls", "\n".join(self.origin.add("/a.wav")))
        page.click("button:text-is('Submit')")
        page.wait_for_selector(".badge[data-state=done]")
        page.click("text=Overview")
        page.wait_for_selector("h2:text-is('Running and waiting')")
        self.assertEqual(page.locator("text=Pause the queue").count(), 0)
        page.reload()
        page.wait_for_selector("h2:text-is('Running and waiting')")
        page.click("text=Sign out")
        page.fill("#token", "half a tok")
        page.clock.fast_forward(60_000)  # nothing that is repeated empties the form
        page.wait_for_timeout(300)
        self.assertEqual(page.input_value("#token"), "half a tok")
        page.fill("#token", "box")
        asked = list[str]()
        page.on("request", lambda request: asked.append(request.url))
        page.click("button:text-is('Sign in')")
        page.wait_for_selector("text=may hand batches in, and not read them")
        page.wait_for_timeout(300)
        self.assertLess(len(asked), 5, asked)
        page.click("text=Sign out")
        page.fill("#token", "eye")
        page.click("button:text-is('Sign in')")
        page.click("nav >> text=Batches")
        page.wait_for_selector("text=0 batches")
        self.assertEqual(page.locator("text=New batch").count(), 0)
        self.assertEqual(page.locator("main button:not(form button):visible").count(), 0)
        other = page.context.new_page()
        other.goto(daemon.api)
        other.wait_for_selector("#token")
        other.fill("#token", "chief")
        other.click("button:text-is('Sign in')")
        other.click("nav >> text=Batches")
        other.click("table a")
        other.wait_for_selector("text=Delete")
        # An administrator gets the batch of the row, though another one has its id.
        taken = daemon.call("GET", "/v1/batches", token="chief")["batches"][0]["task_id"]
        body = {"task_id": taken, "download": self.origin.add("/b.wav", "/c.wav")}
        daemon.call("POST", "/v1/batches", body, token="chief")
        other.click("nav >> text=Batches")
        for owner, count in (("clerk", 1), ("chief", 2)):
            other.click(f"tr:has-text('{owner}') a")
            other.wait_for_selector(f"#members .count:has-text('{count} file')")
            other.go_back()
        self.no_trouble()

    def test_orders_of_texts(self) -> None:
        """What is pasted, and what comes in files, by name."""
        daemon = self.daemon()
        page = self.tab()
        page.goto(daemon.api)
        a, b = "https://h/a,1.wav?ids=1,2", "https://h/b;jsessionid=9?x=1"
        for text, name, download in (
            (f"{a}\n{b}\n\n# no, not this\n", "", [a, b]),
            (f"# first, a list\r\n{a}", "", [a]),
            (f'\ufeffurl,name\n"{a}","x, ""y"".wav"\n{b},', "",
             [{"url": a, "name": 'x, "y".wav'}, b]),
            (f"{b}x\t1\nhttps://h/c\t2", "list.tsv", [f"{b}x", "https://h/c"]),
            ("Recording;Link\n1;https://h/d\n2;https://h/e", "l.csv", ["https://h/d", "https://h/e"]),
            (f'["{a}"]', "", [a]),
            (f'{{"download": ["{a}"], "task_id": "t"}}', "o.json", [a]),
        ):  # fmt: skip
            script = "([text, name]) => import('/page/js/order.js').then(m => m.parse(text, name))"
            self.assertEqual(page.evaluate(script, [text, name])["download"], download, text)
        for text, name in (("[1", ""), ("{}", ""), ("a;b\n1;2", "l.csv"), ("PNG\0", "p.png")):
            script = "([t, n]) => import('/page/js/order.js').then(m => m.parse(t, n))"
            said = f"{script[:-1]}).then(() => '', error => error.message)"
            self.assertNotEqual(page.evaluate(said, [text, name]), "", text)
        self.no_trouble()

    def test_protected_mode(self) -> None:
        """Where the API answers nobody from elsewhere, the page says in words what to do."""
        daemon = self.daemon()
        page = self.tab(extra_http_headers={"X-Forwarded-For": "192.0.2.1"})
        page.goto(daemon.api)
        page.wait_for_selector("h1:text-is('Protected mode')")
        self.assertIn("--tokens", page.inner_text("main"))

    def test_looks(self) -> None:
        """Wide and narrow, light and dark, in both languages: whole, and no serious finding."""
        daemon = self.daemon("--retries=0")
        urls: list[Any] = self.origin.add(*(f"/{n}.wav" for n in range(30)))
        urls += [
            {"url": f"{self.origin.url}/none.wav?<script>", "name": XSS},
            "javascript:alert(1)",
        ]
        urls += [f"{self.origin.url}/{'x' * 2000}.wav", {"url": urls[0], "name": "تسجيل.wav"}]
        self.origin.callback_status = 500
        callback = f"{self.origin.url}/callback"
        daemon.post({"task_id": "calls-march", "download": urls, "url": callback})
        daemon.wait("calls-march")
        daemon.post({"task_id": "calls-april", "download": self.origin.add("/slow.wav")})
        shots = Path(self.mktemp())
        shots.mkdir()
        for width, scheme, locale in (
            (1280, "light", "en-GB"), (390, "dark", "zh-CN"),
            (1280, "dark", "zh-CN"), (390, "light", "en-GB"),
        ):  # fmt: skip
            page = self.tab(
                viewport={"width": width, "height": 844}, color_scheme=scheme, locale=locale
            )
            for path, ready in (
                ("", "main table tbody tr"), ("batches", "text=calls-march"),
                ("batch/calls-march", "#members tbody tr >> nth=32"), ("new", "#urls"),
            ):  # fmt: skip
                page.goto(f"{daemon.api}/#/{path}")
                page.wait_for_selector(ready)
                if (width == 390) == (scheme == "dark"):  # each of these in one way
                    found = self.serious(page)
                    self.assertEqual(found, [], (width, scheme, locale, path))
                wide = page.evaluate("document.documentElement.scrollWidth")
                self.assertLessEqual(wide, width, (path, locale))
                self.assertEqual(page.get_attribute("html", "lang"), locale[:2])
                name = f"{path.partition('/')[0] or 'overview'}-{width}-{scheme}-{locale[:2]}.png"
                page.screenshot(path=shots / name, full_page=True)
                self.assertEqual(page.locator("main img, main script").count(), 0)
                self.assertNotIn("hacked", page.title())
            page.goto(f"{daemon.api}/#/batch/calls-march?status=failed")
            page.wait_for_selector("#members tbody tr")
            page.wait_for_selector("text=HTTP 500: no such table")
            page.locator("#members tbody button").click()
            page.wait_for_selector(f"#members small:has-text('{'x' * 2000}')")
            page.context.close()
        self.origin.gate.set()
        self.no_trouble()

    def test_eight_tabs(self) -> None:
        """All are live over one stream; those without a shared worker have their own."""
        daemon = self.daemon("--parts=1")
        pages = [self.tab()]
        pages += [pages[0].context.new_page() for _ in range(7)]
        other = self.tab()
        other.add_init_script("delete window.SharedWorker")
        old = self.tab()
        old.add_init_script("delete window.SharedWorker; delete window.TextDecoderStream")
        for page in (*pages, other, old):
            page.goto(f"{daemon.api}/#/batches")
            page.wait_for_selector("text=0 batches")
        for page in (*pages, other):
            page.wait_for_selector("#live[data-state=live]")
        old.wait_for_selector("#live[data-state=polling]")
        daemon.post({"task_id": "b", "download": self.origin.add("/slow.wav")})
        for page in (*pages, other):
            page.wait_for_selector("text=There are new batches")
        for page in (pages[7], other):
            page.click("text=There are new batches")
            page.wait_for_selector(".badge[data-state=running]")
        self.origin.gate.set()
        for page in (pages[7], other):
            page.wait_for_selector(".badge[data-state=done]")
        self.no_trouble()
        # The eight had one stream, and the one without a shared worker had another.
        daemon.stop()
        self.assertEqual(daemon.log.read_text().count("GET /v1/events 200"), 2)
