"""A file port on loopback that serves one zip."""

import random
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from tests.support.certificates import authority, issue
from tests.support.published_zip import publish
from tests.support.reactor import reactor
from tests.support.redis_servers import need
from twisted_bulk.files.resource import Files
from twisted_bulk.files.timer import ThrottleTimer
from twisted_bulk.http_server.client_address import Clients
from twisted_bulk.http_server.connection_limits import ConnectionLimits
from twisted_bulk.http_server.site import BoundedSite
from twisted_bulk.storage.folders import DataFolders
from twisted_bulk.system.net import Network
from twisted_bulk.throttle import Throttle

BODY = random.Random(3).randbytes(300_000)


class FilesTestCase(TestCase):
    """One zip (its content does not matter here) behind a real port."""

    timeout = 60
    rate = 0
    exempt: tuple[Network, ...] = ()
    proxies: tuple[Network, ...] = ()
    announced = False

    def setUp(self) -> None:
        self.folders = DataFolders(Path(tempfile.mkdtemp(prefix="bw")))
        self.link = publish(self.folders, BODY)
        self.timer = ThrottleTimer(Throttle(self.rate), reactor)
        clients = Clients(64, self.exempt, self.proxies, self.announced)
        self.files = files = Files(self.folders, self.timer, clients)
        self.limits = ConnectionLimits(40, 20)
        self.site = site = BoundedSite(files, reactor, 1000, self.limits, clients)
        self.port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port.getHost().port}/"
        self.addCleanup(self.port.stopListening)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.idle()))
        pool = HTTPConnectionPool(reactor)
        self.addCleanup(pool.closeCachedConnections)
        self.client = HTTPClient(Agent(reactor, pool=pool))

    async def idle(self) -> None:
        """Wait until nobody is served and no address is remembered any more."""
        while len(self.timer.throttle):
            await deferLater(reactor, 0.01)

    def listen_tls(self) -> int:
        """The same site over TLS; returns its port."""
        context = issue(*authority("ours"), "localhost")
        port: Any = reactor.listenSSL(0, self.site, context, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        found: int = port.getHost().port
        return found

    async def get(self, path: str | None = None, method: str = "GET", **headers: str) -> Any:
        path = self.link if path is None else path
        given: Any = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.client.request(method, self.url + path, headers=given)
        return answer, await answer.content()

    async def run_client(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        done: subprocess.CompletedProcess[bytes] = await deferToThread(
            subprocess.run, [need(words[0]), *words[1:]], capture_output=True, timeout=50
        )
        return done
