"""``twistd bulkwav``: what twistd runs."""

import os
import resource
import sys
import tempfile
from typing import Any

from twisted_bulk.errors import ConfigError
from twisted_bulk.node.daemon import Daemon
from twisted_bulk.node.options import Options
from twisted_bulk.node.settings import Settings
from twisted_bulk.node.wiring import Wiring
from twisted_bulk.node.worker_processes import Lifeline
from twisted_bulk.system.data_folder import UMASK, check_formats, tighten
from twisted_bulk.system.process import use_monotonic_clock


def build(settings: Settings, reactor: Any) -> Daemon:
    """Put the node together, as its roles say. Nothing runs yet.

    :raises ConfigError: something that a setting names cannot be used
    """
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
        tighten(settings.data, settings.public_group)
        check_formats(settings.data)
        # Large requests' bodies: on the disk that is watched, and not in /tmp, which may be memory.
        tempfile.tempdir = str(settings.data)
        wiring = Wiring(settings, reactor)
        # What starts last stops first: the API, then the work, and last the queue.
        if settings.access_log:
            wiring.access_log()
        if not settings.lifeline:  # else it is such a process itself
            if settings.workers:
                wiring.workers()
            if "worker" in settings.roles and wiring.store.store.capabilities.processes:
                wiring.quarantine()
        if "files" in settings.roles:
            wiring.files()
        if "worker" in settings.roles:
            wiring.worker()
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
    os.umask(UMASK)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # as many files as we may
    try:
        daemon = build(options.settings, reactor)
    except ConfigError as error:
        sys.exit(f"bulkwav: {error}")
    if options.settings.lifeline:
        Lifeline(reactor)
    return daemon
