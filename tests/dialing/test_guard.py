"""What may be dialled."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_network
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support.address_spellings import SPELLINGS
from tests.support.address_spellings import ask as spelled
from tests.support.address_spellings import look_up as numeric
from tests.support.daemon import ROOT
from tests.support.origin_server import Site, ok
from tests.support.reactor import reactor
from tests.support.redis_servers import need
from twisted_bulk.dialing import resolver
from twisted_bulk.dialing.endpoints import GuardedEndpoint
from twisted_bulk.dialing.guard import Guard
from twisted_bulk.dialing.lookup import look_up
from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.agent import GuardedAgent
from twisted_bulk.http_client.parser import facts_of

REFUSED = """
127.0.0.1 127.255.255.255 0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 169.254.169.254
172.16.0.1 172.31.255.255 192.168.1.1 192.0.0.8 192.0.2.1 192.88.99.1 198.18.0.1 198.51.100.7
203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 ::1 :: ::ffff:127.0.0.1
::ffff:10.0.0.1 ::127.0.0.1 ::7f00:1 64:ff9b::7f00:1 64:ff9b:1::1 100::1 2001::1 2001:db8::1
2001:10::1 2002:7f00:1::1 2002:0808:0808::1 3fff::1 5f00::1 fc00::1 fd12::1 fe80::1 fe80::1%eth0
fec0::1 ff02::1 ::ffff:0:127.0.0.1 not-an-address
""".split()
ALLOWED = (
    "8.8.8.8 1.1.1.1 93.184.216.34 172.32.0.1 2606:4700::1111 2a00:1450::1 ::ffff:8.8.8.8".split()
)


class PolicyTests(SynchronousTestCase):
    """Addresses."""

    def test_refused(self) -> None:
        """Nothing but public unicast."""
        self.assertEqual([a for a in REFUSED if Guard().allows(a)], [])

    def test_allowed(self) -> None:
        """Public unicast."""
        self.assertEqual([a for a in ALLOWED if not Guard().allows(a)], [])

    def test_opened(self) -> None:
        """What the operator opens is open, and nothing beside it."""
        guard = Guard([ip_network("127.0.0.0/8"), ip_network("fd00::/8")])
        for address in ("127.0.0.1", "::ffff:127.0.0.1", "fd12::1", "8.8.8.8"):
            self.assertTrue(guard.allows(address), address)
        for address in ("10.0.0.1", "169.254.169.254", "fc00::1", "::1"):
            self.assertFalse(guard.allows(address), address)


class Answers:
    """A resolver that knows what it was told."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    async def resolve(self, host: str) -> list[str]:
        if not self.addresses:
            raise MemberError("dns_failed", host)
        return self.addresses


class DialTests(SynchronousTestCase):
    """Connections: the check is "none was attempted", not "an error came back"."""

    def dial(
        self, addresses: Sequence[str], guard: Guard | None = None
    ) -> tuple[Any, Deferred[Any]]:
        memory: Any = MemoryReactorClock()
        endpoint = GuardedEndpoint(
            memory, Answers(*addresses), guard or Guard(), "name.example", 81, 10
        )
        return memory, endpoint.connect(Factory.forProtocol(Protocol))

    def refused(self, addresses: Sequence[str]) -> str:
        memory, dialling = self.dial(addresses)
        error = self.failureResultOf(dialling, MemberError).value
        self.assertEqual(memory.tcpClients, [])
        return str(error.code)

    def test_bad_answer(self) -> None:
        """A private address is not dialled, in whatever company it comes."""
        self.assertEqual(self.refused(["10.0.0.1"]), "address_refused")
        self.assertEqual(self.refused(["8.8.8.8", "127.0.0.1"]), "address_refused")
        self.assertEqual(self.refused(["::1", "8.8.8.8"]), "address_refused")

    def test_no_answer(self) -> None:
        """A name without addresses is an error of its own."""
        self.assertEqual(self.refused([]), "dns_failed")

    def test_checked_address_is_dialled(self) -> None:
        """The connection goes to the address that was looked at."""
        memory, _ = self.dial(["93.184.216.34"])
        self.assertEqual([client[:2] for client in memory.tcpClients], [("93.184.216.34", 81)])

    def test_connect_timeout(self) -> None:
        """A host that does not answer is given up."""
        memory, dialling = self.dial(["93.184.216.34"])
        memory.advance(10)
        error = self.failureResultOf(dialling, MemberError).value
        self.assertEqual(error.code, "connect_timeout")


