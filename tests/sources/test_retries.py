"""Which answers are tried again, and how a member goes on. Rows of the page's tables."""

from typing import Any

from tests.sources.responses import FILE
from tests.support.downloads import Bucket, DownloadTestCase
from tests.support.origin_server import Exchange, ok, respond
from twisted_bulk.batch.expectations import Expect
from twisted_bulk.downloads import retries as policy
from twisted_bulk.downloads.fetch import TAIL_BYTES, Partial, Tries
from twisted_bulk.errors import MemberError

#: Statuses and headers; whether another try is made; with which `retry_on`.
ANSWERS: list[tuple[str, str, bool, tuple[int, ...]]] = [
    *((f"{status}", "", True, ()) for status in (202, 408, 425, 429, 500, 502, 503, 504)),
    *((f"{status}", "", True, ()) for status in (506, 507, 508, 509, 520, 522, 529, 530, 599)),
    *(
        (f"{status}", "", False, ())
        for status in (400, 401, 403, 404, 405, 409, 410, 451, 501, 505)
    ),
    ("404", "Retry-After: 0", True, ()),
    ("501", "Retry-After: 0", True, ()),
    ("404", "", True, (404,)),
    ("409", "", True, (404, 409)),
    ("403", "", False, (404, 409)),
]


class AnswerRowTests(DownloadTestCase):
    """Whether another try follows."""

    async def test_rows(self) -> None:
        """Each answer, and then the file."""
        for number, (status, header, again, retry_on) in enumerate(ANSWERS):
            path = f"/{number}"
            headers = [header] if header else []
            self.site.answers[path] = [respond(f"{status} X", b"", *headers), ok(FILE)]
            fetch = self.one(path)
            fetch.retry_on = retry_on
            await self.get(fetch)
            self.assertEqual(self.errors[path] is None, again, (status, header, retry_on))
            self.assertEqual(fetch.tries.attempts, 1 + again)


