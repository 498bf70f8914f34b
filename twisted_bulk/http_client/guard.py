"""Which addresses may be dialled. Pure, but for the question whether an address is this host's."""

import ipaddress
import socket
from collections.abc import Collection, Iterable

from twisted_bulk.errors import MemberError
from twisted_bulk.system.net import Network

Ports = Collection[range]

# IANA's special-purpose registries; ipaddress.is_global differs between Pythons.
_SPECIAL4 = (
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24"
    " 192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24"
    " 224.0.0.0/4 240.0.0.0/4"
)
# All unicast IPv6 is in 2000::/3, which leaves out mapped and NAT64 addresses;
# these parts of it are special, 6to4 and Teredo among them.
_GLOBAL6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL6 = "2001::/23 2001:db8::/32 2002::/16 3fff::/20"
SPECIAL: tuple[Network, ...] = tuple(
    map(ipaddress.ip_network, (_SPECIAL4 + " " + _SPECIAL6).split())
)
ANY_PORT: Ports = (range(1, 65536),)


def is_local(address: str) -> bool:
    """Whether ``address`` is one of this host's own."""
    kind = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(kind, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


class Guard:
    """The policy: public unicast addresses, and what the operator opened.

    :param allowed: non-public networks that may be reached
    :param ports: ports that may be dialled, on any address
    :param own: ports on which this host itself listens for us: never dialled here
    :param queue: ports of the queue's server: never dialled, wherever
    :param names: of this host, as it may be known to a proxy
    """

    def __init__(
        self,
        allowed: Iterable[Network] = (),
        ports: Ports = ANY_PORT,
        own: Collection[int] = (),
        queue: Collection[int] = (),
        names: Iterable[str] = (),
    ) -> None:
        self._allowed = tuple(allowed)
        self._ports = ports
        self._own = own
        self._queue = queue
        self._names = frozenset(name.lower() for name in names if name)

    def allows(self, text: str) -> bool:
        """Whether ``text``, an address in its usual form, may be dialled."""
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return False
        if any(address in net for net in self._allowed):
            return True
        if isinstance(address, ipaddress.IPv6Address):
            if address.ipv4_mapped:
                return self.allows(str(address.ipv4_mapped))
            if address not in _GLOBAL6:
                return False
        return not any(address in net for net in SPECIAL)

    def check_port(self, port: int) -> None:
        """:raises MemberError: no address may be dialled at ``port``"""
        if port in self._queue or not any(port in ports for ports in self._ports):
            raise MemberError(
                "port_refused",
                f"port {port} is closed; the operator may open it with --allow-ports",
            )

    def check(self, host: str, addresses: Iterable[str], port: int) -> None:
        """One refused address refuses the name.

        :raises MemberError: ``host`` at ``port`` may not be dialled
        """
        self.check_port(port)
        for address in addresses:
            if port in self._own and is_local(address):
                raise MemberError("address_refused", f"{host}:{port} is bulkwav itself")
            if not self.allows(address):
                raise MemberError(
                    "address_refused",
                    f"{host}:{port} is not a public address;"
                    " the operator may open it with --allow-net",
                )

    def check_unresolved(self, host: str, port: int) -> None:
        """For a host whose name a proxy resolves: an address is checked as ever, of names those
        of this host are known.

        :raises MemberError: ``host`` at ``port`` may not be asked for
        """
        bare = host.strip("[]").rstrip(".").lower()
        try:
            literal = socket.inet_ntoa(socket.inet_aton(bare))  # knows all the spellings
        except OSError:
            literal = bare if ":" in bare or "%" in bare else ""
        if literal:
            self.check(host, [literal], port)
            return
        self.check_port(port)
        if bare == "localhost" or bare.endswith(".localhost"):
            raise MemberError("address_refused", f"{host}:{port} is not a public name")
        if port in self._own and bare in self._names:
            raise MemberError("address_refused", f"{host}:{port} is bulkwav itself")
