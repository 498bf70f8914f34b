"""The log's lines, whatever is in the events."""

import io
import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import Logger, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.system.logs import (
    LogFile,
    Observer,
    as_line,
    as_object,
    as_text,
    clean,
    make_observer,
)

WILD = st.text(st.characters()) | st.sampled_from(
    ["a\r\nb", "\x1b[31mred", '{"x": 1}', "\u2028\u2029", "\x00", "{", "\ud800", "\x9b2J"]
)


def events(namespace: str = "x", **fields: Any) -> list[dict[str, Any]]:
    """What a logger makes of a call."""
    seen: list[dict[str, Any]] = []
    observer: Any = seen.append
    Logger(namespace=namespace, observer=observer).info("{a} of {url}", **fields)
    return seen


class Refusing:
    """An endpoint that nobody listens at."""

    asked = 0

    def connect(self, factory: Factory) -> Deferred[None]:
        self.asked += 1
        return fail(ConnectionRefusedError())


class LogLineTests(SynchronousTestCase):
    """One event, one line."""

    @given(st.dictionaries(st.sampled_from(["a", "url", "batch", "path"]), WILD))
    def test_any_text(self, fields: dict[str, str]) -> None:
        """Every line is one object, and moves no cursor."""
        for event in events(**{"a": "", "url": ""} | fields):
            line = as_line(event)
            self.assertIsInstance(json.loads(line), dict)
            self.assertNotRegex(line, r"[\x00-\x1f\x7f-\x9f]")
            self.assertEqual(len(line.splitlines()), 1)
            self.assertNotRegex(as_text(event), r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
            for follows in as_text(event).split("\n")[1:]:
                self.assertTrue(follows.startswith("    "))

    def test_links(self) -> None:
        """Who reads the log does not have the links of the zips."""
        folder = f"a:b-{'0123456789abcdef' * 2}"
        (event,) = events(a=f"/{folder}/b.zip", url=f"http://h/{folder}/b.zip", path=f"/{folder}/x")
        line = as_line(event)
        self.assertNotIn("abcdef", line)
        self.assertIn("a:b-0123.../b.zip", line)

    def test_secrets(self) -> None:
        """URLs go without user info and query, in fields and within texts."""
        for url in (
            "http://me:canary@h.example/a.wav?key=canary#canary",
            "HTTPS://canary@h.example:81/a?canary",
            "see http://h.example/?a=canary, and https://x:canary@h.example",
            "http://a@canary@h.example/x",
            "http://me:can'ary'canary@h.example/x?y='canary",
            "redis://me:canary@h.example/0",
        ):
            for event in events(a="x", url=url):
                for text in (as_line(event), as_text(event)):
                    self.assertNotIn("canary", text)
                    self.assertIn("h.example", text)
        self.assertEqual(clean("http://h/a?b=1 and c?d"), "http://h/a?... and c?d")

    def test_batch_of_a_path(self) -> None:
        """A request for a batch is found by its id, as all else about it."""
        (event,) = events(a="", url="", path="/v1/batches/b7/retry")
        self.assertEqual(as_object(event)["batch"], "b7")
        (event,) = events(a="", url="", path="/v1/batches")
        self.assertNotIn("batch", as_object(event))

    def test_fields(self) -> None:
        """Area, level, batch and part, and what the event has of plain values."""
        (event,) = events(
            "twisted_bulk.consumer.runner",
            a=1,
            url="u",
            job="b.1@9f/2",
            seconds=0.5,
            more=object(),
            yes=True,
        )
        found = json.loads(as_line(event))
        self.assertRegex(found.pop("time"), r"^20\d\d-.*Z$")
        self.assertEqual(
            found,
            {"level": "info", "area": "queue", "message": "1 of u", "a": 1, "url": "u",
             "job": "b.1@9f/2", "seconds": 0.5, "yes": True, "batch": "b.1", "part": 2},
        )  # fmt: skip
        self.assertEqual(as_object(events("elsewhere", a="", url="")[0])["area"], "daemon")
        self.assertEqual(as_object(events("access", a="", url="")[0])["area"], "access")
        self.assertEqual(as_object(events("txredisapi.X.Y", a="", url="")[0])["area"], "redis")

    def test_failure(self) -> None:
        """A traceback is in its event's line, and indented for people."""
        seen: list[dict[str, Any]] = []
        observer: Any = seen.append
        Logger(observer=observer).failure("it broke", Failure(ValueError("http://a:pw@h/")))
        found = json.loads(as_line(seen[0]))
        self.assertEqual((found["level"], found["message"]), ("critical", "it broke"))
        self.assertIn("ValueError: http://h/", found["traceback"])
        self.assertIn("CRITICAL: it broke\n    ", as_text(seen[0]))

    def test_forms(self) -> None:
        """JSON, unless it is for a terminal."""

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        for form, out, first in (
            ("auto", io.StringIO(), "{"), ("auto", Terminal(), "0"), ("json", Terminal(), "{"),
            ("text", io.StringIO(), "0"),
        ):  # fmt: skip
            self.patch(__import__("sys"), "stdout", out)
            make_observer(form, "")(events(a="x", url="y")[0])
            line = out.getvalue()
            self.assertEqual("{" if line[0] == "{" else "0", first, form)
        out = io.StringIO()
        self.patch(__import__("sys"), "stdout", out)
        observer = make_observer("json", "-")
        globalLogPublisher.addObserver(observer)
        refusing: Any = Refusing()
        service = ClientService(refusing, Factory(), clock=Clock())
        service.startService()
        globalLogPublisher.removeObserver(observer)
        service.stopService()
        self.assertEqual((refusing.asked, out.getvalue()), (1, ""))
        path = Path(self.mktemp())
        Observer(LogFile(str(path)), as_line)(events(a="\ud800", url="y")[0])
        self.assertEqual(len(path.read_text().splitlines()), 1)
