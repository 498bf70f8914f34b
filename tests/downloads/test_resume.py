"""Broken attempts that are continued."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse
from zope.interface import implementer

from tests.support.downloads import DownloadTestCase
from tests.support.origin_server import Exchange, ok, respond
from twisted_bulk.downloads import attempt_runner
from twisted_bulk.downloads.attempt import Fetcher
from twisted_bulk.downloads.body import BodyLimits
from twisted_bulk.downloads.part_fetches import PartFetches
from twisted_bulk.downloads.queue_state import Speed
from twisted_bulk.errors import MemberError


class ResumeTests(DownloadTestCase):
    """What a broken attempt has brought is not fetched again, and not mixed with other versions."""

    body = bytes(range(256)) * 40

    def file(self, tag: str, *headers: str, cut: int = 4000, body: bytes = b"") -> Any:
        """A server of a file: broken off after ``cut`` bytes, then by ranges."""
        body = body or self.body

        def answer(exchange: Exchange) -> None:
            asked = self.site.headers().get("range", "")
            lines = [*headers, *([f"ETag: {tag}"] if tag else [])]
            if not asked:
                exchange.write(ok(body, *lines)[: cut - len(body)])
                exchange.close()
                return
            begin = int(asked[6:-1])
            where = f"Content-Range: bytes {begin}-{len(body) - 1}/{len(body)}"
            exchange.write(respond("206 Partial Content", body[begin:], where, *lines))

        return answer

    async def whole(self, *answers: Any) -> list[str]:
        """The ranges that were asked for until the body was there."""
        self.sinks.clear()
        self.site.answers["/a"] = list(answers) if len(answers) > 1 else answers[0]
        fetch = self.one("/a")
        await self.get(fetch)
        self.assertEqual(self.errors, {"/a": None})
        self.assertEqual(self.sinks[-1].data, self.body)
        self.assertTrue(all(sink.discarded for sink in self.sinks[:-1]))
        self.assertEqual(
            (fetch.reception.received, fetch.reception.content.length),
            (len(self.body), len(self.body)),
        )
        return [self.site.headers(n).get("range", "") for n in range(len(self.site.requests))]

    async def test_continues(self) -> None:
        """With a strong ETag, named in If-Range."""
        self.assertEqual(await self.whole(self.file('"v1"')), ["", "bytes=4000-"])
        self.assertEqual(self.site.headers()["if-range"], '"v1"')
        self.assertEqual(len(self.sinks), 1)

    async def test_continues_by_date(self) -> None:
        """With a date, if it is well before the answer's."""
        when = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"
        now = "Date: Sun, 06 Nov 1994 08:59:37 GMT"
        self.assertEqual(await self.whole(self.file("", when, now)), ["", "bytes=4000-"])

    async def test_starts_afresh(self) -> None:
        """Without a validator that tells versions apart, or where the server cannot."""
        when = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"
        good = ok(self.body)
        for first in (
            self.file('W/"weak"'),
            self.file(""),
            self.file("", when, when.replace("Last-Modified", "Date")),
            self.file('"v1"', "Accept-Ranges: none"),
        ):
            self.site.requests.clear()
            self.assertEqual(await self.whole(first, good), ["", ""])

    async def test_ignored_range(self) -> None:
        """A 200 to a range: all of it, from the start."""
        good = ok(self.body, 'ETag: "v2"')
        self.assertEqual(await self.whole(self.file('"v1"'), good), ["", "bytes=4000-"])

    async def test_gone_range(self) -> None:
        """A 416: at once again, without a range."""
        no = respond("416 No", b"", "Content-Range: bytes */9")
        ranges = await self.whole(self.file('"v1"'), no, ok(self.body))
        self.assertEqual(ranges, ["", "bytes=4000-", ""])

    async def test_never_mixed(self) -> None:
        """Another version, other bytes, another length: nothing of it is used."""
        other = bytes(len(self.body))
        part = other[4000:]
        length = len(self.body)
        wrong = [
            (f"bytes 4000-{length - 1}/{length}", 'ETag: "v2"'),
            (f"bytes 4000-{length - 1}/{length}", 'ETag: W/"v1"'),
            (f"bytes 4000-{length - 1}/{length}", "X-None: 1"),
            (f"bytes 3999-{length - 2}/{length}", 'ETag: "v1"'),
            (f"bytes 4000-{length - 1}/{length + 1}", 'ETag: "v1"'),
            (f"bytes 4000-{length}/{length + 1}", 'ETag: "v1"'),
            (f"bytes 4000-{length - 1}/*", 'ETag: "v1"'),
            ("bytes nonsense", 'ETag: "v1"'),
        ]
        for where, tag in wrong:
            self.site.requests.clear()
            lie = respond("206 P", part, f"Content-Range: {where}", tag)
            ranges = await self.whole(self.file('"v1"'), lie, ok(self.body))
            self.assertEqual(ranges, ["", "bytes=4000-", ""], where)

    async def test_last_try_is_of_another(self) -> None:
        """Where no try is left to begin afresh, it is said what was wrong."""
        lie = respond("206 P", bytes(6240), "Content-Range: bytes 4000-10239/10240", 'ETag: "v2"')
        self.site.answers["/a"] = [self.file('"v1"'), lie]
        self.assertEqual(await self.fails("/a", retries=1), ("bad_range", 2))

    async def test_range_that_ends_early(self) -> None:
        """The rest was announced, and a part of it came with a length of its own: not whole."""
        length = len(self.body)
        for part in (self.body[4000:4050], self.body[4000:] + b"more"):
            self.site.requests.clear()
            where = f"Content-Range: bytes 4000-{length - 1}/{length}"
            early = respond("206 P", part, where, 'ETag: "v1"')
            answers = [self.file('"v1"'), early, ok(self.body)]
            if len(part) < 100:
                self.assertEqual(await self.whole(*answers), ["", "bytes=4000-", ""])
                continue
            self.sinks.clear()
            self.site.answers["/b"] = answers
            self.assertEqual((await self.fails("/b"))[0], "body_long")
            # There may be room for as much as was announced, and no more.
            self.assertLessEqual(max(len(sink.data) for sink in self.sinks), length)

    async def test_partials_are_bounded(self) -> None:
        """Of what waits for its next try only so much is kept: each may hold a file."""
        self.patch(attempt_runner, "MAX_PARTIALS", 2)
        for name in "abcd":
            self.site.answers[f"/{name}"] = [self.file('"v1"'), ok(self.body)]
        downloader = self.start()
        downloader._queue.note(self.site.url[7:], Speed.FAST)
        await downloader.fetch(PartFetches(left=4), [self.one(f"/{name}") for name in "abcd"])
        self.assertEqual(set(self.errors.values()), {None})
        asked = [self.site.headers(n).get("range") for n in range(len(self.site.requests))]
        self.assertEqual(sorted(filter(None, asked)), ["bytes=4000-"] * 2)
        self.assertEqual(sum(sink.discarded for sink in self.sinks), 4)

    @given(st.data())
    def test_random_servers(self, data: st.DataObject) -> None:
        """Whatever a server does between attempts, what is kept is one version of the file."""
        versions = [b"a" * 50, b"b" * 50, b"c" * 60]
        fetch = self.one("/x")
        clock = Clock()

        class Agent:
            """Answers as Hypothesis says."""

            def request(self, method: bytes, uri: bytes, headers: Any, body: Any = None) -> Any:
                asked = headers.getRawHeaders(b"range", [b""])[0]
                return succeed(answer(asked))

        def answer(asked: bytes) -> Any:
            version = data.draw(st.sampled_from(versions))
            tag = data.draw(st.sampled_from([b'"t"', b'"%c"' % version[0], b'W/"w"', None]))
            begin = int(asked[6:-1]) if asked and data.draw(st.booleans()) else 0
            # An honest server changes the tag with the content.
            if tag == b'"t"':
                version = versions[0]
            rest = version[begin:] or b""
            headers = Headers({b"ETag": [tag]} if tag else {})
            shift = data.draw(st.sampled_from([0, 0, 0, 1]))
            if begin:
                where = b"bytes %d-%d/%d" % (begin + shift, len(version) - 1, len(version))
                headers.setRawHeaders(b"Content-Range", [where])
            upto = data.draw(st.integers(0, len(rest)))
            return Scripted(206 if begin else 200, headers, rest, upto)

        fetcher = Fetcher(Agent(), clock, 9.0, BodyLimits())  # type: ignore[arg-type]
        for _ in range(6):
            trying = Deferred.fromCoroutine(fetcher.attempt(fetch))
            result: list[Any] = []
            trying.addBoth(result.append)
            if result == [None]:
                self.assertIn(self.sinks[-1].data, versions)
                return
            self.assertIsInstance(result[0].value, MemberError)
            for sink in self.sinks:
                kept = sink.data
                self.assertTrue(sink.discarded or any(v.startswith(kept) for v in versions))


@implementer(IResponse)
class Scripted:
    """A response that ends where it was told to."""

    version = (b"HTTP", 1, 1)
    phrase = b""
    previousResponse = None

    def __init__(self, code: int, headers: Headers, body: bytes, upto: int) -> None:
        self.code, self.headers, self.length = code, headers, len(body)
        self._body, self._upto = body, upto
        self.request: Any = None

    def setPreviousResponse(self, response: IResponse) -> None:
        """There is none."""

    def deliverBody(self, protocol: Any) -> None:
        """All at once."""
        protocol.makeConnection(StringTransport())
        protocol.dataReceived(self._body[: self._upto])
        if self._upto == self.length:
            protocol.connectionLost(Failure(ResponseDone()))
        else:
            protocol.connectionLost(Failure(ResponseFailed([Failure(ConnectionLost())])))
