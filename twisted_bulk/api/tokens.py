"""Who may use the API, and what for.

The file has a line for each token: its SHA-256 in hexadecimal digits, a name, and what it is for
(``submit``, ``read``, ``admin``, with commas between them). ``#`` begins a comment. A name may have
several lines: while a token is replaced, the old one and the new one are of one client.
"""

import functools
import hashlib
import hmac
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from twisted.logger import Logger

from twisted_bulk.errors import ConfigError, Forbidden, ProtectedMode, Unauthorized
from twisted_bulk.http_server.site import BoundedRequest, header
from twisted_bulk.system.net import address

log = Logger()

SCOPES = frozenset(("submit", "read", "admin"))
_NAME = re.compile(r"[A-Za-z0-9._~-]{1,64}")


@dataclass(frozen=True)
class Token:
    """A client that is known; without tokens everybody who is let in is :data:`ANYBODY`.

    :param digest: SHA-256 of what it sends
    """

    digest: bytes = b""
    name: str = ""
    scopes: frozenset[str] = frozenset(("admin",))

    @property
    def owner(self) -> str | None:
        """Whose batches it sees; None: everybody's."""
        return None if "admin" in self.scopes else self.name


ANYBODY = Token()
KNOWN = 1000  # hosts that were asked for, of which it is known who is meant


def parse_tokens(text: str) -> list[Token]:
    """The tokens of a file.

    :raises ValueError: says in which line what is wrong
    """
    tokens: list[Token] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if not re.fullmatch(r"[0-9a-fA-F]{64}", words[0]) or len(words) > 3:
            raise ValueError(f"line {number} is not `SHA-256-in-hex name scopes`")
        name = words[1] if len(words) > 1 else words[0][:8].lower()
        scopes = frozenset(words[2].split(",")) if len(words) > 2 else frozenset(("admin",))
        if not _NAME.fullmatch(name):
            raise ValueError(f"line {number}: a name has 1 to 64 of A-Z a-z 0-9 . _ ~ -")
        if bytes.fromhex(words[0]) in [token.digest for token in tokens]:
            raise ValueError(f"line {number}: this token has a line already")
        if not scopes <= SCOPES:
            raise ValueError(f"line {number}: scopes are {', '.join(sorted(SCOPES))}")
        tokens.append(Token(bytes.fromhex(words[0]), name, scopes))
    return tokens


class Access:
    """Who may use the API.

    :param tokens: those that are let in; None: no token is needed
    :param open: whether clients from anywhere need none
    :param file: which is read again when it has changed
    """

    def __init__(
        self, tokens: Iterable[Token] | None = None, open: bool = False, file: Path | None = None
    ) -> None:
        self._tokens = None if tokens is None else tuple(tokens)
        self._open = open
        self._file = file
        self._seen = self._version()

    @classmethod
    def load(cls, path: str, open: bool) -> "Access":
        """With the tokens of a file, if there is one."""
        if not path:
            return cls(None, open)
        try:
            return cls(parse_tokens(Path(path).read_text(encoding="utf-8")), open, Path(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"tokens: cannot read {path}: {error}") from None
        except ValueError as error:
            raise ConfigError(f"tokens: {path}: {error}") from None

    def _version(self) -> tuple[int, int] | None:
        try:
            about = self._file.stat() if self._file else None
        except OSError:
            return None
        return about and (about.st_mtime_ns, about.st_ino)

    def _look(self) -> None:
        """Read the file again if it has changed; one that cannot be read changes nothing."""
        version = self._version()
        if self._file is None or version == self._seen:
            return
        self._seen = version
        try:
            tokens = tuple(parse_tokens(self._file.read_text(encoding="utf-8")))
            if not tokens:
                raise ValueError("there is none in the file")  # it is being written just now
            self._tokens = tokens
        except (OSError, ValueError) as error:
            log.error("tokens: {error}; those before are used still", error=error)
        else:
            log.info("{n} tokens are known now", n=len(self._tokens))

    def check(self, request: BoundedRequest, scope: str) -> Token:
        """Let a client in.

        :raises Unauthorized: or :class:`ProtectedMode`, if it may not come in
        :raises Forbidden: if it may, and not for this
        """
        self._look()
        if self._tokens is None:
            if not self._open:
                _check_local(request)
            return ANYBODY
        scheme, _, secret = (header(request, "Authorization") or "").partition(" ")
        given = hashlib.sha256(secret.strip().encode("latin-1")).digest()
        # All of them, each in constant time: the time must not tell which came close.
        known = [token for token in self._tokens if hmac.compare_digest(given, token.digest)]
        if scheme.lower() != "bearer" or not known:
            raise Unauthorized("a valid bearer token is needed")
        if not known[0].scopes & {scope, "admin"}:
            raise Forbidden(f"token {known[0].name} is not for this: it lacks the scope {scope}")
        return known[0]


def _check_local(request: BoundedRequest) -> None:
    """:raises ProtectedMode: it is not known to come from a client on this machine"""
    if request.is_forwarded:
        raise ProtectedMode(
            "the request came through a proxy, or as HTTP/1.0, and there are no tokens: clients"
            " behind a proxy need them (--tokens); --open lets everybody in"
        )
    host, origin = header(request, "Host") or "", header(request, "Origin")
    from_elsewhere = header(request, "Sec-Fetch-Site") in ("cross-site", "same-site")
    meant = _is_meant(host, origin) or (not request.peer and not host and origin is None)
    if from_elsewhere or not (_is_local(request.peer) and meant):
        raise ProtectedMode(
            "without --tokens only clients on the same machine are let in, and no other"
            " site's pages in their browsers; see --tokens, --open"
        )


def _is_local(host: str) -> bool:
    ip = address(host)
    return not host or (ip is not None and ip.is_loopback)  # a unix socket has no address


@functools.lru_cache(KNOWN)
def _is_meant(asked: str, origin: str | None) -> bool:
    """Whether a request was made for us, and not by another site's page in a local browser.

    :param asked: its ``Host``

    What that page asks for has its ``Origin``, or, where its name was bound to our address
    ("DNS rebinding"), its ``Host``: this machine's names are its address and its host name.
    """
    try:
        name = urlsplit(f"//{asked}").hostname or ""
    except ValueError:
        return False
    return (origin is None or origin.partition("://")[2] == asked) and (
        name in ("localhost", socket.gethostname().lower()) or (name != "" and _is_local(name))
    )
