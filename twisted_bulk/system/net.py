"""IP addresses and networks: one form for each address; whether a network has it."""

import functools
import ipaddress
from collections.abc import Sequence

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
