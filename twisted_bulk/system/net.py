"""IP addresses and networks: one form for each address; whether a network has it.

Also connections to hosts whose names IDNA refuses, for example names with ``_``.
"""

import functools
import ipaddress
from collections.abc import Sequence
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_KNOWN = 10_000  # parsed addresses in memory


@functools.lru_cache(MAX_KNOWN)
def address(text: str) -> Address | None:
    """Parse an IP address; None: ``text`` is none.

    Of an IPv4 address in IPv6 it is the IPv4 address. A zone is dropped.
    """
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip


def within(ip: Address | None, networks: Sequence[Network]) -> bool:
    """Whether one of the networks has an address; None is in no network."""
    return ip is not None and any(ip in network for network in networks)


class NamedEndpoint(HostnameEndpoint):
    """An endpoint that does not encode the host's name with IDNA. Twisted's own endpoint does."""

    @staticmethod
    def _hostAsBytesAndText(host: Any) -> tuple[bool, bytes, str]:
        return False, host.encode("ascii", "backslashreplace"), host


def creator(policy: Any, host: bytes, port: int) -> Any:
    """The maker of TLS connections that verify ``host``.

    :param policy: Twisted's ``IPolicyForHTTPS``
    """
    try:
        return policy.creatorForNetloc(host, port)
    except UnicodeError:
        made = policy.creatorForNetloc(b"host.invalid", port)
        made._hostnameBytes = host.lower()
        made._hostnameASCII = host.lower().decode("ascii")
        return made
