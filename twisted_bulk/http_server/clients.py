"""Who is at the other end of a connection, also behind proxies. Pure.

A proxy is believed only if its address is trusted: then it names the client, for a
whole connection (PROXY protocol, HAProxy's proxy-protocol.txt, versions 1 and 2) or for
each request (X-Forwarded-For).
"""

import ipaddress
import re
import struct
from collections.abc import Sequence

from twisted_bulk.system.net import Network, address, within
from twisted_bulk.throttle import UNLIMITED

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LONGEST_V1, LONGEST_V2 = 107, 2048
_V1 = re.compile(rb"PROXY (?:(TCP4|TCP6) (\S+) (\S+) (\d{1,5}) (\d{1,5})|UNKNOWN(?: .*)?)\r\n")
_HOP = re.compile(
    r"\[([0-9a-fA-F:.]+)\](?::\d{1,5})?|(\d+\.\d+\.\d+\.\d+):\d{1,5}|([0-9a-fA-F:.]+)"
)


class Clients:
    """What is known about addresses.

    :param prefix: bits of an IPv6 address that make up one client
    :param exempt: networks without a limit of their own
    :param proxies: networks whose X-Forwarded-For is believed
    :param announced: whether these have to begin each connection with a PROXY header instead
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
        """What is counted as one client: an IPv4 address, or an IPv6 network.

        Peers without an address, as on a unix socket, are one client.
        """
        ip = address(host)
        if within(ip, self._exempt):
            return UNLIMITED
        if isinstance(ip, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((ip, self._prefix), strict=False))
        return str(ip or host or "-")

    def is_proxy(self, host: str) -> bool:
        """Whether others come through this one."""
        return within(address(host), self._proxies)

    def announces(self, host: str) -> bool:
        """Whether a connection from ``host`` has to begin with a PROXY header."""
        return self._announced and self.is_proxy(host)

    def passes_on(self, host: str) -> bool:
        """Whether requests on a connection from ``host`` say whom they come from."""
        return self.is_proxy(host) and not self._announced

    def behind(self, host: str, forwarded: Sequence[str]) -> str:
        """Whom a request came from that ``host`` passed on.

        :param forwarded: the values of X-Forwarded-For, each a list, the nearest hop last
        """
        if not self.passes_on(host):
            return host
        hops = [hop.strip() for value in forwarded for hop in value.split(",")]
        for hop in reversed(hops):
            found = _HOP.fullmatch(hop)
            ip = address(next(filter(None, found.groups()))) if found else None
            if ip is None:
                break  # nobody can be made responsible for what stands further left
            host = str(ip)
            if not self.is_proxy(host):
                break
        return host


def announced(data: bytes) -> tuple[int, str] | None:
    """Read a PROXY header.

    :returns: its length, and the client's address (empty: the connection's own); None if
        more is needed
    :raises ValueError: it is none
    """
    if data[:12] == SIGNATURE[: len(data)]:
        return _version2(data)
    if not b"PROXY "[: len(data)] == data[:6]:
        raise ValueError("no PROXY header")
    end = data.find(b"\r\n", 0, LONGEST_V1) + 2
    if end < 2:
        if len(data) >= LONGEST_V1:
            raise ValueError("an endless PROXY header")
        return None
    found = _V1.fullmatch(data[:end])
    if not found:
        raise ValueError("a PROXY header that cannot be read")
    if found[1] is None:
        return end, ""
    ip = ipaddress.ip_address(found[2].decode("ascii"))
    if ip.version != (4 if found[1] == b"TCP4" else 6):
        raise ValueError("a PROXY header of another family")
    return end, str(ip)


def _version2(data: bytes) -> tuple[int, str] | None:
    if len(data) < 16:
        return None
    command, family, length = struct.unpack(">BBH", data[12:16])
    if command not in (0x20, 0x21) or length > LONGEST_V2:
        raise ValueError("a PROXY header that cannot be read")
    if len(data) < 16 + length:
        return None
    size = {1: 4, 2: 16}.get(family >> 4, 0)
    if command == 0x20 or not size:
        return 16 + length, ""
    if length < 2 * size + 4:
        raise ValueError("a PROXY header that is too short")
    return 16 + length, str(ipaddress.ip_address(data[16 : 16 + size]))
