"""The roles with a port: ``files`` serves zips, ``intake`` takes in batches."""

from urllib.parse import urlsplit

from twisted_bulk.api.tokens import Access
from twisted_bulk.downloads.probe import Prober
from twisted_bulk.errors import ConfigError
from twisted_bulk.files.resource import Files
from twisted_bulk.files.status import FilePort
from twisted_bulk.files.timer import ThrottleTimer
from twisted_bulk.http_server.client_address import Clients
from twisted_bulk.http_server.connection_limits import ConnectionLimits
from twisted_bulk.http_server.site import MAX_CONNECTIONS, MAX_CONNECTIONS_OF_CLIENT, BoundedSite
from twisted_bulk.jobs.quiet_hours import ALWAYS
from twisted_bulk.management.services import Management, manage
from twisted_bulk.node.outgoing import make_agent
from twisted_bulk.node.values import Role
from twisted_bulk.node.wiring import Wiring
from twisted_bulk.notify.last_callbacks import MAX_TRIES
from twisted_bulk.notify.signer import load_signer
from twisted_bulk.throttle import Throttle
from twisted_bulk.web import Api

PROBE_SECONDS = 10.0  # for a member's source to tell its size
MAX_FILES_BODY = 64 * 1024  # bytes of a request's body to the file port, which uses none


def add_files(wiring: Wiring) -> FilePort:
    """Add the file port to a node.

    :raises ConfigError: a setting cannot be used
    """
    settings = wiring.settings
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
    timer = ThrottleTimer(Throttle(settings.rate, settings.total_rate), wiring.reactor)
    files = Files(wiring.folders, timer, clients)
    each = min(settings.per_address, wiring.shares.connections // 4)
    limits = ConnectionLimits(settings.max_connections, each, wiring.budget)
    site = BoundedSite(files, wiring.reactor, MAX_FILES_BODY, limits, clients)
    wiring.listen("files", settings.files, site)
    return FilePort(site, files.transfers)


def add_intake(wiring: Wiring, file_port: FilePort | None) -> None:
    """Add the API to a node.

    :param file_port: this node's file port; None: it has none
    :raises ConfigError: a setting cannot be used
    """
    settings = wiring.settings
    agent = make_agent(wiring)
    wiring.add(agent)
    prober = Prober(agent, wiring.reactor, PROBE_SECONDS, settings.max_redirects)
    management = _management(wiring, prober, file_port)
    public = urlsplit(settings.public_url).hostname or ""
    feed = management.events.feed
    wiring.add(feed)
    wiring.add(management.bulk)
    api = Api(
        management,
        Access.load(settings.tokens, settings.open, (*settings.allow_host, public)),
        settings.max_urls,
        settings.max_body,
        load_signer(settings.secret, settings.data).secrets,
        lambda: {"name": wiring.folders.node, "disk": wiring.space.shown()},
        file_port,
        settings.request_rate,
    )
    wiring.daemon.warned += (api.stop, feed.end)
    clients = Clients(settings.ipv6_prefix, proxies=settings.trusted_proxy)
    each = min(MAX_CONNECTIONS_OF_CLIENT, wiring.shares.connections // 4)
    limits = ConnectionLimits(MAX_CONNECTIONS, each, wiring.budget)
    api.watch(limits)
    site = BoundedSite(
        api.resource, wiring.reactor, settings.max_body, limits, clients, api.unwelcome
    )
    wiring.listen("intake", settings.intake, site)


def _management(wiring: Wiring, prober: Prober, file_port: FilePort | None) -> Management:
    settings, memory = wiring.settings, wiring.memory
    return manage(
        wiring.parts,
        wiring.folders,
        wiring.reactor,
        link_base=lambda: wiring.ports.link_base,
        part_files=settings.part_files,
        compress=settings.compress,
        callback_tries=MAX_TRIES,
        keep=settings.keep,
        check_host=wiring.guard.check_unresolved,
        ask_size=prober.size,
        rate=lambda: file_port.shown()["rate"] if file_port is not None else None,
        deleted=wiring.janitor.note_change,
        check=wiring.space.check,
        claim=memory.claim if memory is not None else lambda size: None,
        hours=settings.no_run if Role.WORKER in settings.roles else ALWAYS,
    )
