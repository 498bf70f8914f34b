"""The parts of a node that its roles share, each made once: folders, queue, disk, janitor."""

import re
import socket
from typing import Any
from urllib.parse import urlsplit

from twisted.application.service import IService

from twisted_bulk.brokers.redis import Redis
from twisted_bulk.brokers.redis_memory import RedisMemory
from twisted_bulk.brokers.services import store_service
from twisted_bulk.brokers.store import Capabilities
from twisted_bulk.dialing.guard import Guard
from twisted_bulk.errors import ConfigError
from twisted_bulk.http_server.access_log import AccessLog
from twisted_bulk.http_server.connection_limits import Budget
from twisted_bulk.http_server.site import BoundedSite
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.jobs.scripted import ScriptedQueue
from twisted_bulk.node.daemon import Daemon
from twisted_bulk.node.listening import Listener, Ports
from twisted_bulk.node.settings import Settings
from twisted_bulk.node.values import Role
from twisted_bulk.parts.janitor import Janitor
from twisted_bulk.storage.folders import DataFolders
from twisted_bulk.system.disk_space import DiskSpace
from twisted_bulk.system.process import files_allowed, share_files

MAX_BACKLOG = 4096  # connections that the kernel keeps until they are accepted; then it refuses


class Wiring:
    """The shared parts of one node. Nothing runs before ``daemon`` is started.

    ``parts``: the queue of parts of batches. ``callbacks``: the queue of last callbacks.
    ``guard``: which addresses downloads and callbacks may reach.
    ``shares``: how many open files each use may have. ``memory``: None: the broker is not Redis.

    :raises ConfigError: two settings do not go together, or one cannot be used
    """

    def __init__(self, settings: Settings, reactor: Any) -> None:
        self.settings = settings
        self.reactor = reactor
        self.daemon = Daemon(reactor)
        self.folders = DataFolders(settings.data, settings.public_group)
        self.ports = Ports(settings)
        self.shares = share_files(files_allowed())
        self.budget = Budget(self.shares.connections)
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
        self.parts = GroupQueue(store, "parts", settings.queue_cap, self.callbacks)
        self.guard = Guard(
            settings.allow_net,
            settings.allow_ports,
            own=self.ports.own,
            queue=self.store.ports,
            names=(socket.gethostname(), urlsplit(settings.public_url).hostname or ""),
        )
        self.space = self._disk_space()
        self.add(self.space)
        self.janitor = self._janitor()

    def _disk_space(self) -> DiskSpace:
        settings = self.settings
        back, soft, hard = settings.disk_back, settings.disk_soft, settings.disk_hard
        if not back < soft <= hard:
            raise ConfigError("disk_soft: needs disk_back < disk_soft <= disk_hard")
        return DiskSpace(settings.data, self.reactor, back, soft, hard)

    def _janitor(self) -> Janitor:
        settings = self.settings
        shared = {"max_doing": settings.cluster_parts, "qps": settings.parts_per_second}
        return Janitor(
            self.parts,
            [self.callbacks],
            self.folders,
            self.reactor,
            settings.keep,
            {name: value for name, value in shared.items() if value},
            is_disk_tight=lambda: self.space.is_tight,
            is_memory_short=lambda: self.memory is not None and self.memory.is_short,
        )

    def add(self, service: Any) -> None:
        """Add a service to the daemon: the last one added is the first one stopped."""
        self.daemon.addService(IService(service))

    def listen(self, key: str, endpoint: str, site: BoundedSite) -> None:
        """Serve ``site`` on an endpoint.

        :param key: name of the setting that has the endpoint
        :raises ConfigError: the endpoint cannot be used
        """
        if endpoint.startswith("haproxy:"):
            # Twisted would read the header after the address was counted.
            raise ConfigError(f"{key}: for PROXY headers use proxy_protocol and trusted_proxy")
        if re.match(r"tcp6?:", endpoint) and "backlog=" not in endpoint:
            # Twisted's number is 50: of a thousand clients at once most would be refused.
            endpoint += f":backlog={MAX_BACKLOG}"
        try:
            self.add(Listener(self.reactor, endpoint, site, key, self.ports))
        except Exception as error:  # parsers of endpoints and OpenSSL raise any exception
            raise ConfigError(f"{key}: not an endpoint that can be opened: {error}") from None

    def add_access_log(self) -> None:
        """Write the access log, if a setting names its file."""
        if not self.settings.access_log:
            return
        try:
            self.add(AccessLog(self.settings.access_log))
        except OSError as error:
            raise ConfigError(f"access_log: cannot open it: {error}") from None


def _check_broker(settings: Settings, capabilities: Capabilities) -> None:
    """:raises ConfigError: a setting needs something that the broker does not have"""
    if settings.broker and settings.redis != "embedded":
        raise ConfigError("broker: give either it or redis, not both")
    if capabilities.processes:
        return
    if settings.workers:
        raise ConfigError("workers: other processes cannot reach broker memory:")
    if not {Role.INTAKE, Role.WORKER} <= settings.roles:
        raise ConfigError("roles: broker memory: needs intake and worker in one process")
