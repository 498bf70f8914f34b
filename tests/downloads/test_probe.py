"""Sizes asked for, without fetching."""

from twisted.internet.task import deferLater

from tests.support.downloads import DownloadTestCase
from tests.support.origin_server import Exchange, ok, respond
from tests.support.reactor import reactor
from twisted_bulk.batch.model import Member
from twisted_bulk.downloads.probe import Prober
from twisted_bulk.errors import MemberError


class ProbeTests(DownloadTestCase):
    """A source that is asked."""

    async def size(self, path: str, timeout: float = 5.0, **member: object) -> int | None:
        """The size that it tells."""
        if not hasattr(self, "agent"):
            self.start()
        prober = Prober(self.agent, reactor, timeout, 3)
        url = path if "://" in path else self.site.url + path
        found = await prober.size(Member(url, **member), {"X-Batch": "b"})  # type: ignore[arg-type]
        await deferLater(reactor, 0)
        return found

    async def failed(self, path: str, timeout: float = 5.0) -> str:
        """The code with which it fails."""
        try:
            await self.size(path, timeout)
        except MemberError as error:
            return error.code
        self.fail(path)

    async def test_head(self) -> None:
        """HEAD is enough where it tells the length; redirects are followed, headers sent."""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 123456\r\n\r\n"
        self.site.answers["/a"] = head
        self.site.answers["/to"] = respond("302 Found", b"", "Location: /a")
        self.assertEqual(await self.size("/a", headers={"X-Member": "m"}), 123456)
        self.assertEqual(await self.size("/to"), 123456)
        self.assertEqual([path for path, _, _ in self.site.requests], ["/a", "/to", "/a"])
        sent = " ".join(self.site.requests[0][1])
        self.assertIn("X-Batch: b", sent)
        self.assertIn("X-Member: m", sent)

    async def test_one_byte(self) -> None:
        """A server that refuses HEAD, or has no length for it, is asked for one byte."""
        one = respond("206 Partial Content", b"x", "Content-Range: bytes 0-0/777")
        for path, first, then, size in (
            ("/405", b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n", one, 777),
            ("/403", b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", one, 777),
            ("/none", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", one, 777),
            ("/whole", b"HTTP/1.1 501 No\r\nContent-Length: 0\r\n\r\n", ok(b"12345"), 5),
            ("/empty", b"HTTP/1.1 501 No\r\nContent-Length: 0\r\n\r\n",
             respond("416 No", b"", "Content-Range: bytes */0"), 0),
        ):  # fmt: skip
            self.site.answers[path] = [first, then]
            self.assertEqual(await self.size(path), size, path)
            last = self.site.requests[-1]
            self.assertIn("Range: bytes=0-0", " ".join(last[1]))

    async def test_failures(self) -> None:
        """What cannot be fetched says why, as the download would."""
        self.site.answers["/slow"] = lambda exchange: None
        self.site.answers["/round"] = respond("302 Found", b"", "Location: /round")
        for path, code in (
            ("/404", "http_error"),
            ("http://10.0.0.1/x", "address_refused"),
            ("ftp://h/x", "bad_url"),
            ("/round", "too_many_redirects"),
        ):
            self.assertEqual(await self.failed(path), code, path)
        self.assertEqual(await self.failed("/slow", 0.05), "header_timeout")

    async def test_kept_connection(self) -> None:
        """A kept connection that its server closes says nothing about the file."""
        seen: list[Exchange] = []

        def close_second(exchange: Exchange) -> None:
            if exchange in seen:
                exchange.close()
            else:
                seen.append(exchange)
                exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")

        self.site.answers["/kept"] = close_second
        for _ in range(3):
            self.assertEqual(await self.size("/kept"), 5)
        self.assertEqual(len(seen), 3)

    async def test_large(self) -> None:
        """A server that sends the whole file for one byte: it is not read."""
        self.site.answers["/big"] = [
            b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9000000000\r\n\r\n" + b"x" * 1000,
        ]
        self.assertEqual(await self.size("/big"), 9_000_000_000)
