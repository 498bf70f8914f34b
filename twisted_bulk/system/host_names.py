"""Connects to and verifies hosts whose names IDNA refuses, for example names with ``_``."""

from typing import Any

from twisted.internet.endpoints import HostnameEndpoint


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
