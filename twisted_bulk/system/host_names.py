"""Host names that IDNA refuses and DNS has, as with ``_`` in them: connected to, and verified."""

from typing import Any

from twisted.internet.endpoints import HostnameEndpoint


class NamedEndpoint(HostnameEndpoint):
    """A host by its name as it stands: IDNA refuses names that DNS has, as with ``_`` in them.

    The name is ASCII, or what the system's resolver takes.
    """

    @staticmethod
    def _hostAsBytesAndText(host: Any) -> tuple[bool, bytes, str]:
        return False, host.encode("ascii", "backslashreplace"), host


def creator(policy: Any, host: bytes, port: int) -> Any:
    """The TLS settings that verify ``host``, also a name that IDNA refuses."""
    try:
        return policy.creatorForNetloc(host, port)
    except UnicodeError:
        made = policy.creatorForNetloc(b"host.invalid", port)
        made._hostnameBytes = host.lower()
        made._hostnameASCII = host.lower().decode("ascii")
        return made