class Cut:
    """Serves a file, but breaks off after some bytes of each answer; knows ranges."""

    def __init__(self, data: bytes, each: int, *headers: str, changes: bool = False) -> None:
        self.data, self.each, self.headers = data, each, headers
        self.changes = changes
        self.begins: list[int] = []

    def __call__(self, exchange: Exchange) -> None:
        sent = exchange.site.headers()
        begin = int(sent.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if self.changes and self.begins:
            self.data = bytes(byte ^ 255 for byte in self.data)
        self.begins.append(begin)
        total = len(self.data)
        lines = ["HTTP/1.1 200 OK"]
        if "range" in sent:
            lines = ["HTTP/1.1 206 P", f"Content-Range: bytes {begin}-{total - 1}/{total}"]
        lines += [f"Content-Length: {total - begin}", *self.headers, "", ""]
        exchange.write("\r\n".join(lines).encode() + self.data[begin : begin + self.each])
        if begin + self.each < total:
            exchange.close()


class ContinueRowTests(DownloadTestCase):
    """How a member goes on after a connection that broke."""

    data = b"".join(b"%07d," % n for n in range(100_000))

    async def check(self, server: Cut, error: str | None, **settings: Any) -> list[int]:
        """Fetch, and return where each request began."""
        self.site.answers["/a"] = server
        await self.get(self.one("/a"), **settings)
        found = self.errors["/a"]
        self.assertEqual(found and found.code, error)
        if not error:
            self.assertEqual((self.sinks[-1].data, self.sinks[-1].finished), (server.data, True))
        return server.begins

    async def test_strong(self) -> None:
        """a strong ETag | where it broke off"""
        begins = await self.check(Cut(self.data, 300_000, 'ETag: "a"'), None)
        self.assertEqual(begins, [0, 300_000, 600_000])

    async def test_weak(self) -> None:
        """a weak ETag, or a Last-Modified of just now | 64 KiB before, if these are alike"""
        now = "Mon, 30 Nov 2026 12:00:00 GMT"
        for headers in (('ETag: W/"a"',), (f"Last-Modified: {now}", f"Date: {now}")):
            begins = await self.check(Cut(self.data, 300_000, *headers), None)
            self.assertEqual(begins[:2], [0, 300_000 - TAIL_BYTES])
            self.assertEqual(len(begins), 4)

    async def test_weak_and_changed(self) -> None:
        """the same, and these are not alike | from its beginning"""
        begins = await self.check(
            Cut(self.data, 500_000, 'ETag: W/"a"', changes=True), "body_short", retries=2
        )
        self.assertEqual(begins, [0, 500_000 - TAIL_BYTES, 0])

    async def test_small(self) -> None:
        """a weak ETag, and less than 64 KiB had come | from its beginning"""
        begins = await self.check(Cut(self.data, 50_000, 'ETag: W/"a"'), "body_short", retries=1)
        self.assertEqual(begins, [0, 0])

    async def test_none(self) -> None:
        """neither, or `Accept-Ranges: none` | from its beginning"""
        for headers in (
            (),
            ('ETag: "a"', "Accept-Ranges: none"),
            ('ETag: W/"a"', "Accept-Ranges: none"),
        ):
            begins = await self.check(Cut(self.data, 300_000, *headers), "body_short", retries=1)
            self.assertEqual(begins, [0, 0])

    async def test_progress(self) -> None:
        """each try gets further by 64 KiB | as many as it takes: the count begins anew"""
        begins = await self.check(Cut(self.data, 70_000, 'ETag: "a"'), None, retries=1)
        self.assertEqual(len(begins), 12)

    async def test_little_progress(self) -> None:
        """all tries together get further by less | `--retries`"""
        begins = await self.check(Cut(self.data, 20_000, 'ETag: "a"'), "body_short", retries=2)
        self.assertEqual(len(begins), 3)

    async def test_overlap_is_whole(self) -> None:
        """Bytes that were to be compared, and do not come, are as good as other bytes."""
        data = self.data[:100_000]
        head = b'HTTP/1.1 %b\r\nTransfer-Encoding: chunked\r\nETag: W/"a"\r\n%b\r\n'
        begin = len(data) - TAIL_BYTES

        def broken(exchange: Exchange) -> None:
            exchange.write(head % (b"200 OK", b"") + b"%x\r\n%b\r\n" % (len(data), data))
            exchange.close()

        part = b"Content-Range: bytes %d-%d/%d\r\n" % (begin, len(data) - 1, len(data))
        short = head % (b"206 P", part) + b"a\r\n%b\r\n0\r\n\r\n" % data[begin : begin + 10]
        self.site.answers["/a"] = [broken, short, ok(b"anew")]
        await self.get(self.one("/a"))
        self.assertEqual((self.errors["/a"], self.sinks[-1].data), (None, b"anew"))

    def test_tail(self) -> None:
        """No more is kept than is needed, in whatever pieces it comes."""
        for size in (1, 1000, TAIL_BYTES, 3 * TAIL_BYTES):
            partial = Partial(Bucket(), mark="m")
            for at in range(0, 200_000, size):
                partial.keep(self.data[at : at + size])
            self.assertEqual(partial.tail, self.data[: at + size][-TAIL_BYTES:])
            self.assertLess(sum(map(len, partial.pieces)), TAIL_BYTES + min(size, TAIL_BYTES))

    async def test_count(self) -> None:
        """Pure: what a try that got further does to the count."""
        tries = policy.advance(Tries(attempts=3), 100_000)
        self.assertEqual((tries.reached, tries.excused), (100_000, 2))
        failed = MemberError("body_short", "")
        self.assertIsNotNone(policy.pause_before_next(tries, failed, 1))
        self.assertEqual(policy.advance(tries, 100_000 + policy.MIN_ADVANCE - 1), tries)


class ExpectRowTests(DownloadTestCase):
    """What a batch or a member expects."""

    async def code(self, expect: Expect, *headers: str, body: bytes = FILE) -> str | None:
        """How a file ends of which something is expected."""
        self.site.answers["/a"] = ok(body, *headers)
        fetch = self.one("/a")
        fetch.expect = expect
        await self.get(fetch)
        error = self.errors["/a"]
        return None if error is None else error.code

    async def test_types(self) -> None:
        """`"type": ["audio/*"]` and another type, or none | `unexpected_type`, without the body"""
        audio = Expect(type=("audio/*", "application/ogg"))
        for given, code in (
            ("audio/wav", None), ("Audio/X-Wav; rate=8000", None), ("application/ogg", None),
            ("text/html; charset=utf-8", "unexpected_type"), ("audiobook/x", "unexpected_type"),
            ("", "unexpected_type"),
        ):  # fmt: skip
            self.assertEqual(await self.code(audio, f"Content-Type: {given}"), code, given)
        self.assertIsNone(await self.code(Expect(type=("*/*",)), "Content-Type: a/b"))
        self.assertEqual(len(self.sinks), 4)

    async def test_sizes(self) -> None:
        """`"min_bytes"`, `"max_bytes"` | `too_small`, `too_large`, without the body if a length is
        told
        """
        size = len(FILE)
        self.assertIsNone(await self.code(Expect(min_bytes=size, max_bytes=size)))
        self.assertEqual(await self.code(Expect(min_bytes=size + 1)), "too_small")
        self.assertEqual(await self.code(Expect(max_bytes=size - 1)), "too_large")
        self.assertEqual(await self.code(Expect(min_bytes=1), body=b""), "too_small")
        self.assertEqual(len(self.sinks), 1)

    async def test_sizes_at_the_end(self) -> None:
        """the same, of a file whose length is not known | at its end"""
        chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
        for expect, code in (
            (Expect(min_bytes=6), "too_small"), (Expect(max_bytes=4), "too_large"),
            (Expect(min_bytes=5, max_bytes=5), None),
        ):  # fmt: skip
            self.site.answers["/a"] = chunks
            fetch = self.one("/a")
            fetch.expect = expect
            await self.get(fetch)
            error = self.errors["/a"]
            self.assertEqual(error and error.code, code)
