"""The parts of a node, and how they hang together: the only place that knows."""

import hashlib
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.ssl import Certificate

from twisted_bulk.api.intake import Intake
from twisted_bulk.api.manifest import Manifests
from twisted_bulk.api.tokens import Access
from twisted_bulk.archive.pack_threads import PackThreads
from twisted_bulk.brokers.embedded import Embedded
from twisted_bulk.brokers.redis import Redis
from twisted_bulk.brokers.redis_memory import RedisMemory
from twisted_bulk.brokers.store import Capabilities
from twisted_bulk.consumer.runner import Runner
from twisted_bulk.consumer.slots import PartSlots, Slots
from twisted_bulk.download import Downloader
from twisted_bulk.downloads.attempt import Fetcher
from twisted_bulk.downloads.body import BodyLimits
from twisted_bulk.downloads.host_backoff import HostBackoff
from twisted_bulk.downloads.limits import Limits, SharedLimits
from twisted_bulk.errors import ConfigError
from twisted_bulk.files.resource import Files
from twisted_bulk.files.status import FilePort
from twisted_bulk.files.timer import ThrottleTimer
from twisted_bulk.http_client.agent import AnyEncodingAgent, GuardedAgent
from twisted_bulk.http_client.guard import Guard
from twisted_bulk.http_client.pool import MAX_IDLE
from twisted_bulk.http_client.proxy_url import parse_proxy
from twisted_bulk.http_server.clients import Clients
from twisted_bulk.http_server.connection_limits import Budget, ConnectionLimits
from twisted_bulk.http_server.site import MAX_CONNECTIONS, MAX_CONNECTIONS_OF_CLIENT, BoundedSite
from twisted_bulk.jobs.cluster import Cluster
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.jobs.model import Alone
from twisted_bulk.jobs.quiet_hours import ALWAYS
from twisted_bulk.jobs.scripted import ScriptedQueue
from twisted_bulk.node.daemon import Daemon
from twisted_bulk.node.listening import Listener, Ports
from twisted_bulk.node.quarantine import Quarantine
from twisted_bulk.node.settings import Settings
from twisted_bulk.node.worker_processes import WorkerProcesses
from twisted_bulk.notify.last_callbacks import MAX_TRIES
from twisted_bulk.notify.notifier import Notifier
from twisted_bulk.notify.sender import Sender
from twisted_bulk.notify.signer import load_signer
from twisted_bulk.parts.janitor import Janitor
from twisted_bulk.parts.maker import PartMaker
from twisted_bulk.queue import store_service
from twisted_bulk.storage.folders import DataFolders
from twisted_bulk.storage.workspace import Workspace
from twisted_bulk.system.access_log import AccessLog
from twisted_bulk.system.disk_space import DiskSpace
from twisted_bulk.system.process import files_allowed, share_files
from twisted_bulk.throttle import Throttle
from twisted_bulk.web import Api

PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
PACK_THREADS = 2
CALLBACKS = 200  # last callbacks being delivered at once
CALLBACKS_WAITING = 2000  # the same, with those that wait for their receiver
PARTS = 256  # parts in progress in one process, with those that wait for their sources
QUARANTINED = 4  # of a node's downloads a process for suspects has one in so many
BACKLOG = 4096  # connections that wait to be accepted
MAX_FILES_BODY = 64 * 1024  # a request to the file port has no use for one


