"""The role ``worker``: downloads parts, makes their zips, sends callbacks."""

import hashlib
import socket

from twisted.application.service import Service

from twisted_bulk.archive.pack_threads import PackThreads
from twisted_bulk.consumer.runner import Runner
from twisted_bulk.consumer.slots import PartSlots, Slots
from twisted_bulk.download import Downloader
from twisted_bulk.downloads.attempt import Fetcher
from twisted_bulk.downloads.body import BodyLimits
from twisted_bulk.downloads.host_backoff import HostBackoff
from twisted_bulk.downloads.limits import Limits, SharedLimits
from twisted_bulk.http_client.agent import UnkeptAgent
from twisted_bulk.jobs.cluster import Cluster
from twisted_bulk.jobs.model import Alone
from twisted_bulk.node.outgoing import make_agent
from twisted_bulk.node.wiring import Wiring
from twisted_bulk.notify.notifier import Notifier
from twisted_bulk.notify.sender import Sender
from twisted_bulk.notify.signer import load_signer
from twisted_bulk.parts.maker import PartMaker
from twisted_bulk.storage.workspace import Workspace

PACK_THREADS = 2  # that compress and write members
MAX_CALLBACKS = 200  # last callbacks on their way at once
MAX_CALLBACKS_HELD = 2000  # last callbacks taken from the queue, those that wait included
MAX_PARTS_HELD = 256  # parts taken from the queue, those that wait for their sources included


def add_worker(wiring: Wiring) -> None:
    """Add a worker to a node.

    :raises ConfigError: a setting cannot be used
    """
    WorkerRole(wiring).add()


class WorkerRole:
    """The parts of a worker; they share one HTTP agent, one workspace and one set of threads."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._settings = wiring.settings
        self._reactor = wiring.reactor
        self._workspace = wiring.folders.enlist()
        self._cluster = Cluster(wiring.store.store)
        self._agent = make_agent(wiring)
        self._threads = PackThreads(self._reactor, PACK_THREADS)
        self._backoff = HostBackoff(self._cluster, self._reactor, self._settings.per_host)

    def add(self) -> None:
        """Make all parts, and add them in the order in which they start."""
        wiring = self._wiring
        limits = self._limits()
        downloader = self._downloader(limits)
        maker = PartMaker(
            wiring.parts,
            downloader,
            self._threads,
            self._workspace,
            self._reactor,
            self._settings.part_bytes,
            wiring.space,
            self._settings.retry_on,
        )
        notifier = self._notifier(maker)
        parts = self._part_runner(maker)
        if isinstance(limits, SharedLimits):
            wiring.add(limits)
        for part in (_Closing(self._workspace), self._threads, self._agent, self._backoff):
            wiring.add(part)
        wiring.add(downloader)
        wiring.daemon.drain = self._settings.drain
        wiring.daemon.busy.append(lambda: (parts.held, "zips"))
        if not self._settings.quarantine:
            callbacks = self._callback_runner(notifier)
            wiring.daemon.busy.append(lambda: (callbacks.held, "callbacks"))
            wiring.add(callbacks)
        wiring.add(notifier)
        wiring.add(parts)

    def _limits(self) -> Limits:
        settings = self._settings
        if not settings.workers:
            return Limits(settings.concurrency, self._backoff.allowed)
        # The processes of one node share its downloads. They have one data folder.
        scope = hashlib.sha256(f"{socket.gethostname()}:{settings.data}".encode()).hexdigest()
        return SharedLimits(
            self._cluster,
            scope[:16],
            self._workspace.worker,
            self._reactor,
            settings.concurrency,
            self._backoff.allowed,
        )

    def _downloader(self, limits: Limits) -> Downloader:
        settings = self._settings
        patience = BodyLimits(settings.idle_timeout, settings.min_speed, most=settings.member_bytes)
        return Downloader(
            Fetcher(
                self._agent,
                self._reactor,
                settings.header_timeout,
                patience,
                settings.max_redirects,
            ),
            self._reactor,
            limits=limits,
            retries=settings.retries,
            member_timeout=settings.member_timeout,
            host_patience=settings.host_patience,
            most_waiting=self._wiring.shares.waiting,
            backoff=self._backoff,
        )

    def _notifier(self, maker: PartMaker) -> Notifier:
        settings = self._settings
        sender = Sender(
            self._agent,
            UnkeptAgent(self._agent),
            self._reactor,
            load_signer(settings.secret, settings.data),
        )
        return Notifier(
            self._wiring.parts,
            sender,
            self._reactor,
            reporter=self._workspace.worker,
            every=settings.notify_every,
            link_base=lambda: self._wiring.ports.link_base,
            reporting=maker.reporting,
            processes=1 + settings.workers,
        )

    def _part_runner(self, maker: PartMaker) -> Runner:
        wiring, settings = self._wiring, self._settings
        most = max(settings.parts, min(MAX_PARTS_HELD, wiring.shares.parts))
        runner = Runner(
            wiring.parts,
            maker,
            self._reactor,
            slots=PartSlots(settings.parts, most),
            alone=self._alone(),
            hours=settings.no_run,
            able=lambda: "room on the disk" if wiring.space.is_full else "",
            worker=self._workspace.worker,
            drain=settings.drain,
            spool=self._workspace.path,
        )
        wiring.space.listen(runner.wake)
        return runner

    def _callback_runner(self, notifier: Notifier) -> Runner:
        most = min(MAX_CALLBACKS_HELD, self._wiring.shares.callbacks)
        return Runner(
            self._wiring.callbacks,
            notifier.last.deliver,
            self._reactor,
            slots=Slots(min(MAX_CALLBACKS, most), most),
            worker=self._workspace.worker,
            drain=self._settings.drain,
            spool=self._workspace.path,
        )

    def _alone(self) -> Alone:
        """How this process runs suspects: child processes do it where there can be any."""
        if self._settings.quarantine:
            return Alone.WATCHED
        return Alone.NO if self._wiring.store.store.capabilities.processes else Alone.YES


class _Closing(Service):
    """Removes the workspace when everything that uses it has stopped."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def stopService(self) -> None:
        self._workspace.close()
