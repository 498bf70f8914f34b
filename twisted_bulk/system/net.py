"""IP addresses and networks, as settings, the guard and the ports speak of them. Pure."""

import functools
import ipaddress
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

KNOWN = 10_000  # addresses that are not parsed again


@functools.lru_cache(KNOWN)
def address(text: str) -> Address | None:
    """An IP address in its one form: IPv4 in IPv6 unwrapped, without a zone; None: it is none."""
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip


def within(ip: Address | None, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks; None is in none."""
    return ip is not None and any(ip in network for network in networks)
