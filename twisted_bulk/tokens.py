"""Who may use the API."""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path

from twisted.web.http import Request

from twisted_bulk.errors import ConfigError, ProtectedMode, Unauthorized
from twisted_bulk.site import header


class Access:
    """Who may use the API.

    :param digests: SHA-256 of each bearer token that is let in
    :param open: whether clients from anywhere need no token
    """

    def __init__(self, digests: Iterable[bytes] = (), open: bool = False) -> None:
        self._digests = tuple(digests)
        self._open = open

    @classmethod
    def load(cls, path: str, open: bool) -> "Access":
        """Read a file of hexadecimal SHA-256 digests, one a line; ``#`` begins a comment."""
        if not path:
            return cls((), open)
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"tokens: cannot read {path}: {error}") from None
        words = [line.partition("#")[0].strip() for line in lines]
        for number, word in enumerate(words, 1):
            if word and not re.fullmatch(r"[0-9a-fA-F]{64}", word):
                raise ConfigError(f"tokens: line {number} of {path} is not a SHA-256 in hex")
        return cls([bytes.fromhex(word) for word in words if word], open)

    def check(self, request: Request) -> str:
        """Let a client in.

        :returns: what stands for its token, if it needed one
        :raises Unauthorized: or :class:`ProtectedMode`, if it may not come in
        """
        if self._digests:
            scheme, _, token = (header(request, "Authorization") or "").partition(" ")
            given = hashlib.sha256(token.strip().encode()).digest()
            # All of them, each in constant time: the time must not tell which came close.
            known = sum(hmac.compare_digest(given, digest) for digest in self._digests)
            if scheme.lower() != "bearer" or not known:
                raise Unauthorized("a valid bearer token is needed")
            return given.hex()
        if not self._open and not _is_local(request):
            raise ProtectedMode(
                "without --tokens only clients on the same machine are let in; see --tokens, --open"
            )
        return ""


def _is_local(request: Request) -> bool:
    host = getattr(request.getClientAddress(), "host", None)
    if host is None:
        return True  # a unix socket
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback
