"""Whose a connection or a request is, also behind proxies. Pure.

A proxy is believed only if its address is trusted. Then it names the client, either of a whole
connection (PROXY header) or of each request (X-Forwarded-For).
"""

import ipaddress
import re
from collections.abc import Sequence

from twisted_bulk.system.net import Network, address, within
from twisted_bulk.throttle import UNLIMITED

_HOP = re.compile(
    r"\[([0-9a-fA-F:.]+)\](?::\d{1,5})?|(\d+\.\d+\.\d+\.\d+):\d{1,5}|([0-9a-fA-F:.]+)"
)


class Clients:
    """Finds the client by its address.

    :param prefix: bits of an IPv6 address that make up one client
    :param exempt: networks whose clients have no limit of their own
    :param proxies: networks whose X-Forwarded-For is believed
    :param announced: these begin each connection with a PROXY header instead
    """

    def __init__(
        self,
        prefix: int = 64,
        exempt: Sequence[Network] = (),
        proxies: Sequence[Network] = (),
        announced: bool = False,
    ) -> None:
        self._prefix = prefix
        self._exempt = exempt
        self._proxies = proxies
        self._announced = announced

    def key(self, host: str) -> str:
        """The name of a client in limits: an IPv4 address, or an IPv6 network.

        Clients without an address, as on a unix socket, are one client. Exempt ones have
        :data:`~twisted_bulk.throttle.UNLIMITED`.
        """
        ip = address(host)
        if within(ip, self._exempt):
            return UNLIMITED
        if isinstance(ip, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((ip, self._prefix), strict=False))
        return str(ip or host or "-")

    def is_proxy(self, host: str) -> bool:
        """Whether it is the address of a trusted proxy."""
        return within(address(host), self._proxies)

    def announces(self, host: str) -> bool:
        """Whether a connection from ``host`` must begin with a PROXY header."""
        return self._announced and self.is_proxy(host)

    def passes_on(self, host: str) -> bool:
        """Whether each request on a connection from ``host`` names its client."""
        return self.is_proxy(host) and not self._announced

    def behind(self, host: str, forwarded: Sequence[str]) -> str:
        """The address of the client whose request ``host`` has passed on.

        :param forwarded: the values of X-Forwarded-For; each is a list, the nearest hop last
        """
        if not self.passes_on(host):
            return host
        hops = [hop.strip() for value in forwarded for hop in value.split(",")]
        for hop in reversed(hops):
            found = _HOP.fullmatch(hop)
            ip = address(next(filter(None, found.groups()))) if found else None
            if ip is None:
                break  # no trusted proxy has written the entries further left
            host = str(ip)
            if not self.is_proxy(host):
                break
        return host
