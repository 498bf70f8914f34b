"""Tokens: who is let in, and whose a batch is."""

import hashlib
import socket
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.test.requesthelper import DummyRequest

from tests.support.api import BATCH, ApiTestCase
from tests.support.reactor import reactor
from twisted_bulk.api.tokens import Access, Token, parse_tokens
from twisted_bulk.errors import ConfigError, CrossSite, Forbidden, ProtectedMode, Unauthorized
from twisted_bulk.http_server import deadline
from twisted_bulk.jobs.group_model import Group, GroupPart


class AccessTests(SynchronousTestCase):
    """Who is let in."""

    def request(self, address: Any, token: str = "") -> Any:
        request: Any = DummyRequest([b""])
        request.peer = getattr(address, "host", "")
        request.is_forwarded = False
        if token:
            request.requestHeaders.setRawHeaders("Authorization", [token])
        if request.peer:
            request.requestHeaders.setRawHeaders("Host", ["localhost"])
        return request

    def test_protected_mode(self) -> None:
        """Without tokens, only clients of the same machine, for anything."""
        near = [
            *(IPv4Address("TCP", host, 1) for host in ("127.0.0.1", "127.9.9.9")),
            *(IPv6Address("TCP", host, 1) for host in ("::1", "::ffff:127.0.0.1")),
            UNIXAddress("/s"),
        ]
        for address in near:
            self.assertIsNone(Access().check(self.request(address), "admin").owner)
        for far in (IPv4Address("TCP", "192.0.2.1", 1), IPv6Address("TCP", "2001:db8::1", 1)):
            self.assertRaises(ProtectedMode, Access().check, self.request(far), "read")
            Access(open=True).check(self.request(far), "admin")

    def test_forwarded(self) -> None:
        """What came through a proxy does not come from this machine; the answer says what to do."""
        request = self.request(IPv4Address("TCP", "127.0.0.1", 1))
        request.is_forwarded = True
        error = self.assertRaises(ProtectedMode, Access().check, request, "read")
        self.assertIn("--tokens", str(error))
        Access(open=True).check(request, "read")

    def test_other_sites_pages(self) -> None:
        """Nor what a page of another site lets a browser on this machine ask for."""
        near = IPv4Address("TCP", "127.0.0.1", 1)
        for host, origin, meant in (
            ("127.0.0.1:10000", "", True),
            ("LocalHost:10000", "", True),
            (f"{socket.gethostname()}:10000", "", True),
            ("[::1]:10000", "http://[::1]:10000", True),
            ("localhost:10000", "http://localhost:10000", True),
            ("localhost:10000", "http://localhost:8080", False),
            ("localhost:10000", "https://evil.example", False),
            ("localhost:10000", "null", False),
            ("evil.example:10000", "", False),
            ("evil.example", "http://evil.example", False),
            ("192.0.2.1", "", False),
            ("[1]", "", False),
            ("", "", False),
            ("", "null", False),
        ):
            request = self.request(near)
            request.requestHeaders.setRawHeaders("Host", [host])
            if origin:
                request.requestHeaders.setRawHeaders("Origin", [origin])
            if meant:
                Access().check(request, "admin")
            else:
                self.assertRaises(ProtectedMode, Access().check, request, "admin")

    def test_writes_of_pages(self) -> None:
        """Of a browser only our own page may change something."""
        token = Token(hashlib.sha256(b"one").digest(), "one")
        free = Access(open=True, hosts=["Bulk.Office.example"])
        for host, origin, site, meant in (
            ("192.0.2.7:10000", None, None, True),  # a program
            ("192.0.2.7:10000", "http://192.0.2.7:10000", None, True),
            ("192.0.2.7:10000", "http://192.0.2.7:10000", "same-origin", True),
            ("bulk.office.example", "http://bulk.office.example", None, True),
            ("192.0.2.7:10000", "http://192.0.2.7", None, False),
            ("192.0.2.7:10000", "http://192.0.2.7:10000", "cross-site", False),
            ("192.0.2.7:10000", "http://192.0.2.7:10000", "same-site", False),
            ("192.0.2.7:10000", "null", None, False),
            ("192.0.2.7:10000", "", None, False),
            ("192.0.2.7:10000", "http://evil.example", None, False),
        ):
            for method in (b"POST", b"DELETE", b"PATCH", b"GET"):
                for access in (free, Access([token])):
                    request = self.request(IPv4Address("TCP", "192.0.2.1", 1), "Bearer one")
                    request.method = method
                    given = {"Host": host, "Origin": origin, "Sec-Fetch-Site": site}
                    for name, value in given.items():
                        if value is not None:
                            request.requestHeaders.setRawHeaders(name, [value])
                    if meant or method == b"GET":
                        access.check(request, "submit")
                    else:
                        self.assertRaises(CrossSite, access.check, request, "submit")

    def test_page_of_a_bound_name(self) -> None:
        """A name that somebody bound to our address: only a token helps, which that page lacks."""
        token = Token(hashlib.sha256(b"one").digest(), "one")
        request = self.request(IPv4Address("TCP", "192.0.2.1", 1), "Bearer one")
        request.method = b"POST"
        request.requestHeaders.setRawHeaders("Host", ["evil.example"])
        request.requestHeaders.setRawHeaders("Origin", ["http://evil.example"])
        error = self.assertRaises(CrossSite, Access(open=True).check, request, "submit")
        self.assertIn("--allow-host", str(error))
        Access([token]).check(request, "submit")
        # Nor may it read; a program may call the server as it likes.
        request.method = b"GET"
        request.requestHeaders.removeHeader("Origin")
        Access(open=True).check(request, "read")
        request.requestHeaders.setRawHeaders("Accept-Language", ["en"])
        self.assertRaises(CrossSite, Access(open=True).check, request, "read")
        Access(open=True, hosts=["evil.example"]).check(request, "read")

    def test_tokens(self) -> None:
        """With tokens, whoever has one, from wherever, for what it is for, and nobody else."""
        path = self.mktemp()
        one, two = (hashlib.sha256(token).hexdigest() for token in (b"one", b"two"))
        Path(path).write_text(f"# clients\n{one} office submit,read # x\n\n{two.upper()}\n")
        access = Access.load(path, open=False)
        far, near = IPv4Address("TCP", "192.0.2.1", 1), IPv4Address("TCP", "127.0.0.1", 1)
        found = access.check(self.request(far, "Bearer one"), "submit")
        self.assertEqual((found.name, found.owner), ("office", "office"))
        self.assertRaises(Forbidden, access.check, self.request(near, "Bearer one"), "admin")
        for scope in ("submit", "read", "admin"):
            self.assertIsNone(access.check(self.request(far, "bearer two"), scope).owner)
        strange = hashlib.sha256("tökén".encode()).hexdigest()
        known = Access([Token(bytes.fromhex(strange), "s", frozenset(("read",)))])
        self.assertEqual(known.check(self.request(far, "Bearer tökén"), "read").name, "s")
        for token in ("", "Bearer three", "Basic one", "Bearer", "one", "Bearer " + one):
            self.assertRaises(Unauthorized, access.check, self.request(near, token), "read")

    def test_read_again(self) -> None:
        """A file that has changed counts at once; one with a mistake changes nothing."""
        path = Path(self.mktemp())
        lines = [f"{hashlib.sha256(token).hexdigest()} {token.decode()} read"
                 for token in (b"one", b"two")]  # fmt: skip
        path.write_text(lines[0])
        access = Access.load(str(path), open=False)
        near = IPv4Address("TCP", "127.0.0.1", 1)

        def known() -> list[bool]:
            asked = [self.request(near, f"Bearer {token}") for token in ("one", "two")]
            found = []
            for request in asked:
                try:
                    found.append(bool(access.check(request, "read")))
                except Unauthorized:
                    found.append(False)
            return found

        for text, expected in (
            (lines[0], [True, False]),
            ("\n".join(lines), [True, True]),
            ("nonsense", [True, True]),
            (lines[1], [False, True]),
            ("", [False, True]),  # as one that is being written is for a moment
            (lines[0], [True, False]),
        ):
            path.unlink()
            path.write_text(text)
            self.assertEqual(known(), expected, text)
        path.unlink()
        self.assertEqual(known(), [True, False])

    def test_bad_file(self) -> None:
        """A token itself in the file is a mistake, named by its line."""
        path, good = self.mktemp(), "a" * 64
        for text in (
            "\nsecret-token\n",
            f"\n{good} name read more\n",
            f"\n{good} na/me read\n",
            f"\n{good} name reed\n",
            f"{good} name read\n{good.upper()} other read\n",
        ):
            Path(path).write_text(text)
            error = self.assertRaises(ConfigError, Access.load, path, False)
            self.assertRegex(str(error), "tokens: .*line 2", text)
            self.assertNotIn("secret-token", str(error))


