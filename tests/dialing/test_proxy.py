"""Downloads through an HTTP proxy, which resolves the names."""

import io
import tempfile
import urllib.request
import zipfile
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from OpenSSL.crypto import FILETYPE_PEM, dump_certificate
from treq.client import HTTPClient
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site as WebSite
from twisted.web.static import Data

from tests.support.certificates import authority, issue
from tests.support.daemon import Daemon
from tests.support.reactor import reactor
from twisted_bulk.dialing.guard import Guard
from twisted_bulk.dialing.proxy import Proxy, parse_proxy
from twisted_bulk.dialing.tls import TLSPolicy
from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.agent import GuardedAgent


class Pipe(Protocol):
    """One end of a tunnel."""

    other: Any

    def dataReceived(self, data: bytes) -> None:
        self.other.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.other.transport.loseConnection()


class ProxyServer(Pipe):
    """Answers for http itself; connects all https to ``target``, if there is one."""

    def __init__(self, heads: list[bytes], target: int, refusal: bytes) -> None:
        self.other = None
        self._head = b""
        self._heads, self._target, self._refusal = heads, target, refusal

    def dataReceived(self, data: bytes) -> None:
        if self.other is not None:
            super().dataReceived(data)
            return
        self._head += data
        if b"\r\n\r\n" not in self._head:
            return
        head, self._head = self._head, b""
        self._heads.append(head)
        assert self.transport is not None
        if self._refusal:
            self.transport.write(self._refusal)
        elif head.startswith(b"CONNECT "):
            self.other = Pipe()
            self.other.other = self
            where = TCP4ClientEndpoint(reactor, "127.0.0.1", self._target)
            connecting = connectProtocol(where, self.other)
            connecting.addCallback(lambda _: self.transport.write(b"HTTP/1.1 200 OK\r\n\r\n"))
        else:
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain")

    def connectionLost(self, reason: Any = None) -> None:
        if self.other is not None:
            super().connectionLost(reason)


