"""Odd responses: each row of the tables is a test."""

import gzip
from typing import Any

from tests.sources.responses import TABLES, Closing, coded, head
from tests.sources.rows import Row, name_of
from tests.support.downloads import Bucket, DownloadTestCase
from twisted_bulk.http_client import codings
from twisted_bulk.http_client.codings import PIECE_BYTES


class OddResponseTests(DownloadTestCase):
    """What is taken, and what is not."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(codings, "FREE_BYTES", 1 << 20)  # so that a bomb is known sooner

    async def check(self, row: Row) -> None:
        """Fetch the row's file."""
        self.site.answers[row.path] = row.said
        fetch = self.one(row.path)
        await self.get(fetch, retries=0, header_timeout=2.0, idle_timeout=2.0)
        error = self.errors[row.path]
        if row.code:
            assert error is not None
            self.assertEqual(error.code, row.code, error.detail)
            self.assertIn(row.detail, error.detail)
            self.assertFalse(any(sink.finished for sink in self.sinks))
            return
        self.assertIsNone(error, error and error.detail)
        self.assertEqual((self.sinks[-1].data, self.sinks[-1].finished), (row.body, True))
        self.assertEqual(fetch.reception.verified, row.verified)
        for field, value in row.told:
            self.assertEqual(getattr(fetch.reception.content, field), value)


class BusySinkTests(DownloadTestCase):
    """A sink that is slower than the decoder."""

    async def test_waits(self) -> None:
        """Few bytes that become many wait for it, and the end of the connection does not matter."""
        data = b"".join(b"%09d" % n for n in range(400_000))
        packed = gzip.compress(data, 1)
        self.site.answers |= {
            "/length": coded("gzip", packed),
            "/closed": Closing(head("Content-Encoding: gzip") + packed),
            "/short": Closing(head("Content-Encoding: gzip") + packed[:-4]),
        }
        for path, code in (("/length", None), ("/closed", None), ("/short", "body_short")):
            self.sinks.clear()
            fetch = self.one(path, busy=True)
            await self.get(fetch, retries=0)
            error = self.errors[path]
            self.assertEqual(error.code if error else None, code)
            self.assertEqual(self.sinks[0].data == data, True)
            self.assertLess(self.sinks[0].most_at_once, 2 * PIECE_BYTES)


class CostlyResponseTests(DownloadTestCase):
    """Responses that would take more than they are worth."""

    async def test_waste(self) -> None:
        """What comes behind the end of an encoded body counts for its limit."""
        packed = gzip.compress(b"abc") + bytes(1 << 20)
        self.site.answers["/a"] = Closing(head("Content-Encoding: gzip") + packed)
        self.assertEqual(await self.fails("/a", retries=0, member_bytes=100), ("too_large", 1))

    async def test_small_chunks(self) -> None:
        """Chunks that come together are written together."""
        body = b"1\nz\n" * 50_000 + b"0\n\n"
        self.site.answers["/a"] = head("Transfer-Encoding: chunked", 'ETag: W/"a"') + body
        writes: list[int] = []
        write = Bucket.write

        def counted(bucket: Bucket, data: bytes) -> Any:
            writes.append(len(data))
            return write(bucket, data)

        self.patch(Bucket, "write", counted)
        await self.get(self.one("/a"))
        self.assertEqual((sum(writes), len(writes) < 100), (50_000, True))

    async def test_long_headers(self) -> None:
        """What is kept of the headers for each member is bounded."""
        coding = "br, " * 10_000
        self.site.answers["/a"] = coded(coding, b"x", "Content-Type: " + "a" * 30_000)
        fetch = self.one("/a")
        await self.get(fetch)
        content = fetch.reception.content
        self.assertLess(len(content.type) + len(content.encoding), 500)


def _test(row: Row) -> object:
    async def test(self: OddResponseTests) -> None:
        await self.check(row)

    test.__doc__ = row.what
    return test


for _table, _rows in TABLES.items():
    for _row in _rows:
        _name = f"test_{name_of(_table)}__{name_of(_row.what)}"
        assert not hasattr(OddResponseTests, _name), _name
        setattr(OddResponseTests, _name, _test(_row))
