"""Certificates: which ones are trusted, and what is said of the others."""

import datetime
import hashlib
from typing import Any, cast

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import authority, issue
from tests.support.downloads import DownloadTestCase
from tests.support.origin_server import ok
from twisted_bulk.dialing.tls import TLSPolicy
from twisted_bulk.node.values import pins

reactor: Any = _reactor
OURS = authority("ours")


class CertificateTests(DownloadTestCase):
    """Over real TLS; the server of each test has another certificate."""

    def setUp(self) -> None:
        self.addCleanup(deferLater, reactor, 0.01)  # the last: connections end a turn later
        super().setUp()

    def secure(self, options: Any) -> str:
        """The site behind TLS; its URL on localhost."""
        port = reactor.listenSSL(0, self.site, options, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.site.answers["/"] = ok(b"secret")
        return f"https://localhost:{port.getHost().port}/"

    def fingerprint(self, options: CertificateOptions) -> str:
        """Of a server's certificate."""
        assert options.certificate is not None
        found = options.certificate.to_cryptography().public_bytes(Encoding.DER)
        return hashlib.sha256(found).hexdigest()

    async def detail(self, options: Any, **settings: Any) -> str:
        """What is said of a certificate; empty: it is trusted. Else no request reaches it."""
        url = self.secure(options)
        await self.get(self.one(url), retries=0, **{"authorities": [OURS[0]]} | settings)
        error = self.errors[url]
        self.assertEqual(len(self.site.requests), int(error is None))
        if error is None:
            return ""
        self.assertEqual(error.code, "tls_failed")
        return error.detail

    async def test_trusted(self) -> None:
        """By an authority of `--ca`."""
        self.assertEqual(await self.detail(issue(*OURS, "localhost")), "")

    async def test_expired(self) -> None:
        """Since when is said."""
        day = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=5)
        said = await self.detail(issue(*OURS, "localhost", -5))
        self.assertIn(f"the certificate has expired since {day:%Y-%m-%d}", said)

    async def test_other_name(self) -> None:
        """For whom it is, is said."""
        said = await self.detail(issue(*OURS, "pbx.example"))
        self.assertIn("the certificate is for pbx.example, not for localhost", said)

    async def test_unknown(self) -> None:
        """The authority, and the fingerprint with which it can be trusted."""
        options = issue(*authority("strangers"), "localhost")
        said = await self.detail(options)
        self.assertIn("the authority is unknown (see --ca): CN=strangers", said)
        cure = f"=SHA256 takes the server's, {self.fingerprint(options)}"
        self.assertRegex(said, r"; --trust localhost:\d+=SHA256 ")
        self.assertIn(cure, said)
        self.assertLess(len(said), 300)

    async def test_pinned(self) -> None:
        """Whatever else is wrong with it: its authority, its names, its dates."""
        options = issue(*authority("strangers"), "pbx.example", -5)
        found = pins(f"LOCALHOST={self.fingerprint(options)}")
        self.assertEqual(await self.detail(options, pins=found), "")

    async def test_pinned_with_its_port(self) -> None:
        """A pin for one port, beside one of another certificate for all others."""
        options = issue(*authority("strangers"), "localhost")
        url = self.secure(options)
        port = url.split(":")[2].strip("/")
        found = {"localhost": {"0" * 64}, f"localhost:{port}": {self.fingerprint(options)}}
        await self.get(self.one(url), retries=0, pins=found)
        self.assertIsNone(self.errors[url])

    async def test_other_pin(self) -> None:
        """Where a host has a pin, no other certificate is trusted, be it as good as any."""
        said = await self.detail(issue(*OURS, "localhost"), pins={"localhost": {"0" * 64}})
        self.assertIn("it is not the pinned certificate", said)

    async def test_pin_of_another_host(self) -> None:
        """A pin counts for its host only."""
        options = issue(*authority("strangers"), "localhost")
        said = await self.detail(options, pins={"other": {self.fingerprint(options)}})
        self.assertIn("unknown", said)

    async def test_no_names(self) -> None:
        """A certificate that has a common name only, as those of many telephone systems."""
        said = await self.detail(issue(*OURS, "pbx.example", names=False))
        self.assertIn("the certificate is for CN=pbx.example, not for localhost", said)
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_ipv6(self) -> None:
        """A pin of an IPv6 address."""
        policy = TLSPolicy((), pins(f"[::1]:8443={'0' * 64},[::2]={'1' * 64}"))
        found = [policy.creator(host, port)._pins for host, port in (("::1", 8443), ("::2", 1))]
        self.assertEqual(found, [{"0" * 64}, {"1" * 64}])
        self.assertFalse(policy.creator("::1", 443)._pins)

    def verify(self, *calls: tuple[int, int, int]) -> tuple[bool, bool]:
        """The end of a handshake with such calls: an error, a depth, whether it is good.

        :returns: what OpenSSL is told at last, and what we say afterwards
        """
        verifying = TLSPolicy().creator("localhost", 443)
        found: Any = issue(*OURS, "localhost").certificate
        answers = [verifying._verify(cast(Any, None), found, *call) for call in calls]
        return answers[-1], verifying.is_trusted

    def test_late_problems(self) -> None:
        """A problem of another certificate that is found behind the server's (name constraints)."""
        self.assertEqual(self.verify((0, 1, 1), (0, 0, 1)), (True, True))
        self.assertEqual(self.verify((0, 1, 1), (0, 0, 1), (47, 1, 0)), (False, False))
        self.assertEqual(self.verify((20, 1, 0), (0, 0, 1)), (False, False))
        self.assertEqual(self.verify((0, 1, 1)), (True, False))

    async def test_no_tls(self) -> None:
        """A server that does not speak TLS."""

        class Plain(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        port = reactor.listenTCP(0, Factory.forProtocol(Plain), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"https://localhost:{port.getHost().port}/"
        await self.get(self.one(url), retries=0)
        error = self.errors[url]
        assert error is not None
        self.assertEqual((error.code, "does not speak TLS" in error.detail), ("tls_failed", True))


class PinTests(SynchronousTestCase):
    """The setting's text."""

    def test_good(self) -> None:
        """Several, in either spelling of a fingerprint."""
        a, b = "0A" * 32, ":".join(["0b"] * 32)
        found = pins(f"pbx.example={a}, Pbx.Example={b} [::1]:8443={a}")
        self.assertEqual(found, {"pbx.example": {"0a" * 32, "0b" * 32}, "[::1]:8443": {"0a" * 32}})
        self.assertEqual(pins(""), {})

    def test_bad(self) -> None:
        """Anything else."""
        good = "=" + "0" * 64
        for host in ("", ":443", "h:x", "::1", "h/x", "[::1", "h:123456"):
            self.assertRaises(ValueError, pins, host + good)
        for text in ("h", "h=", "h" + good[:-1], "*=all"):
            self.assertRaises(ValueError, pins, text)