class OwnerTests(ApiTestCase):
    """Several tokens and their batches."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        path = self.mktemp()
        Path(path).write_text(
            "".join(
                f"{hashlib.sha256(name.encode()).hexdigest()} {name} {scopes}\n"
                for name, scopes in (
                    ("one", "submit,read"), ("two", "submit,read"), ("viewer", "read"),
                    ("root", "admin"),
                )
            )
        )  # fmt: skip
        self.access = Access.load(path, False)
        self.serve(self.redis, access=self.access)

    async def test_large_body(self) -> None:
        """One that is nobody's is not let in; the headers are enough to say so."""

        def post(token: str, framing: str) -> str:
            with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
                head = f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n{framing}"
                connection.sendall(f"{head}\r\n\r\n".encode())
                connection.settimeout(0.5)
                try:
                    return connection.recv(1000).decode()
                except TimeoutError:
                    return ""

        for framing in ("Content-Length: 1000000", "Transfer-Encoding: chunked"):
            answer = await deferToThread(post, "nobody", framing)
            self.assertIn("HTTP/1.1 401 ", answer)
            self.assertIn('WWW-Authenticate: Bearer realm="bulkwav"', answer)
            self.assertIn("HTTP/1.1 403 ", await deferToThread(post, "viewer", framing))
            self.assertEqual(await deferToThread(post, "one", framing), "")
        await deferLater(reactor, deadline.LINGER_SECONDS + 0.1)

    async def test_invited_body(self) -> None:
        """Who waits for leave to send a small body is told at once that there is none."""

        def post(token: str) -> str:
            with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
                head = f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n"
                more = "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n"
                connection.sendall(f"{head}{more}".encode())
                return connection.recv(1000).decode().partition("\r\n")[0]

        for token, said in (("nobody", "401"), ("viewer", "403"), ("one", "100")):
            self.assertIn(f"HTTP/1.1 {said} ", await deferToThread(post, token))
        self.api.stop()
        self.assertIn("HTTP/1.1 503 ", await deferToThread(post, "one"))
        await deferLater(reactor, deadline.LINGER_SECONDS + 0.1)

    async def test_guesses(self) -> None:
        """Who guesses too often is not told that a guess was right."""
        self.serve(self.redis, 5, self.access)
        told = [(await self.ask(f"guess{n}", "GET", "/v1/batches"))[0] for n in range(8)]
        self.assertEqual(told, [401] * 5 + [429] * 3)
        self.assertEqual((await self.ask("one", "GET", "/v1/batches"))[0], 429)

    async def ask(self, token: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        status, answer, _ = await self.call(method, path, body, **headers)
        return status, answer

    async def test_owners(self) -> None:
        """Each sees its own, and an admin all; another's id is taken, and says nothing more."""
        for number, owner in enumerate(("one", "two", "one", "root")):
            status, _ = await self.ask(owner, "POST", "/", BATCH | {"task_id": f"b{number}"})
            self.assertEqual(status, 202)
        seen = {}
        for token in ("one", "two", "viewer", "root"):
            _, page = await self.ask(token, "GET", "/v1/batches")
            seen[token] = sorted(batch["task_id"] for batch in page["batches"])
        self.assertEqual(
            seen,
            {"one": ["b0", "b2"], "two": ["b1"], "viewer": [], "root": ["b0", "b1", "b2", "b3"]},
        )
        status, page = await self.ask("two", "GET", "/v1/batches?limit=1")
        self.assertEqual([batch["task_id"] for batch in page["batches"]], ["b1"])
        for method, what, body in (
            ("GET", "", None), ("GET", "/manifest", None), ("DELETE", "", None),
            ("POST", "/retry", None), ("POST", "/notify", None), ("PATCH", "", {"priority": 1}),
        ):  # fmt: skip
            status, said = await self.ask("two", method, f"/v1/batches/b0{what}", body)
            self.assertEqual((status, said["code"]), (404, "no_such_batch"), (method, what))
        self.assertEqual((await self.ask("one", "POST", "/", BATCH | {"task_id": "b0"}))[0], 200)
        self.assertEqual((await self.ask("root", "DELETE", "/v1/batches/b0"))[0], 404)
        self.assertEqual((await self.ask("root", "DELETE", "/v1/batches/one:b0"))[0], 200)

    async def test_one_id_of_two(self) -> None:
        """An id is its token's: another's with the same one is another batch."""
        body = BATCH | {"task_id": "invoice-7", "url": "http://h.example/n"}
        for token in ("one", "two", "root"):
            status, said = await self.ask(token, "POST", "/", body)
            self.assertEqual((status, said["task_id"]), (202, "invoice-7"), token)
            self.assertEqual((await self.ask(token, "POST", "/", body))[0], 200)
        status, shown = await self.ask("one", "GET", "/v1/batches/invoice-7")
        self.assertEqual((status, shown["task_id"], shown["owner"]), (200, "invoice-7", "one"))
        await self.ask("one", "DELETE", "/v1/batches/invoice-7")
        states = {}
        for token, asked in (("one", "invoice-7"), ("two", "invoice-7"), ("root", "invoice-7"),
                             ("root", "one:invoice-7"), ("root", "two:invoice-7"),
                             ("two", "two:invoice-7")):  # fmt: skip
            _, shown = await self.ask(token, "GET", f"/v1/batches/{asked}")
            states[token, asked] = shown["owner"], shown["status"]
        self.assertEqual(set(states.values()),
                         {("one", "cancelled"), ("two", "queued"), ("root", "queued")})  # fmt: skip
        self.assertEqual(states["root", "one:invoice-7"], ("one", "cancelled"))
        self.assertEqual((await self.ask("two", "GET", "/v1/batches/one:invoice-7"))[0], 404)
        secrets = [(await self.ask(t, "GET", "/v1/secret"))[1]["secrets"] for t in ("one", "two")]
        self.assertNotEqual(*secrets)
        self.assertEqual((await self.ask("viewer", "GET", "/v1/secret"))[0], 403)

    async def test_from_before(self) -> None:
        """A batch that was taken in when ids were everybody's is found by its owner still."""
        spec = b'{"owner": "one"}'
        parts = [GroupPart(size=1, payload=b"{}", data=b"x")]
        await self.queue.submit(
            Group(id="old", digest="", spec=spec, need=1, parts=parts, owner="one")
        )
        for token, asked, status in (
            ("one", "old", 200), ("two", "old", 404), ("root", "old", 200), ("one", "one:old", 200),
            ("root", "one:old", 200), ("root", "two:old", 404), ("root", ":old", 404),
        ):  # fmt: skip
            found = await self.ask(token, "GET", f"/v1/batches/{asked}")
            self.assertEqual(found[0], status, (token, asked))
        body = BATCH | {"task_id": "old"}
        self.assertEqual((await self.ask("one", "POST", "/", body))[0], 409)  # it is another body
        self.assertEqual((await self.ask("two", "POST", "/", body))[0], 202)
        await self.queue.submit(Group(id="free", digest="", spec=b"{}", need=1, parts=parts))
        self.assertEqual((await self.ask("root", "GET", "/v1/batches/:free"))[0], 200)
        self.assertEqual((await self.ask("one", "GET", "/v1/batches/:free"))[0], 404)

    def test_rotation(self) -> None:
        """Two tokens of one name are one client."""
        digests = [hashlib.sha256(word).digest() for word in (b"old", b"new")]
        tokens = parse_tokens("".join(f"{digest.hex()} name submit\n" for digest in digests))
        self.assertEqual([(t.digest, t.owner) for t in tokens], [(d, "name") for d in digests])

    async def test_scopes(self) -> None:
        """What a token is not for is refused by name."""
        for token, method, path, status in (
            ("viewer", "POST", "/v1/batches", 403),
            ("viewer", "DELETE", "/v1/batches/b", 403),
            ("viewer", "GET", "/metrics", 200),
            ("one", "GET", "/v1/stats", 403),
            ("one", "PATCH", "/v1/queue", 403),
            ("one", "PATCH", "/v1/files", 403),
            ("root", "GET", "/v1/stats", 200),
            ("nobody", "GET", "/v1/batches", 401),
        ):
            url = f"http://127.0.0.1:{self.port}{path}"
            headers: Any = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            answer = await self.client.request(method, url, headers=headers, data=b"{}")
            text = await answer.content()
            self.assertEqual(answer.code, status, (token, path))
            self.assertEqual(b'"forbidden"' in text, status == 403)
