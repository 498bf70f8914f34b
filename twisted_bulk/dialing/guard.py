"""The policy of outgoing connections: which addresses and ports are allowed."""

import ipaddress
import socket
from collections.abc import Collection, Iterable

from twisted_bulk.errors import MemberError
from twisted_bulk.system.net import Network

Ports = Collection[range]

# From IANA's special-purpose registries. ipaddress.is_global is not the same in all Pythons.
_SPECIAL4 = (
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24"
    " 192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24"
    " 224.0.0.0/4 240.0.0.0/4"
)
# All global unicast IPv6 addresses are in 2000::/3. Mapped and NAT64 addresses are not in it.
# These parts of it are special, among them 6to4 and Teredo.
_GLOBAL6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL6 = "2001::/23 2001:db8::/32 2002::/16 3fff::/20"
SPECIAL: tuple[Network, ...] = tuple(
    map(ipaddress.ip_network, (_SPECIAL4 + " " + _SPECIAL6).split())
)
ANY_PORT: Ports = (range(1, 65536),)


def is_local(address: str) -> bool:
    """Whether ``address`` is one of this host. Asks the kernel."""
    kind = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(kind, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


class Guard:
    """The policy: public unicast addresses, and those that the operator has allowed.

    :param allowed: networks that are allowed, though they are not public
    :param ports: ports that are allowed, on any address
    :param own: ports of bulkwav on this host; never allowed on this host
    :param queue: ports of the queue's server; never allowed, on no host
    :param names: names of this host that a proxy may resolve
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
        """Whether the address ``text`` is allowed."""
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
        """:raises MemberError: ``port`` is not allowed"""
        if port in self._queue or not any(port in ports for ports in self._ports):
            raise MemberError(
                "port_refused",
                f"port {port} is closed; the operator may open it with --allow-ports",
            )

    def check(self, host: str, addresses: Iterable[str], port: int) -> None:
        """Check all addresses of a host; one that is refused refuses the host.

        :raises MemberError: ``host`` or ``port`` is not allowed
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
        """Check a host whose name a proxy resolves.

        An address is checked as in :meth:`check`. Of names, only those of this host are refused.

        :raises MemberError: ``host`` or ``port`` is not allowed
        """
        bare = host.strip("[]").rstrip(".").lower()
        try:
            literal = socket.inet_ntoa(socket.inet_aton(bare))  # takes all spellings
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