class AgentTests(TestCase):
    """The agent, on real sockets."""

    timeout = 60

    def setUp(self) -> None:
        self.site = Site(self)
        self.site.answers["/"] = ok(b"hello")

    def agent(self, *allowed: str, find: Any = look_up, **policy: Any) -> GuardedAgent:
        agent = GuardedAgent(reactor, Guard(map(ip_network, allowed), **policy), 2, find=find)
        agent.startService()
        self.addCleanup(agent.stopService)
        # Not from within the event that ended the test.
        self.addCleanup(deferLater, reactor, 0)
        return agent

    def watched(self) -> list[str]:
        """Addresses that the reactor is asked to connect to; it never does."""
        dialled: list[str] = []

        def connect(host: str, port: int, factory: Any, *more: Any, **options: Any) -> Any:
            dialled.append(host)
            connector = SimpleNamespace(stopConnecting=lambda: None)
            reactor.callLater(0, factory.clientConnectionFailed, connector, Failure(ConnectError()))
            return connector

        self.patch(reactor, "connectTCP", connect)
        return dialled

    async def test_spellings(self) -> None:
        """However an address is written, it is not dialled."""
        self.assertGreater(len(SPELLINGS), 250)
        dialled, agent = self.watched(), self.agent(find=numeric)
        codes = await spelled(agent, 80)
        self.assertEqual(dialled, [])
        odd = {host: code for host, code in codes.items() if code != "address_refused"}
        self.assertTrue(set(odd.values()) <= {"dns_failed", "bad_url"}, odd)

    def test_system_calls(self) -> None:
        """The same as strace sees it: no connect(); with the guard open there are many."""
        for networks, expected in ((), 0), (("127.0.0.0/8",), 1):
            log = Path(self.mktemp()).absolute()
            words = [need("strace"), "-f", "-e", "trace=connect", "-o", str(log), sys.executable]
            words += ["-m", "tests.support.address_spellings", *networks]
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
            refused, asked = map(int, done.stdout.split())
            calls = re.findall(r"connect\(.*AF_INET", log.read_text())
            self.assertEqual(bool(calls), bool(expected), calls[:5])
            self.assertEqual(refused == asked, not expected)

    async def test_rebinding(self) -> None:
        """A name whose answers change with each look-up: what was checked is what is dialled."""
        answers = cycle([["8.8.8.8"], ["127.0.0.1"], ["8.8.8.8", "169.254.169.254"], ["::1"]])
        self.patch(resolver, "KEEP_SECONDS", 0.0)
        dialled = self.watched()
        agent = self.agent(find=lambda host: next(answers))
        codes: Counter[str] = Counter()
        for _ in range(10_000):
            try:
                await agent.request(b"GET", b"http://rebind.example/")
            except MemberError as error:
                codes[error.code] += 1
        self.assertEqual(codes, {"address_refused": 7500, "connect_failed": 2500})
        self.assertEqual(Counter(dialled), {"8.8.8.8": 2500})

    async def test_own_ports(self) -> None:
        """What we listen on is not for downloads, whatever is allowed; nor is the queue's port."""
        port = self.site.port.getHost().port
        for given in ({"own": [port]}, {"queue": [port]}, {"ports": [range(80, 81)]}):
            agent = self.agent("127.0.0.0/8", **given)
            with self.assertRaises(MemberError) as caught:
                await agent.request(b"GET", (self.site.url + "/").encode())
            code = "address_refused" if "own" in given else "port_refused"
            self.assertEqual(caught.exception.code, code)
        self.assertEqual(self.site.connections, 0)
        agent = self.agent("127.0.0.0/8", own=[port + 1])
        await agent.request(b"GET", (self.site.url + "/").encode())

    async def test_identity(self) -> None:
        """Encodings are not asked for, and not decoded if they come all the same."""
        client = HTTPClient(self.agent("127.0.0.0/8"))
        response = await client.get(self.site.url + "/")
        self.assertEqual(await response.content(), b"hello")
        self.assertEqual(self.site.headers()["accept-encoding"], "identity")
        self.site.answers["/"] = ok(b"x", "Content-Encoding: gzip")
        response = await client.get(self.site.url + "/")
        self.assertEqual(await response.content(), b"x")
        self.assertEqual(facts_of(response).codings, ["gzip"])
