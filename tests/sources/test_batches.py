"""Whole batches: bodies as programs send them, warnings, names of zips, links, replacements."""

import gzip
import hashlib
import json
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.sources.responses import FILE, PACKED
from tests.support.daemon import Daemon
from tests.support.daemon_case import until
from tests.support.odd_source import OddSource

PAGE = b"<!doctype html><title>Log in</title>"


class SourceBatchTests(SynchronousTestCase):
    """A daemon, and a source that says what a test wants."""

    def setUp(self) -> None:
        self.source = OddSource()
        self.addCleanup(self.source.close)
        folder = Path(tempfile.mkdtemp(prefix="bw"))
        self.daemon = Daemon(folder / "data", "--rate=0", "--retries=0", "--max-body=1M")
        self.addCleanup(self.daemon.__exit__)

    def serve(self, path: str, body: bytes = FILE, **headers: str) -> str:
        """A file of the source; returns its URL."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.source.files[path] = body, named
        return self.source.url + path

    def post(self, body: bytes, **headers: str) -> tuple[int, Any]:
        """POST a body as it is; urllib says that it is a form unless it is told."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"{self.daemon.api}/", body, named)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def fetch(self, link: str) -> dict[str, bytes]:
        """The members of a zip."""
        path = Path(self.mktemp())
        urllib.request.urlretrieve(link, path)
        with zipfile.ZipFile(path) as archive:
            self.assertIsNone(archive.testzip())
            return {name: archive.read(name) for name in archive.namelist()}

    def manifest(self, batch: str) -> list[dict[str, Any]]:
        """Its lines."""
        with urllib.request.urlopen(f"{self.daemon.api}/v1/batches/{batch}/manifest") as answer:
            return [json.loads(line) for line in answer.read().splitlines()]

    def test_bodies(self) -> None:
        """What programs send is taken, whatever they call it; a browser has to call it JSON."""
        plain = json.dumps({"download": [self.serve("/a.wav")], "url": None}).encode()
        page = {"Origin": self.daemon.api}
        for body, headers, status in (
            (plain, {}, 202),  # as a form: PHP and urllib do so
            (plain, {"Content_Type": "text/json"}, 202),
            (plain, {"Content_Type": "application/json; charset=utf-8"}, 202),
            (b"\xef\xbb\xbf" + plain, {}, 202),
            (b" \r\n" + plain + b"\n", {}, 202),
            (gzip.compress(plain), {"Content_Encoding": "gzip"}, 202),
            (gzip.compress(b"\xef\xbb\xbf" + plain), {"Content_Encoding": "x-gzip"}, 202),
            (plain, {"Content_Encoding": "identity"}, 202),
            (plain, page | {"Content_Type": "application/json"}, 202),
            (plain, page, 415),
            (plain, {"Sec_Fetch_Site": "same-origin"}, 415),
            (plain, {"Sec_Fetch_Site": "cross-site"}, 403),
            (plain, {"Content_Encoding": "br"}, 415),
            (plain, {"Content_Encoding": "gzip"}, 400),
            (gzip.compress(plain)[:-9], {"Content_Encoding": "gzip"}, 400),
            (gzip.compress(plain) * 2, {"Content_Encoding": "gzip"}, 400),
            (gzip.compress(bytes(2 << 20)), {"Content_Encoding": "gzip"}, 413),
            (b"a=b&c=d", {}, 400),
            (b"\xff\xfe" + plain.decode().encode("utf-16-le"), {}, 400),
        ):
            self.assertEqual(self.post(body, **headers)[0], status, (body[:20], headers))

    def test_large_gzip(self) -> None:
        """A packed body may be as large as an unpacked one, and is read on a thread."""
        urls = [self.serve("/a.wav")] * 20_000
        body = json.dumps({"download": urls[:1] * 20_000, "task_id": "large"}).encode()
        status, answer = self.post(gzip.compress(body), Content_Encoding="gzip")
        self.assertEqual((status, answer["total"]), (202, 20_000))
        self.daemon.call("DELETE", "/v1/batches/large")

    def test_as_they_are(self) -> None:
        """A page, an encoded file, a URL that is none: each is said, and none stops the others."""
        download = [
            self.serve("/a%20b.wav").replace("%20", " "),
            self.serve("/login.wav", PAGE, Content_Type="text/html; charset=utf-8"),
            self.serve("/packed.txt", b"\x1b\x05 br", Content_Encoding="br"),
            self.serve("/gzip.txt", PACKED, Content_Encoding="gzip", Content_Type="text/plain"),
            " ftp://user:geheim@h/x ",
            {"url": self.serve("/small.wav", b""), "expect": {"min_bytes": 1}},
            {"url": self.serve("/wrong.wav", PAGE, Content_Type="text/html"),
             "expect": {"type": ["audio/*"]}},
        ]  # fmt: skip
        body = {
            "task_id": "odd", "download": download, "filename": "Anrufe M\u00e4rz #1", "manifest":
            "list.json", "url": self.source.url,
        }  # fmt: skip
        self.assertEqual(self.post(json.dumps(body).encode())[0], 202)
        shown = self.daemon.wait("odd")
        self.assertEqual((shown["status"], shown["done"], shown["failed"]), ("partial", 4, 3))
        self.assertEqual((shown["warnings"], shown["warning"]), (1, "html"))
        codes = [error["code"] for error in shown["errors"]]
        self.assertEqual(sorted(codes), ["bad_url", "too_small", "unexpected_type"])
        lines = {line["member"]: line for line in self.manifest("odd")}
        self.assertEqual(lines[1]["url"], f"{self.source.url}/a b.wav")
        told = [(lines[n]["type"], lines[n]["encoding"], lines[n]["warning"]) for n in range(1, 5)]
        self.assertEqual(
            told,
            [
                ("", "", ""),
                ("text/html", "", "html"),
                ("", "br", ""),
                ("text/plain", "", ""),
            ],
        )
        self.assertNotIn("geheim", json.dumps([shown, list(lines.values())]))
        link = shown["download"]
        self.assertTrue(link.endswith("/Anrufe%20M%C3%A4rz%20%231.zip"), link)
        members = self.fetch(link)
        self.assertEqual(
            list(members), ["a b.wav", "login.wav", "packed.txt", "gzip.txt", "list.json"]
        )
        self.assertEqual((members["gzip.txt"], members["packed.txt"]), (FILE, b"\x1b\x05 br"))
        self.assertEqual(len(json.loads(members["list.json"])), 7)
        callbacks = self.source.callbacks
        until(lambda: callbacks and json.loads(callbacks[-1])["status"] == "partial")
        last = json.loads(self.source.callbacks[-1])
        self.assertEqual((last["download"], last["warnings"], last["warning"]), (link, 1, "html"))
        self.links(link)

    def links(self, link: str) -> None:
        """Other spellings of a link are the link."""
        begin, folder, name = link.rsplit("/", 2)
        letter = name.replace("A", "%41", 1)
        for spelled, is_there in (
            (f"{begin}//{folder}///{name}", True), (f"{begin}/{folder}/{letter}", True),
            (f"{begin}/{folder.replace('o', '%6F', 1)}/{name}", True),
            (f"{begin}/{folder}/{name.lower()}", False), (f"{begin}/%2F{folder}/{name}", False),
            (f"{begin}/{folder}%2F{name}", False), (f"{begin}/./{folder}/{name}", False),
            (f"{begin}/{folder}/../{folder}/{name}", False), (f"{begin}/{folder}/%00.zip", False),
            (f"{begin}/{folder}/{'%F0%9F%98%80' * 150}.zip", False),
        ):  # fmt: skip
            found, said = self.head(spelled)
            self.assertEqual(found, is_there, spelled)
        found, said = self.head(link)
        self.assertEqual(
            said,
            'attachment; filename="Anrufe M_rz #1.zip"; '
            "filename*=UTF-8''Anrufe%20M%C3%A4rz%20#1.zip",
        )

    def head(self, url: str) -> tuple[bool, str]:
        """Whether a link leads to a zip, and under which name."""
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as answer:
                return True, answer.headers["Content-Disposition"]
        except urllib.error.HTTPError as error:
            self.assertEqual(error.code, 404)
            return False, ""

    def test_refused(self) -> None:
        """Each field that is wrong is named."""
        url = self.serve("/a.wav")
        for more, said in (
            ({"filename": "a/b"}, "$.filename"), ({"filename": ".."}, "$.filename"),
            ({"filename": "x" * 101}, "$.filename"), ({"manifest": "a\\b"}, "$.manifest"),
            ({"manifest": 7}, "$.manifest"), ({"expect": {"type": ["audio"]}}, "$.expect.type"),
            ({"expect": {"min_bytes": -1}}, "$.expect"), ({"expect": {"tpye": []}}, "tpye"),
            ({"expect": {"min_bytes": 9, "max_bytes": 3}}, "$.expect"),
            ({"expect": {"min_bytes": 1e23}}, "$.expect"),
            ({"download": [{"url": url, "expect": {"max_bytes": 1 << 64}}]}, "[0].expect"),
            ({"retry_on": [200]}, "$.retry_on"), ({"retry_on": ["404"]}, "$.retry_on"),
            ({"urls": "lax"}, "$.urls"), ({"urls": "strict", "download": ["x"]}, "$.download[0]"),
            ({"download": [{"url": url, "expect": {"type": [7]}}]}, "$.download[0].expect"),
        ):  # fmt: skip
            status, answer = self.post(json.dumps({"download": [url]} | more).encode())
            self.assertEqual((status, answer["code"]), (400, "invalid_request"), more)
            self.assertIn(said, answer["detail"])

    def test_no_manifest(self) -> None:
        """A zip without one; the API has it all the same, and a retry takes its members over."""
        download = [self.serve("/a.wav"), f"{self.source.url}/gone.wav"]
        body = {"task_id": "bare", "download": download, "manifest": False}
        self.post(json.dumps(body).encode())
        self.assertEqual(list(self.fetch(self.daemon.wait("bare")["download"])), ["a.wav"])
        self.assertEqual(len(self.manifest("bare")), 2)
        self.serve("/gone.wav", b"here")
        self.source.asked.clear()
        self.daemon.call("POST", "/v1/batches/bare/retry")
        members = self.fetch(self.daemon.wait("bare")["download"])
        self.assertEqual(members, {"a.wav": FILE, "gone.wav": b"here"})
        self.assertEqual(self.source.asked, ["/gone.wav"])

    def test_killed(self) -> None:
        """After a crash members keep the names that their responses gave them."""
        download = []
        for number in range(12):
            name = f'x; filename="call {number % 4}.wav"'
            body = b"%d" % number
            download.append(self.serve(f"/get?n={number}", body, Content_Disposition=name))
        self.source.held = {f"/get?n={number}" for number in range(6, 12)}
        self.post(json.dumps({"task_id": "k", "download": download}).encode())
        until(lambda: self.daemon.call("GET", "/v1/batches/k")["done"] == 6)
        before = {line["name"]: line["member"] for line in self.manifest("k")}
        self.daemon.kill()
        self.source.gate.set()
        self.source.asked.clear()
        self.daemon.start()
        members = self.fetch(self.daemon.wait("k", 60)["download"])
        members.pop("manifest.json")
        self.assertEqual(set(self.source.asked), self.source.held)
        after = {line["name"]: line["member"] for line in self.manifest("k")}
        self.assertLessEqual(before.items(), after.items())
        self.assertEqual(len(after), 12)
        for name, member in after.items():
            self.assertEqual(members[name], b"%d" % (member - 1))
            self.assertTrue(name.startswith(f"call {(member - 1) % 4}"))

    def retry(self, batch: str, body: Any) -> tuple[int, Any]:
        """Try a batch again; returns status and answer."""
        try:
            return 202, self.daemon.call("POST", f"/v1/batches/{batch}/retry", body)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def test_replaced(self) -> None:
        """Links that have expired are replaced by number or URL, and fetched under their names."""
        old = [f"{self.source.url}/expired/{n}?sig=old" for n in range(5)]
        download: list[Any] = [
            self.serve("/good.wav"), old[1], {"url": old[2], "name": "two.wav"},
            {"url": old[3], "sha256": "0" * 64}, {"url": old[4], "name": "four"},
        ]  # fmt: skip
        self.post(json.dumps({"task_id": "links", "download": download}).encode())
        self.assertEqual(self.daemon.wait("links")["failed"], 4)
        new = [self.serve(f"/new/{n}.wav?sig=new", b"%d" % n) for n in range(5)]
        for replace, said in (
            ({"9": new[1]}, "'9'"), ({"0": new[1]}, "'0'"), ({f"{old[1]}x": new[1]}, "expired"),
            ({"2": "ftp://h/"}, "http"), ({"2": {"url": new[1], "nmae": "x"}}, "nmae"),
        ):  # fmt: skip
            status, answer = self.retry("links", {"replace": replace})
            self.assertEqual((status, answer["code"]), (400, "invalid_request"))
            self.assertIn(said, answer["detail"])
        self.assertEqual(self.retry("links", {"replaec": {}})[0], 400)
        self.source.asked.clear()
        good: dict[str, Any] = {"2": new[1], old[2]: f" {new[2]}\n"}
        good["4"] = {"url": new[3], "name": "three.wav"}
        status, _ = self.retry("links", {"replace": good})
        self.assertEqual(status, 202)
        shown = self.daemon.wait("links")
        self.assertEqual((shown["done"], shown["failed"]), (4, 1))
        members = self.fetch(shown["download"])
        members.pop("manifest.json")
        self.assertEqual(
            members, {"good.wav": FILE, "1.wav": b"1", "two.wav": b"2", "three.wav": b"3"}
        )
        asked = [path.partition("?")[0] for path in self.source.asked]
        self.assertEqual(sorted(asked), ["/expired/4", "/new/1.wav", "/new/2.wav", "/new/3.wav"])
        # What was replaced stays so; a member that is there is fetched under its new URL.
        self.source.asked.clear()
        self.assertEqual(self.retry("links", {"replace": {"1": new[0]}})[0], 202)
        shown = self.daemon.wait("links")
        self.assertEqual((shown["done"], shown["failed"]), (4, 1))
        members = self.fetch(shown["download"])
        self.assertEqual((members["0.wav"], members["1.wav"]), (b"0", b"1"))
        self.assertNotIn("good.wav", members)
        asked = [path.partition("?")[0] for path in self.source.asked]
        self.assertEqual(sorted(asked), ["/expired/4", "/new/0.wav"])
        line = self.manifest("links")[0]
        self.assertEqual(line["url"], f"{self.source.url}/new/0.wav?sig=***")
        self.assertEqual(line["sha256"], hashlib.sha256(b"0").hexdigest())

    def test_replaced_in_parts(self) -> None:
        """By URL in a batch of which other parts are whole; those cannot be replaced."""
        self.daemon.stop()
        self.daemon.options += ("--part-files=1",)
        self.daemon.start()
        gone, new = f"{self.source.url}/gone", self.serve("/new.wav", b"new")
        body = {"task_id": "p", "download": [self.serve("/whole.wav"), gone]}
        self.post(json.dumps(body).encode())
        self.assertEqual(self.daemon.wait("p")["status"], "partial")
        for key in ("1", f"{self.source.url}/whole.wav"):
            status, answer = self.retry("p", {"replace": {key: new}})
            self.assertEqual((status, answer["code"]), (400, "invalid_request"))
        self.assertEqual(self.retry("p", {"replace": {gone: new}})[0], 202)
        shown = self.daemon.wait("p")
        self.assertEqual(shown["status"], "done")
        found = [self.fetch(part["download"]) for part in shown["parts"]]
        self.assertEqual(found[1]["new.wav"], b"new")
        status, answer = self.retry("p", {"replace": {"1": new}})
        self.assertEqual((status, answer["code"]), (409, "not_retryable"))
