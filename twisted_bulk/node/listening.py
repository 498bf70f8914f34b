"""The ports of this node: their numbers, and the URL that links begin with."""

import re
import socket
from typing import Any

from twisted.application.internet import StreamServerEndpointService
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from twisted_bulk.errors import ConfigError
from twisted_bulk.node.settings import Settings

log = Logger()

#: How the log calls the ports, by their settings.
WHAT = {"intake": "the API, and the page for browsers", "files": "the zips"}


def number_in(endpoint: str) -> int | None:
    """The TCP port in the description of an endpoint; None: it has none."""
    words = re.split(r"(?<!\\):", endpoint)
    if words[0] not in ("tcp", "tcp6", "ssl"):
        return None
    named = [word.removeprefix("port=") for word in words[1:] if word.startswith("port=")]
    number = (named + [word for word in words[1:] if "=" not in word] + [""])[0]
    return int(number) if number.isdecimal() else None


class Ports:
    """The ports of this node.

    ``own``: the TCP ports in the settings and the open ones. Downloads never reach them on this
    host.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        named = (number_in(settings.intake), number_in(settings.files))
        self.own: set[int] = {port for port in named if port} | settings.own_ports
        scheme = "https" if settings.files.startswith("ssl:") else "http"
        self._files = f"{scheme}://{socket.gethostname()}:{named[1] or 10001}"

    @property
    def link_base(self) -> str:
        """The URL that links begin with, without a slash at its end."""
        return self._settings.public_url or self._files

    def opened(self, key: str, port: IListeningPort) -> None:
        """Take note of a port that was opened.

        :param key: ``intake`` or ``files``
        :raises ConfigError: links to the port cannot be made
        """
        where: Any = port.getHost()
        if isinstance(where, IPv4Address | IPv6Address):
            self.own.add(where.port)
            log.info("{what}: {url}", what=WHAT[key], url=_url(port))
        if key != "files" or self._settings.public_url:
            return
        if not isinstance(where, IPv4Address | IPv6Address):
            raise ConfigError(
                "public_url: needed where `files` is no TCP port: links begin with it"
            )
        self._files = _url(port)


def _url(port: IListeningPort) -> str:
    """The URL of a port. Of one on all addresses it has the name of the machine."""
    where: Any = port.getHost()
    host = where.host if where.host not in ("0.0.0.0", "::") else socket.gethostname()
    host = f"[{host}]" if ":" in host else host
    tls = isinstance(getattr(port, "factory", None), TLSMemoryBIOFactory)
    return f"{'https' if tls else 'http'}://{host}:{where.port}"


class Listener(StreamServerEndpointService):
    """Listens on an endpoint for as long as the service runs.

    :param endpoint: its description
    :param factory: of the protocols of its connections
    :param key: ``intake`` or ``files``
    """

    def __init__(self, reactor: Any, endpoint: str, factory: Any, key: str, ports: Ports) -> None:
        super().__init__(serverFromString(reactor, endpoint), factory)
        self._raiseSynchronously = True
        self._key = key
        self._ports = ports

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        opening: Any = self._waitingForPort
        wrong: list[ConfigError] = []

        def opened(port: IListeningPort) -> IListeningPort:
            try:
                self._ports.opened(self._key, port)
            except ConfigError as error:
                wrong.append(error)
            return port

        opening.addCallback(opened)
        if wrong:
            raise wrong[0]
