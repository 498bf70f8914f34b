"""What may be dialled."""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

from treq.client import HTTPClient
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import URI
from zope.interface import implementer

from tests.reactor import reactor
from tests.web import Site, ok
from twisted_bulk.errors import MemberError
from twisted_bulk.guard import Guard, GuardedAgent, _GuardedEndpoint

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


@implementer(IHostnameResolver)
class Answers:
    """A resolver that knows what it was told."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        resolutionReceiver.resolutionBegan(None)
        for host in self.addresses:
            kind = IPv6Address if ":" in host else IPv4Address
            resolutionReceiver.addressResolved(kind("TCP", host, portNumber))
        resolutionReceiver.resolutionComplete()


class DialTests(SynchronousTestCase):
    """Connections: the check is "none was attempted", not "an error came back"."""

    def dial(
        self, addresses: Sequence[str], guard: Guard | None = None
    ) -> tuple[Any, Deferred[Any]]:
        memory: Any = MemoryReactorClock()
        uri = URI.fromBytes(b"http://name.example:81/")
        endpoint = _GuardedEndpoint(memory, Answers(*addresses), guard or Guard(), uri, 10)
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

    timeout = 20

    def setUp(self) -> None:
        self.site = Site(self)
        self.site.answers["/"] = ok(b"hello")

    def agent(self, *allowed: str) -> GuardedAgent:
        agent = GuardedAgent(reactor, Guard(map(ip_network, allowed)), 2, 5)
        agent.startService()
        self.addCleanup(agent.stopService)
        # Not from within the event that ended the test.
        self.addCleanup(deferLater, reactor, 0)
        return agent

    async def test_spellings(self) -> None:
        """However loopback is written, the server is never reached."""
        agent, port = self.agent(), self.site.url.rsplit(":", 1)[1]
        hosts = "127.0.0.1 127.1 2130706433 0x7f000001 0177.0.0.1 localhost 0 [::1] 127.0.0.1. "
        for host in (hosts + "[::ffff:127.0.0.1] [::ffff:7f00:1] 0.0.0.0").split():
            with self.assertRaises(MemberError) as caught:
                await agent.request(b"GET", f"http://{host}:{port}/".encode())
            self.assertIn(caught.exception.code, ("address_refused", "dns_failed"), host)
        self.assertEqual(self.site.connections, 0)

    async def test_identity(self) -> None:
        """Encodings are not asked for, and refused if they come all the same."""
        client = HTTPClient(self.agent("127.0.0.0/8"))
        response = await client.get(self.site.url + "/")
        self.assertEqual(await response.content(), b"hello")
        self.assertEqual(self.site.headers()["accept-encoding"], "identity")
        self.site.answers["/"] = ok(b"x", "Content-Encoding: gzip")
        with self.assertRaises(MemberError) as caught:
            await client.get(self.site.url + "/")
        self.assertEqual(caught.exception.code, "content_encoded")
