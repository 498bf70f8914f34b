"""Bodies of requests to the API: over the limit, and of nobody."""

import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web import http

from tests.support.api import MAX_BODY, ApiTestCase
from tests.support.reactor import reactor
from tests.support.redis_servers import need
from twisted_bulk.http_server import deadline


class LargeBodyTests(ApiTestCase):
    """Bodies over the limit."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.patch(deadline, "LINGER_SECONDS", 0.3)
        # The connections that were refused end after that time.
        self.addCleanup(deferLater, reactor, 0.4)
        await super().setUp()

    async def curl(self, *words: str) -> str:
        where = f"http://127.0.0.1:{self.port}/"
        command = [need("curl"), "-s", "-w", "%{http_code}", *words, where]
        done = await deferToThread(subprocess.run, command, capture_output=True, text=True)
        return str(done.stdout)

    async def test_announced_and_not(self) -> None:
        """413 for a length that is too large, with or without asking first, and in chunks."""
        path = Path(tempfile.mkdtemp(prefix="bw"), "body")
        path.write_bytes(b" " * (MAX_BODY + 1))
        send = ["-H", "Content-Type: application/json", "--data-binary", f"@{path}"]
        for more in ([], ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"]):
            printed = await self.curl(*send, *more)
            self.assertIn("body_too_large", printed, more)
            self.assertTrue(printed.endswith("413"), more)

    async def test_forms(self) -> None:
        """A body that is called a form is not taken apart: that would cost much memory and time."""
        seen: list[bytes] = []
        parse = http.parse_qs

        def noting(text: bytes, keep: bool = False) -> Any:
            seen.append(text)
            return parse(text, keep)

        self.patch(http, "parse_qs", noting)
        printed = await self.curl("-d", '{"download": ["http://h.example/a&b=c"]}')
        self.assertTrue(printed.endswith("202"), printed)
        self.assertNotIn(b"download", b"".join(seen))
        self.assertTrue((await self.curl("-F", "a=b")).endswith("400"))

    async def test_read_no_further(self) -> None:
        """An endless body is not read: the client cannot get rid of it."""

        def flood() -> int:
            with socket.create_connection(("127.0.0.1", self.port), 10) as sock:
                sock.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
                sent, piece = 0, b"10000\r\n" + b" " * 65536 + b"\r\n"
                try:
                    while sent < 10 * MAX_BODY:
                        sock.sendall(piece)
                        sent += len(piece)
                except OSError:
                    pass
                return sent

        self.assertLess(await deferToThread(flood), MAX_BODY + (20 << 20))
