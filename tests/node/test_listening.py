"""The ports of this node, however they are spelled."""

import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from OpenSSL.crypto import FILETYPE_PEM, dump_certificate, dump_privatekey
from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from tests.support.certificates import authority, issue
from tests.support.daemon import Daemon, SharingDaemon
from tests.support.daemon_case import DaemonTestCase
from tests.support.reactor import reactor
from tests.support.redis_servers import free_port
from twisted_bulk.errors import ConfigError
from twisted_bulk.node.listening import Listener, Ports, number_in
from twisted_bulk.node.sources import load


class ListeningTests(TestCase):
    """What is asked of an open port."""

    def listen(self, endpoint: str, key: str = "files", **settings: str) -> Ports:
        """The ports once this one is open."""
        ports = Ports(load(settings, {}))
        listener = Listener(reactor, endpoint, Factory.forProtocol(Protocol), key, ports)
        self.addCleanup(lambda: maybeDeferred(listener.stopService))
        listener.privilegedStartService()
        return ports

    def test_named(self) -> None:
        """Before a port is open its description is all that there is."""
        for endpoint, port in (
            ("tcp:81", 81), ("tcp:interface=127.0.0.1:port=82", 82), ("tcp:port=83:backlog=9", 83),
            ("ssl:84:privateKey=k\\:k", 84), ("tcp6:85:interface=\\:\\:1", 85),
            ("unix:/run/86", None), ("systemd:domain=INET:index=0", None), ("tcp:http", None),
        ):  # fmt: skip
            self.assertEqual(number_in(endpoint), port, endpoint)

    def test_open(self) -> None:
        """Then it is known, and links begin with it."""
        for endpoint in (
            "tcp:0:interface=127.0.0.1", "tcp:interface=127.0.0.1:port=0",
            f"tcp:interface=127.0.0.1:port={free_port()}",
        ):  # fmt: skip
            ports = self.listen(endpoint)
            host, _, port = ports.link_base.rpartition(":")
            self.assertEqual(host, "http://127.0.0.1")
            self.assertIn(int(port), ports.own)
        ports = self.listen("tcp:0:interface=127.0.0.1", public_url="https://x/y/")
        self.assertEqual((ports.link_base, len(ports.own)), ("https://x/y", 3))
        ports = self.listen("tcp:0:interface=127.0.0.1", "intake")
        self.assertTrue(ports.link_base.endswith(":10001"))
        self.assertRegex(self.listen("tcp:0").link_base, r"^http://[^0:]")

    def test_tls(self) -> None:
        """Its links are https."""
        ca, key = authority("ours")
        made: Any = issue(ca, key, "localhost")
        pem = Path(self.mktemp()).absolute()
        pem.write_bytes(
            dump_privatekey(FILETYPE_PEM, made.privateKey)
            + dump_certificate(FILETYPE_PEM, made.certificate)
        )
        ports = self.listen(f"ssl:0:interface=127.0.0.1:privateKey={pem}")
        self.assertRegex(ports.link_base, r"^https://127\.0\.0\.1:\d+$")

    def test_unix(self) -> None:
        """Nobody knows what the links of a unix socket begin with."""
        path = Path(tempfile.mkdtemp(prefix="bw")) / "s"
        error = self.assertRaises(ConfigError, self.listen, f"unix:{path}")
        self.assertIn("public_url", str(error))
        self.listen(f"unix:{path}2", "intake")
        self.listen(f"unix:{path}3", public_url="http://x")


class SpelledDaemon(Daemon):
    """Its ports are spelled as few people would."""

    def command(self) -> list[str]:
        words = [word for word in super().command() if not word.startswith("--public-url=")]
        return [
            word.replace(f"tcp:{port}:interface=127.0.0.1", f"tcp:interface=127.0.0.1:port={port}")
            for word in words
            for port in [self.intake if word.startswith("--intake") else self.files]
        ]


class OwnTests(DaemonTestCase):
    """A batch does not fetch from us, neither in this process nor in a child."""

    def check(self, daemon: Daemon) -> Any:
        self.addCleanup(daemon.__exit__)
        urls = [f"http://127.0.0.1:{port}/healthz" for port in (daemon.intake, daemon.files)]
        for _ in range(3):
            batch = daemon.post({"download": [*urls, *self.urls(1)]})
            shown = daemon.wait(batch["task_id"])
            self.assertEqual([e["code"] for e in shown["errors"]], ["address_refused"] * 2)
            self.assertIn("bulkwav itself", shown["errors"][0]["detail"])
        return shown

    def test_spelled(self) -> None:
        """By keyword; the links lead to the port as well."""
        options = "--workers=2", "--retries=0"
        daemon = SpelledDaemon(Path(tempfile.mkdtemp(prefix="bw")), *options)
        shown = self.check(daemon)
        self.assertTrue(shown["download"].startswith(f"http://127.0.0.1:{daemon.files}/"))
        with urllib.request.urlopen(shown["download"]) as answer:
            self.assertEqual(answer.status, 200)

    def test_handed_over(self) -> None:
        """By systemd."""
        data = Path(tempfile.mkdtemp(prefix="bw"))
        self.check(SharingDaemon(data, free_port(), "--workers=1", "--retries=0"))
