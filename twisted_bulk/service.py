"""Makes the service of ``twistd bulkwav``."""

import os
import resource
import sys
import tempfile
from typing import Any

from twisted_bulk.errors import ConfigError
from twisted_bulk.node.child_roles import add_child_processes
from twisted_bulk.node.daemon import Daemon, Lifeline
from twisted_bulk.node.options import Options
from twisted_bulk.node.port_roles import add_files, add_intake
from twisted_bulk.node.settings import Settings
from twisted_bulk.node.values import Role
from twisted_bulk.node.wiring import Wiring
from twisted_bulk.node.worker_role import add_worker
from twisted_bulk.system.data_folder import UMASK, check_formats, tighten
from twisted_bulk.system.process import use_monotonic_clock


def build(settings: Settings, reactor: Any) -> Daemon:
    """Put the node together for its roles. Nothing runs yet.

    :raises ConfigError: a setting cannot be used
    """
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
        tighten(settings.data, settings.public_group)
        check_formats(settings.data)
        # Large bodies of requests go to the disk that is watched. /tmp may be memory.
        tempfile.tempdir = str(settings.data)
        wiring = Wiring(settings, reactor)
        # The last service added is stopped first: first the API, then the work, then the queue.
        wiring.add_access_log()
        add_child_processes(wiring)
        file_port = add_files(wiring) if Role.FILES in settings.roles else None
        if Role.WORKER in settings.roles:
            add_worker(wiring)
        wiring.add(wiring.janitor)
        if Role.INTAKE in settings.roles:
            add_intake(wiring, file_port)
    except OSError as error:
        raise ConfigError(f"data: cannot use {settings.data}: {error}") from None
    return wiring.daemon


def makeService(options: Options) -> Daemon:
    """Make the service; twistd calls this."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    os.umask(UMASK)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # as many open files as allowed
    try:
        daemon = build(options.settings, reactor)
    except ConfigError as error:
        sys.exit(f"bulkwav: {error}")
    if options.settings.lifeline:
        Lifeline(reactor)
    return daemon
