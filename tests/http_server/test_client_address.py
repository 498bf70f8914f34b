"""Whom a connection comes from."""

import struct
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.http_server.client_address import Clients
from twisted_bulk.http_server.proxy_header import SIGNATURE, read_proxy_header
from twisted_bulk.throttle import UNLIMITED

PROXY = ip_network("10.0.0.0/8")


def version2(command: int, family: int, body: bytes) -> bytes:
    """A binary PROXY header."""
    return SIGNATURE + struct.pack(">BBH", command, family, len(body)) + body


class ClientKeyTests(SynchronousTestCase):
    """What counts as one client."""

    def test_keys(self) -> None:
        """IPv4 alone, IPv6 by /64, one client whatever the spelling."""
        key = Clients().key
        self.assertEqual(key("1.2.3.4"), key("::ffff:1.2.3.4"))
        self.assertEqual(key("2001:db8::1"), key("2001:db8:0:0:ffff::2"))
        self.assertNotEqual(key("2001:db8::1"), key("2001:db8:0:1::1"))
        self.assertEqual(key("fe80::1%eth0"), key("fe80::2"))
        self.assertEqual(key(""), "-")
        self.assertNotEqual(Clients(128).key("2001:db8::1"), Clients(128).key("2001:db8::2"))

    def test_exempt(self) -> None:
        """By network, also where the address comes wrapped in IPv6."""
        clients = Clients(exempt=[PROXY, ip_network("fd00::/8")])
        for host, exempt in (
            ("10.1.2.3", True),
            ("::ffff:10.1.2.3", True),
            ("fd00::1", True),
            ("11.0.0.1", False),
            ("", False),
        ):
            self.assertEqual(clients.key(host) == UNLIMITED, exempt, host)


class ForwardedTests(SynchronousTestCase):
    """X-Forwarded-For."""

    def test_from_the_right(self) -> None:
        """The first hop that is not one of ours; only from a proxy that is."""
        clients = Clients(proxies=[PROXY])
        for host, hops, expected in (
            ("1.1.1.1", ["2.2.2.2"], "1.1.1.1"),
            ("10.0.0.1", [], "10.0.0.1"),
            ("10.0.0.1", ["2.2.2.2"], "2.2.2.2"),
            ("10.0.0.1", ["9.9.9.9, 2.2.2.2, 10.0.0.2"], "2.2.2.2"),
            ("10.0.0.1", ["9.9.9.9", "2.2.2.2"], "2.2.2.2"),
            ("10.0.0.1", ["9.9.9.9, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", ["unknown"], "10.0.0.1"),
            ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", ["2.2.2.2:4711"], "2.2.2.2"),
            ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("::ffff:10.0.0.1", ["2.2.2.2"], "2.2.2.2"),
            ("10.0.0.1", [",,"], "10.0.0.1"),
        ):
            self.assertEqual(clients.behind(host, hops), expected, hops)

    def test_one_way(self) -> None:
        """Where connections are announced, headers are not believed."""
        clients = Clients(proxies=[PROXY], announced=True)
        self.assertEqual(clients.behind("10.0.0.1", ["2.2.2.2"]), "10.0.0.1")
        self.assertEqual([clients.announces(h) for h in ("10.0.0.1", "1.1.1.1")], [True, False])

    @given(st.text(max_size=60))
    def test_any_header(self, text: str) -> None:
        """Nothing that stands there breaks it."""
        self.assertTrue(Clients(proxies=[PROXY]).behind("10.0.0.1", [text]))


class AnnouncedTests(SynchronousTestCase):
    """The PROXY protocol."""

    good = (
        (b"PROXY TCP4 1.2.3.4 10.0.0.1 4711 80\r\n", "1.2.3.4"),
        (b"PROXY TCP6 2001:db8::1 fd00::1 4711 80\r\n", "2001:db8::1"),
        (b"PROXY TCP6 2001:db8:0:0:0:0:0:1 fd00::1 4711 80\r\n", "2001:db8::1"),
        (b"PROXY UNKNOWN\r\n", ""),
        (b"PROXY UNKNOWN ffff::1 ffff::1 65535 65535\r\n", ""),
        (version2(0x21, 0x11, bytes([1, 2, 3, 4, 10, 0, 0, 1]) + b"\x12\x34\x00\x50"), "1.2.3.4"),
        (version2(0x21, 0x21, b"\x20\x01\x0d\xb8" + bytes(28) + b"\x12\x34\x00\x50"), "2001:db8::"),
        (version2(0x21, 0x11, bytes(range(12)) + b"\x04\x00\x01x"), "0.1.2.3"),  # with a TLV
        (version2(0x20, 0x00, b""), ""),
        (version2(0x21, 0x31, bytes(216)), ""),
    )

    def test_good(self) -> None:
        """Both versions, in any number of pieces."""
        for header, host in self.good:
            self.assertEqual(read_proxy_header(header + b"GET /"), (len(header), host), header)
            for end in range(len(header)):
                self.assertIsNone(read_proxy_header(header[:end]), header[:end])

    def test_bad(self) -> None:
        """What is no such header ends the connection."""
        for header in (
            b"GET / HTTP/1.1\r\n",
            b"PROXY TCP4 not-an-ip 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 2001:db8::1 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 10.0.0.1 x 2\r\n",
            b"PROXY TCP5 1.2.3.4 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 " + b"1" * 200,
            version2(0x31, 0x11, bytes(12)),
            version2(0x21, 0x11, bytes(4)),
            SIGNATURE + b"\x21\x11\xff\xff",
            b"\r\n\r\nGET / HTTP/1.1",
        ):
            with self.assertRaises(ValueError, msg=header):
                read_proxy_header(header)

    @given(st.binary(max_size=80), st.sampled_from([b"", SIGNATURE, b"PROXY ", b"PROXY TCP4 "]))
    def test_any_bytes(self, data: bytes, start: bytes) -> None:
        """Nothing but a ValueError comes of nonsense."""
        try:
            found = read_proxy_header(start + data)
        except ValueError:
            return
        self.assertTrue(found is None or found[0] <= len(start + data))
