"""``twistd bulkwav``: its options, and the only place where the parts are put together."""

import hashlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import IService, MultiService, Service
from twisted.application.strports import service as listen
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python import usage
from twisted.web.resource import Resource

from twisted_bulk import __version__
from twisted_bulk.archive import Packer
from twisted_bulk.brokers import Capabilities
from twisted_bulk.clock import use_monotonic_clock
from twisted_bulk.config import KEYS, Settings, flag, load
from twisted_bulk.download import Downloader
from twisted_bulk.embedded import Embedded
from twisted_bulk.errors import ConfigError
from twisted_bulk.fetch import Fetcher
from twisted_bulk.files import Files
from twisted_bulk.groups import GroupQueue
from twisted_bulk.guard import Guard, GuardedAgent
from twisted_bulk.intake import Intake
from twisted_bulk.janitor import Janitor
from twisted_bulk.limits import Limits, SharedLimits
from twisted_bulk.notify import TRIES, Notifier, Poster, load_secret
from twisted_bulk.part import PartMaker
from twisted_bulk.queue import keeper
from twisted_bulk.runner import Runner
from twisted_bulk.scripted import ScriptedQueue
from twisted_bulk.shelf import Shelf, Workspace
from twisted_bulk.site import BoundedSite
from twisted_bulk.throttle import Throttle, Ticker
from twisted_bulk.web import Access, Api
from twisted_bulk.workers import Lifeline, Workers

log = Logger()

PACKER_THREADS = 2
CALLBACKS = 16  # last callbacks being delivered at once
MAX_FILES_BODY = 64 * 1024  # a request to the file port has no use for one


def _help(name: str) -> str:
    about = KEYS[name].metadata
    default = f" [{about['default']}]" if about["default"] not in ("", "no") else ""
    return f"{about['help']}{default}"


HELP = """
Take batches of URLs over HTTP, fetch them all at once, pack each batch into one zip,
tell a callback how far it is, and hand the zip out at a fixed rate per client address.

    twistd -n bulkwav
    curl http://localhost:10000/v1/batches -H 'Content-Type: application/json' \\
         -d '{"download": ["https://example.com/a.wav"]}'

Every option can also be given in section [bulkwav] of the --config file (dashes become
underscores), and as BULKWAV_<OPTION> in the environment. The command line wins over the
environment, and that over the file.

Sizes: 200k is 200,000 and 200Ki 204,800. Times: 90, 30s, 5m, 2h, 7d. An endpoint is
Twisted's: tcp:10000, tcp:10000:interface=127.0.0.1, unix:/run/bulkwav.sock, ssl:...
Without a pid file: twistd --pidfile= -n bulkwav
"""


class Options(usage.Options):
    """The command line; ``settings`` is what it and the other sources come to."""

    synopsis = "[options]"

    settings: Settings

    optParameters = [
        ["config", "c", None, "file with settings; twistd.conf shows them all"],
        *(
            [name.replace("_", "-"), None, None, _help(name)]
            for name, key in KEYS.items()
            if key.metadata["parse"] is not flag and name != "allow_net"
        ),
    ]
    optFlags = [
        [name.replace("_", "-"), None, _help(name)]
        for name, key in KEYS.items()
        if key.metadata["parse"] is flag
    ]

    def __init__(self) -> None:
        super().__init__()
        self._networks: list[str] = []

    def opt_allow_net(self, network: str) -> None:
        self._networks.append(network)

    opt_allow_net.__doc__ = _help("allow_net")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            sys.exit(f"bulkwav: {error}; see twistd bulkwav --help")

    def getUsage(self, width: int | None = None) -> str:
        return str(super().getUsage(width)) + HELP

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"bulkwav {__version__}")
        sys.exit(0)

    def postOptions(self) -> None:
        given = {
            name: "yes" if key.metadata["parse"] is flag else self[name.replace("_", "-")]
            for name, key in KEYS.items()
            if self.get(name.replace("_", "-"))
        }
        if self._networks:
            given["allow_net"] = ",".join(self._networks)
        try:
            self.settings = load(given, os.environ, self["config"])
        except ConfigError as error:
            sys.exit(f"bulkwav: {error}")


class Daemon(MultiService):
    """All parts; they start in their order and stop, one after the other, in the reverse."""

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self._reactor = reactor
        self.warned: list[Callable[[], object]] = []

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()
        except (CannotListenError, OverflowError) as error:
            sys.exit(f"bulkwav: {error}")

    def startService(self) -> None:
        super().startService()
        log.info("bulkwav {version} runs", version=__version__)
        self._reactor.callWhenRunning(self._take_signals)

    def _take_signals(self) -> None:
        # Twisted's own handler makes the process end by the signal, not with status 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, frame: Any) -> None:
        if not self.running:
            os._exit(128 + number)  # the second one: now
        self._reactor.callFromThread(self._reactor.stop)

    def stopService(self) -> Deferred[None]:
        log.info("stopping")
        for warn in self.warned:
            warn()
        self.running = 0
        return Deferred.fromCoroutine(self._stop(list(reversed(list(self)))))

    async def _stop(self, services: list[IService]) -> None:
        for part in services:
            try:
                await maybeDeferred(part.stopService)
            except Exception:  # whatever it is, the others are stopped as well
                log.failure("stopping {part} failed", part=type(part).__name__)
        log.info("stopped")