class Wiring:
    """The parts of one node, each made once and named once."""

    def __init__(self, settings: Settings, reactor: Any) -> None:
        self.settings = settings
        self.reactor = reactor
        self.daemon = Daemon(reactor)
        self.folders = DataFolders(settings.data, settings.public_group)
        self.ports = Ports(settings)
        self.shares = share_files(files_allowed())
        self.budget = Budget(self.shares.connections)
        self.port: FilePort | None = None
        broker = settings.broker or settings.redis
        self.store = store_service(reactor, broker, settings.data / "redis", settings.redis_memory)
        self.add(self.store)
        store = self.store.store
        self.memory: RedisMemory | None = None
        if isinstance(store, Redis):
            self.memory = RedisMemory(store, reactor)
            self.add(self.memory)
        _check_broker(settings, store.capabilities)
        self.callbacks = ScriptedQueue(store, "callbacks")
        marks = settings.disk_back, settings.disk_soft, settings.disk_hard
        if not marks[0] < marks[1] <= marks[2]:
            raise ConfigError("disk_soft: needs disk_back < disk_soft <= disk_hard")
        self.space = DiskSpace(settings.data, reactor, *marks)
        self.add(self.space)
        self.parts = GroupQueue(store, "parts", settings.queue_cap, self.callbacks)
        shared = {"max_doing": settings.cluster_parts, "qps": settings.parts_per_second}
        self.janitor = Janitor(
            self.parts,
            [self.callbacks],
            self.folders,
            reactor,
            settings.keep,
            {name: value for name, value in shared.items() if value},
            is_disk_tight=lambda: self.space.is_tight,
            is_memory_short=lambda: self.memory is not None and self.memory.is_short,
        )

    def add(self, part: Any) -> None:
        self.daemon.addService(part)

    def listen(self, key: str, endpoint: str, site: BoundedSite) -> None:
        """Open a port; ``key`` is the name of its setting."""
        if endpoint.startswith("haproxy:"):
            # Its header would be read after the address was counted.
            raise ConfigError(f"{key}: for PROXY headers use proxy_protocol and trusted_proxy")
        if re.match(r"tcp6?:", endpoint) and "backlog=" not in endpoint:
            endpoint += f":backlog={BACKLOG}"  # Twisted's 50 turns a thousand clients away
        try:
            self.add(Listener(self.reactor, endpoint, site, key, self.ports))
        except Exception as error:  # whatever an endpoint's parser, or OpenSSL, may raise
            raise ConfigError(f"{key}: not an endpoint that can be opened: {error}") from None

    def files(self) -> None:
        settings = self.settings
        if settings.proxy_protocol and settings.files.startswith("ssl:"):
            raise ConfigError(
                "proxy_protocol: its header comes before TLS; let the proxy end TLS, not `files`"
            )
        clients = Clients(
            settings.ipv6_prefix,
            settings.exempt_net,
            settings.trusted_proxy,
            settings.proxy_protocol,
        )
        timer = ThrottleTimer(Throttle(settings.rate, settings.total_rate), self.reactor)
        files = Files(self.folders, timer, clients)
        each = min(settings.per_address, self.shares.connections // 4)
        limits = ConnectionLimits(settings.max_connections, each, self.budget)
        site = BoundedSite(files, self.reactor, MAX_FILES_BODY, limits, clients)
        self.port = FilePort(site, files.transfers)
        self.listen("files", settings.files, site)

    def access_log(self) -> None:
        try:
            self.add(AccessLog(self.settings.access_log))
        except OSError as error:
            raise ConfigError(f"access_log: cannot open it: {error}") from None

    def _child(self, **more: str) -> dict[str, str]:
        """The environment of a worker process, with these settings and this Redis."""
        settings = self.settings
        given = {**settings.given, "data": str(settings.data), "roles": "worker"}
        given |= {"own_ports": ",".join(map(str, sorted(self.ports.own)))}
        given |= {"public_url": self.ports.link_base, "log_format": "json"}
        given |= {"workers": str(settings.workers), "lifeline": "yes"}
        # Set for everybody by this process; a worker that starts anew must not undo a change.
        given |= {"cluster_parts": "0", "parts_per_second": "0"}
        if isinstance(self.store, Embedded):
            given["redis"] = self.store.url
        return {f"BULKWAV_{name.upper()}": text for name, text in (given | more).items()}

    def workers(self) -> None:
        """Further worker processes."""
        settings = self.settings
        workers = WorkerProcesses(self.reactor, settings.workers, self._child, settings.drain)
        self.add(workers)
        self.daemon.warned.append(workers.warn)

    def quarantine(self) -> None:
        """Processes for jobs that may have killed their worker."""
        settings = self.settings
        more = {"quarantine": "yes"}
        if not settings.workers:  # else they share this node's downloads
            more["concurrency"] = str(-(-settings.concurrency // QUARANTINED))
        quarantine = Quarantine(
            self.reactor,
            self.parts,
            lambda: self._child(**more),
            settings.drain,
            self.folders.worker_of,
            self.janitor.reclaim_from,
        )
        self.add(quarantine)
        self.daemon.warned.append(quarantine.warn)

    def agent(self) -> GuardedAgent:
        """What everything outgoing goes through."""
        settings = self.settings
        authorities = []
        if settings.ca:
            try:
                authorities = [
                    Certificate.loadPEM(found).original
                    for found in PEM.findall(Path(settings.ca).read_bytes())
                ]
            except (OSError, SSL.Error) as error:
                raise ConfigError(f"ca: cannot use {settings.ca}: {error}") from None
            if not authorities:
                raise ConfigError(f"ca: {settings.ca} has no certificate in PEM form")
        return GuardedAgent(
            self.reactor,
            Guard(
                settings.allow_net,
                settings.allow_ports,
                own=self.ports.own,
                queue=self.store.ports,
                names=(socket.gethostname(), urlsplit(settings.public_url).hostname or ""),
            ),
            settings.per_host,
            dns_timeout=settings.dns_timeout,
            connect_timeout=settings.connect_timeout,
            authorities=authorities,
            proxy=parse_proxy(settings.proxy) if settings.proxy else None,
            idle=min(MAX_IDLE, self.shares.idle),
        )

    def worker(self) -> None:
        settings, reactor = self.settings, self.reactor
        workspace = self.folders.enlist()
        threads = PackThreads(reactor, PACK_THREADS)
        agent = self.agent()
        cluster = Cluster(self.store.store)
        backoff = HostBackoff(cluster, reactor, settings.per_host)
        limits = Limits(settings.concurrency, backoff.allowed)
        if settings.workers:
            # The processes of a node have its data folder in common.
            scope = hashlib.sha256(f"{socket.gethostname()}:{settings.data}".encode()).hexdigest()
            limits = SharedLimits(
                cluster,
                scope[:16],
                workspace.worker,
                reactor,
                settings.concurrency,
                backoff.allowed,
            )
            self.add(limits)
        patience = BodyLimits(settings.idle_timeout, settings.min_speed, most=settings.member_bytes)
        downloader = Downloader(
            Fetcher(agent, reactor, settings.header_timeout, patience),
            reactor,
            limits=limits,
            retries=settings.retries,
            member_timeout=settings.member_timeout,
            host_patience=settings.host_patience,
            most_waiting=self.shares.waiting,
            backoff=backoff,
        )
        maker = PartMaker(
            self.parts,
            downloader,
            threads,
            workspace,
            reactor,
            settings.part_bytes,
            self.space,
        )
        notifier = Notifier(
            self.parts,
            Sender(
                AnyEncodingAgent(agent),
                AnyEncodingAgent(agent, keep=False),
                reactor,
                load_signer(settings.secret, settings.data),
            ),
            reactor,
            reporter=workspace.worker,
            every=settings.notify_every,
            link_base=lambda: self.ports.link_base,
            reporting=maker.reporting,
            processes=1 + settings.workers,
        )
        common: dict[str, Any] = {
            "worker": workspace.worker,
            "drain": settings.drain,
            "spool": workspace.path,
        }
        parts = Runner(
            self.parts,
            maker,
            reactor,
            slots=PartSlots(settings.parts, max(settings.parts, min(PARTS, self.shares.parts))),
            alone=Alone.WATCHED if settings.quarantine else self._in_process(),
            hours=settings.no_run,
            able=lambda: "room on the disk" if self.space.is_full else "",
            **common,
        )
        self.space.listen(parts.wake)
        self.add(_Closing(workspace))
        for part in (threads, agent, backoff, downloader):
            self.add(part)
        self.daemon.drain = settings.drain
        self.daemon.busy.append(lambda: (parts.held, "zips"))
        if not settings.quarantine:
            most = min(CALLBACKS_WAITING, self.shares.callbacks)
            slots = Slots(min(CALLBACKS, most), most)
            last = Runner(self.callbacks, notifier.last.deliver, reactor, slots=slots, **common)
            self.daemon.busy.append(lambda: (last.held, "callbacks"))
            self.add(last)
        self.add(notifier)
        self.add(parts)

    def _in_process(self) -> Alone:
        """Suspects have processes of their own, where there can be any."""
        return Alone.NO if self.store.store.capabilities.processes else Alone.YES

    def intake(self) -> None:
        settings = self.settings
        intake = Intake(
            self.parts,
            link_base=lambda: self.ports.link_base,
            part_files=settings.part_files,
            compress=settings.compress,
            callback_tries=MAX_TRIES,
            keep=settings.keep,
            deleted=self.janitor.note_change,
            manifests=Manifests(self.folders),
            check=self.space.check,
            claim=self.memory.claim if self.memory is not None else lambda size: None,
            hours=settings.no_run if "worker" in settings.roles else ALWAYS,
        )
        api = Api(
            intake,
            Access.load(settings.tokens, settings.open),
            settings.max_urls,
            load_signer(settings.secret, settings.data).secrets,
            self.port,
            settings.request_rate,
        )
        self.daemon.warned.append(api.stop)
        clients = Clients(settings.ipv6_prefix, proxies=settings.trusted_proxy)
        each = min(MAX_CONNECTIONS_OF_CLIENT, self.shares.connections // 4)
        limits = ConnectionLimits(MAX_CONNECTIONS, each, self.budget)
        api.watch(limits)
        site = BoundedSite(
            api.resource, self.reactor, settings.max_body, limits, clients, api.unwelcome
        )
        self.listen("intake", settings.intake, site)


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
