"""The HTTP client of a node's outgoing requests, by its settings."""

import re
from pathlib import Path

from OpenSSL import SSL, crypto
from twisted.internet.ssl import Certificate

from twisted_bulk.dialing.proxy import parse_proxy
from twisted_bulk.dialing.tls import TLSPolicy
from twisted_bulk.errors import ConfigError
from twisted_bulk.http_client.agent import GuardedAgent
from twisted_bulk.http_client.pool import MAX_IDLE
from twisted_bulk.node.wiring import Wiring

PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def make_agent(wiring: Wiring) -> GuardedAgent:
    """The HTTP client of all outgoing requests of a node.

    :raises ConfigError: a setting cannot be used
    """
    settings = wiring.settings
    return GuardedAgent(
        wiring.reactor,
        wiring.guard,
        settings.per_host,
        dns_timeout=settings.dns_timeout,
        connect_timeout=settings.connect_timeout,
        tls=TLSPolicy(_authorities(settings.ca), settings.trust),
        proxy=parse_proxy(settings.proxy) if settings.proxy else None,
        idle=min(MAX_IDLE, wiring.shares.idle),
    )


def _authorities(path: str) -> list[crypto.X509]:
    """The certificates in a file; an empty path has none.

    :raises ConfigError: the file cannot be read, or has none
    """
    if not path:
        return []
    try:
        found = PEM.findall(Path(path).read_bytes())
        authorities = [Certificate.loadPEM(each).original for each in found]
    except (OSError, SSL.Error, crypto.Error) as error:
        raise ConfigError(f"ca: cannot use {path}: {error}") from None
    if not authorities:
        raise ConfigError(f"ca: {path} has no certificate in PEM form")
    return authorities