class _Wiring:
    """The parts of one node, each made once and named once."""

    def __init__(self, settings: Settings, reactor: Any) -> None:
        self.settings = settings
        self.reactor = reactor
        self.daemon = Daemon(reactor)
        self.shelf = Shelf(settings.data)
        self.store = keeper(reactor, settings.broker or settings.redis, settings.data / "redis")
        self.add(self.store)
        store = self.store.store
        _check_broker(settings, store.capabilities)
        self.callbacks = ScriptedQueue(store, "callbacks")
        self.parts = GroupQueue(store, "parts", settings.queue_cap, self.callbacks)
        shared = {"max_doing": settings.cluster_parts, "qps": settings.parts_per_second}
        self.janitor = Janitor(
            self.parts,
            [self.callbacks],
            self.shelf,
            reactor,
            settings.keep,
            {name: value for name, value in shared.items() if value},
        )

    def add(self, part: Any) -> None:
        self.daemon.addService(part)

    def listen(self, key: str, resource: Resource, max_body: int) -> None:
        site = BoundedSite(resource, self.reactor, max_body)
        try:
            self.add(listen(getattr(self.settings, key), site, reactor=self.reactor))
        except Exception as error:  # whatever an endpoint's parser, or OpenSSL, may raise
            raise ConfigError(f"{key}: not an endpoint that can be opened: {error}") from None

    def files(self) -> None:
        ticker = Ticker(Throttle(self.settings.rate), self.reactor)
        self.listen("files", Files(self.shelf, ticker), MAX_FILES_BODY)

    def workers(self) -> None:
        """Further worker processes, with these settings and this Redis."""
        settings = self.settings
        given = {**settings.given, "data": str(settings.data), "roles": "worker"}
        given |= {"workers": "0", "lifeline": "yes"}
        # Set for everybody by this process; a worker that starts anew must not undo a change.
        given |= {"cluster_parts": "0", "parts_per_second": "0"}
        if isinstance(self.store, Embedded):
            given["redis"] = self.store.url
        environment = {f"BULKWAV_{name.upper()}": text for name, text in given.items()}
        workers = Workers(self.reactor, settings.workers, environment, settings.drain)
        self.add(workers)
        self.daemon.warned.append(workers.warn)

    def worker(self) -> None:
        settings, reactor = self.settings, self.reactor
        workspace = self.shelf.enlist()
        packer = Packer(reactor, PACKER_THREADS)
        guard = Guard(settings.allow_net)
        agent = GuardedAgent(reactor, guard, settings.per_host, settings.connect_timeout)
        limits = Limits(settings.concurrency, settings.per_host)
        if settings.workers or settings.lifeline:
            # The processes of a node have its data folder in common.
            scope = hashlib.sha256(f"{socket.gethostname()}:{settings.data}".encode()).hexdigest()
            limits = SharedLimits(
                self.store.store,
                scope[:16],
                workspace.worker,
                reactor,
                settings.concurrency,
                settings.per_host,
            )
            self.add(limits)
        downloader = Downloader(
            Fetcher(agent, reactor, settings.header_timeout, settings.idle_timeout),
            reactor,
            limits=limits,
            retries=settings.retries,
        )
        maker = PartMaker(self.parts, downloader, packer, workspace, reactor)
        notifier = Notifier(
            self.parts,
            Poster(agent, reactor, load_secret(settings.secret, settings.data)),
            reactor,
            speaker=workspace.worker,
            every=settings.notify_every,
            link_base=settings.link_base,
            reporting=maker.reporting,
        )
        common: dict[str, Any] = {
            "worker": workspace.worker,
            "drain": settings.drain,
            "spool": workspace.path,
        }
        callbacks = Runner(self.callbacks, notifier.deliver, reactor, slots=CALLBACKS, **common)
        parts = Runner(
            self.parts, maker, reactor, slots=settings.parts, hours=settings.no_run, **common
        )
        for part in (_Closing(workspace), packer, agent, downloader, callbacks, notifier, parts):
            self.add(part)

    def intake(self) -> None:
        settings = self.settings
        intake = Intake(
            self.parts,
            link_base=settings.link_base,
            part_files=settings.part_files,
            compress=settings.compress,
            callback_tries=TRIES,
            keep=settings.keep,
            deleted=self.janitor.poke,
        )
        api = Api(intake, Access.load(settings.tokens, settings.open), settings.max_urls)
        self.daemon.warned.append(api.stop)
        self.listen("intake", api.app.resource(), settings.max_body)


def _check_broker(settings: Settings, capabilities: Capabilities) -> None:
    """:raises ConfigError: a setting asks for what the broker cannot do"""
    if settings.broker and settings.redis != "embedded":
        raise ConfigError("broker: give either it or redis, not both")
    if capabilities.processes:
        return
    if settings.workers:
        raise ConfigError("workers: other processes cannot reach broker memory:")
    if not {"intake", "worker"} <= settings.roles:
        raise ConfigError("roles: broker memory: needs intake and worker in one process")


class _Closing(Service):
    """Removes the workspace once everything that uses it has stopped."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def stopService(self) -> None:
        self._workspace.close()


def build(settings: Settings, reactor: Any) -> Daemon:
    """Put the node together, as its roles say. Nothing runs yet.

    :raises ConfigError: something that a setting names cannot be used
    """
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
        wiring = _Wiring(settings, reactor)
        # What starts last stops first: the API, then the work, and last the queue.
        if settings.workers:
            wiring.workers()
        for role in ("files", "worker"):
            if role in settings.roles:
                getattr(wiring, role)()
        wiring.add(wiring.janitor)
        if "intake" in settings.roles:
            wiring.intake()
    except OSError as error:
        raise ConfigError(f"data: cannot use {settings.data}: {error}") from None
    return wiring.daemon


def makeService(options: Options) -> Daemon:
    """What twistd runs."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    try:
        daemon = build(options.settings, reactor)
    except ConfigError as error:
        sys.exit(f"bulkwav: {error}")
    if options.settings.lifeline:
        Lifeline(reactor)
    return daemon
