"""The processes that a node starts: further workers, and workers for suspect jobs."""

from twisted_bulk.brokers.embedded import Embedded
from twisted_bulk.node.quarantine import Quarantine
from twisted_bulk.node.values import Role
from twisted_bulk.node.wiring import Wiring
from twisted_bulk.node.worker_processes import WorkerProcesses

QUARANTINE_DIVISOR = 4  # a process for suspects has a fourth of the node's downloads


def add_child_processes(wiring: Wiring) -> None:
    """Add the processes that the node's settings ask for.

    A process that was itself started by a node has none.
    """
    settings = wiring.settings
    if settings.lifeline:
        return
    if settings.workers:
        _add_workers(wiring)
    if Role.WORKER in settings.roles and wiring.store.store.capabilities.processes:
        _add_quarantine(wiring)


def child_settings(wiring: Wiring, **more: str) -> dict[str, str]:
    """The environment variables of a child process: this node's settings, this node's Redis.

    :param more: settings that differ, by key
    """
    settings = wiring.settings
    given = {**settings.given, "data": str(settings.data), "roles": Role.WORKER.value}
    given |= {"own_ports": ",".join(map(str, sorted(wiring.ports.own)))}
    given |= {"public_url": wiring.ports.link_base, "log_format": "json"}
    given |= {"workers": str(settings.workers), "lifeline": "yes"}
    # This process has set them in the queue. A child that starts later must not set them back.
    given |= {"cluster_parts": "0", "parts_per_second": "0"}
    if isinstance(wiring.store, Embedded):
        given["redis"] = wiring.store.url
    return {f"BULKWAV_{name.upper()}": text for name, text in (given | more).items()}


def _add_workers(wiring: Wiring) -> None:
    settings = wiring.settings
    workers = WorkerProcesses(
        wiring.reactor, settings.workers, lambda: child_settings(wiring), settings.drain
    )
    wiring.add(workers)
    wiring.daemon.warned.append(workers.warn)


def _add_quarantine(wiring: Wiring) -> None:
    settings, more = wiring.settings, {"quarantine": "yes"}
    if not settings.workers:  # else all processes of the node share its downloads
        more["concurrency"] = str(-(-settings.concurrency // QUARANTINE_DIVISOR))
    quarantine = Quarantine(
        wiring.reactor,
        wiring.parts,
        lambda: child_settings(wiring, **more),
        settings.drain,
        wiring.folders.worker_of,
        wiring.janitor.reclaim_from,
    )
    wiring.add(quarantine)
    wiring.daemon.warned.append(quarantine.warn)
