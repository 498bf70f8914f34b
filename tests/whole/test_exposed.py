"""The daemon as strangers find it: through proxies, with all its connections taken."""

import json
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from bench.nginx import Nginx
from tests.support.daemon import Daemon
from tests.support.daemon_case import DaemonTestCase, until
from tests.support.redis_servers import need


def answer(url: str) -> tuple[int, Any]:
    """The status of a GET and its body, read as JSON."""
    try:
        with urllib.request.urlopen(url, timeout=20) as found:
            return found.status, json.load(found)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def connect(port: int, host: str) -> socket.socket:
    """A connection from one of loopback's many addresses."""
    return socket.create_connection(("127.0.0.1", port), 10, (host, 0))


class BehindNginxTests(DaemonTestCase):
    """A reverse proxy on this machine, and no tokens."""

    def test_lets_nobody_in(self) -> None:
        """However the proxy is set up, and whatever its client says about itself."""
        need("nginx")
        ways = (
            "",
            "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Via x;",
            "proxy_http_version 1.1; proxy_set_header X-Forwarded-For $remote_addr;",
            "proxy_http_version 1.1; proxy_set_header Host $host:1;",
        )
        daemon = self.daemon("--trusted-proxy=127.0.0.0/8")
        self.assertEqual(answer(f"{daemon.api}/v1/batches")[0], 200)
        for way in ways:
            folder = Path(tempfile.mkdtemp(prefix="bw"))
            server = f"server {{ listen unix:{folder}/s; location / {{ {way}"
            more = f"{server} proxy_pass http://127.0.0.1:{daemon.intake}; }} }}"
            with Nginx(folder, folder, more):
                for headers in ([], ["-H", "X-Forwarded-For: 127.0.0.1"]):
                    command = ["curl", "-s", "--unix-socket", f"{folder}/s", *headers]
                    command.append("http://outside.example/v1/batches")
                    said = subprocess.run(command, capture_output=True, check=True).stdout
                    self.assertEqual(json.loads(said)["code"], "protected_mode", (way, headers))


class NarrowDaemon(Daemon):
    """It may have 512 files open."""

    def command(self) -> list[str]:
        return ["sh", "-c", 'ulimit -n 512; exec "$0" "$@"', *super().command()]


class ConnectionTests(DaemonTestCase):
    """As many files open as the system allows."""

    def test_idle_ones(self) -> None:
        """Idle connections to one port leave room for the other, and for who comes next."""
        daemon = NarrowDaemon(Path(tempfile.mkdtemp(prefix="bw")))
        self.addCleanup(daemon.__exit__)
        idle = [
            connect(daemon.intake, f"127.0.1.{client}") for client in range(6) for _ in range(100)
        ]
        for one in idle:
            self.addCleanup(one.close)
        log = "connections are refused"
        until(lambda: log in daemon.log.read_text())
        with connect(daemon.files, "127.0.0.1") as one:
            one.sendall(b"GET /no HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertIn(b" 404 ", one.recv(100))
        for one in idle:
            one.close()

        def lives() -> bool:
            try:
                return answer(f"{daemon.api}/healthz")[0] == 200
            except OSError:  # turned away without a word
                return False

        until(lives)
        batch = daemon.post({"download": self.urls()})
        self.assertEqual(daemon.wait(batch["task_id"])["status"], "done")
        self.assertEqual(daemon.log.read_text().count(log), 1)
        with urllib.request.urlopen(f"{daemon.api}/metrics") as metrics:
            self.assertIn(b"bulkwav_api_refused_total", metrics.read())