class TunnelTests(TestCase):
    """On real sockets."""

    timeout = 20

    def setUp(self) -> None:
        self.heads: list[bytes] = []
        self.refusal = b""
        root = Resource()
        root.putChild(b"a", Data(b"secret", "text/plain"))
        context = issue(*authority("ours"), "files.example")
        secure: Any = reactor.listenSSL(0, WebSite(root), context, interface="127.0.0.1")
        self.addCleanup(secure.stopListening)
        case = self

        class Servers(Factory):
            noisy = False

            def buildProtocol(self, addr: Any) -> ProxyServer:
                return ProxyServer(case.heads, secure.getHost().port, case.refusal)

        self.port: Any = reactor.listenTCP(0, Servers(), interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        proxy = Proxy("127.0.0.1", self.port.getHost().port, b"Basic dTpw")
        trusted = [authority("ours")[0]]
        self.agent = agent = GuardedAgent(reactor, Guard(), 2, proxy=proxy, tls=TLSPolicy(trusted))
        agent.startService()
        self.addCleanup(deferLater, reactor, 0.05)
        self.addCleanup(agent.stopService)
        self.client = HTTPClient(agent)

    async def get(self, url: str) -> bytes:
        response = await self.client.get(url, unbuffered=True)
        content: bytes = await response.content()
        return content

    async def code(self, url: str) -> str:
        with self.assertRaises(MemberError) as caught:
            await self.agent.request(b"GET", url.encode())
        return str(caught.exception.code)

    async def test_plain(self) -> None:
        """The proxy is asked for the whole URL."""
        self.assertEqual(await self.get("http://files.example/a?b"), b"plain")
        (head,) = self.heads
        self.assertTrue(head.startswith(b"GET http://files.example/a?b HTTP/1.1\r\n"), head)
        self.assertIn(b"Proxy-Authorization: Basic dTpw", head)

    async def test_tunnel(self) -> None:
        """TLS is ours from end to end; the proxy sees a host and a port."""
        self.assertEqual(await self.get("https://files.example/a"), b"secret")
        self.assertTrue(self.heads[0].startswith(b"CONNECT files.example:443 HTTP/1.1\r\n"))
        self.assertIn(b"Proxy-Authorization: Basic dTpw", self.heads[0])
        self.assertEqual(await self.code("https://other.example/a"), "tls_failed")

    async def test_refused(self) -> None:
        """What names no host by its name is not asked for."""
        for host in (
            "127.0.0.1",
            "0x7f.1",
            "[::1]",
            "10.0.0.1",
            "localhost",
            "a.localhost.",
            "%31%32%37.1",
        ):
            self.assertEqual(await self.code(f"http://{host}/"), "address_refused", host)
            self.assertEqual(await self.code(f"https://{host}/"), "address_refused", host)
        self.assertEqual(self.heads, [])
        self.assertEqual(await self.get("http://8.8.8.8/a"), b"plain")

    def test_ourselves(self) -> None:
        """Our own names at our own ports, and the queue's, as on the direct way."""
        guard = Guard([ip_network("127.0.0.0/8")], own=[81], queue=[82], names=["me", "ME.example"])
        for host, port, code in (
            ("me", 81, "address_refused"), ("Me.Example.", 81, "address_refused"), ("me", 80, ""),
            ("127.0.0.1", 81, "address_refused"), ("127.1", 80, ""), ("other", 82, "port_refused"),
            ("127.0.0.1", 82, "port_refused"),
        ):  # fmt: skip
            try:
                guard.check_unresolved(host, port)
                found = ""
            except MemberError as error:
                found = error.code
            self.assertEqual(found, code, (host, port))

    async def test_proxy_in_trouble(self) -> None:
        """A proxy that does not connect, or talks before it was asked."""
        for refusal in (
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n",
            b"x" * 20_000,
        ):
            self.refusal = refusal
            self.assertEqual(await self.code("https://files.example/a"), "proxy_failed")

    async def test_daemon(self) -> None:
        """``--proxy`` and ``--ca``: a batch from hosts that only the proxy can reach."""
        folder = Path(tempfile.mkdtemp(prefix="bw"))
        (folder / "ca.pem").write_bytes(dump_certificate(FILETYPE_PEM, authority("ours")[0]))
        options = f"--proxy=http://u:p@127.0.0.1:{self.port.getHost().port}", "--retries=0"
        urls = ["http://files.example/b", "https://files.example/a", "https://[::1]/c"]

        def use() -> tuple[Any, dict[str, bytes]]:
            with Daemon(folder / "data", *options, f"--ca={folder}/ca.pem") as daemon:
                batch = daemon.post({"download": urls})
                shown = daemon.wait(batch["task_id"])
                with urllib.request.urlopen(shown["download"]) as answer:
                    content = io.BytesIO(answer.read())
            with zipfile.ZipFile(content) as archive:
                return shown, {name: archive.read(name) for name in archive.namelist()}

        shown, members = await deferToThread(use)
        self.assertEqual((members["a.txt"], members["b"]), (b"secret", b"plain"))
        self.assertEqual([e["code"] for e in shown["errors"]], ["address_refused"])
        heads = sorted(head.split(b"\r\n")[0] for head in self.heads)
        plain, tunnel = (
            b"GET http://files.example/b HTTP/1.1",
            b"CONNECT files.example:443 HTTP/1.1",
        )
        self.assertEqual(heads, [tunnel, plain])
        for head in self.heads:
            self.assertIn(b"Proxy-Authorization: Basic dTpw", head)


class ProxyUrlTests(SynchronousTestCase):
    """Its URL."""

    def test_good(self) -> None:
        """Host, port, password."""
        self.assertEqual(parse_proxy("http://h:3128/"), Proxy("h", 3128))
        self.assertEqual(parse_proxy("http://u:p@h"), Proxy("h", 80, b"Basic dTpw"))

    def test_bad(self) -> None:
        """Anything else."""
        for url in ("https://h:1", "socks5://h:1", "h:3128", "http://", "http://h/path"):
            self.assertRaises(ValueError, parse_proxy, url)
