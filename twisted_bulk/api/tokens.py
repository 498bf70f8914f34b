"""Who may use the API, and for which calls.

The file has a line for each token: its SHA-256 in hexadecimal digits, a name, and scopes
(``submit``, ``read``, ``admin``, with commas between them). ``#`` begins a comment. A name may
have several lines: while a token is replaced, the old one and the new one belong to one client.
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

from twisted_bulk.errors import ConfigError, CrossSite, Forbidden, ProtectedMode, Unauthorized
from twisted_bulk.http_server.request import BoundedRequest, header
from twisted_bulk.system.net import address
from twisted_bulk.system.reread import Reread

log = Logger()

SCOPES = frozenset(("submit", "read", "admin"))
_NAME = re.compile(r"[A-Za-z0-9._~-]{1,64}")


@dataclass(frozen=True)
class Token:
    """A client's token; without tokens every client is :data:`ANYBODY`.

    :param digest: SHA-256 of the token itself
    """

    digest: bytes = b""
    name: str = ""
    scopes: frozenset[str] = frozenset(("admin",))

    @property
    def owner(self) -> str | None:
        """The name whose batches it sees; None: everybody's."""
        return None if "admin" in self.scopes else self.name


ANYBODY = Token()
MAX_HOSTS = 1000  # parsed values of Host in memory


def parse_tokens(text: str) -> list[Token]:
    """The tokens of a file.

    :raises ValueError: names the line and the mistake
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

    :param tokens: that are let in; None: no token is needed
    :param open: where no token is needed: clients on other machines are let in, too
    :param file: the tokens, instead of ``tokens``; it is read again when it has changed
    :param hosts: names of this server by which pages may write to it where no token is needed
    """

    def __init__(
        self,
        tokens: Iterable[Token] | None = None,
        open: bool = False,
        file: Reread[tuple[Token, ...]] | None = None,
        hosts: Iterable[str] = (),
    ) -> None:
        self._hosts = frozenset(name.lower() for name in hosts)
        self._tokens = None if tokens is None else tuple(tokens)
        self._open = open
        self._file = file

    @classmethod
    def load(cls, path: str, open: bool, hosts: Iterable[str] = ()) -> "Access":
        """With the tokens of a file; empty: no token is needed.

        :raises ConfigError: the file cannot be read, or has a wrong line
        """
        if not path:
            return cls(None, open, hosts=hosts)
        return cls(None, open, _watched(Path(path)))

    def check(self, request: BoundedRequest, scope: str) -> Token:
        """The token of a request.

        :param scope: that the call needs; empty: any will do
        :raises Unauthorized: it has no token, or an unknown one
        :raises ProtectedMode: there are no tokens, and the client is not on this machine
        :raises Forbidden: the token lacks the scope
        :raises CrossSite: a page of another site changes something, or a browser calls this
            server by a name that it may not have
        """
        token = self._token(request, scope)
        if request.method not in (b"GET", b"HEAD"):
            _check_page(request)
        if token is ANYBODY:
            _check_name(request, self._hosts)
        return token

    def _token(self, request: BoundedRequest, scope: str) -> Token:
        tokens = self._file.content() if self._file is not None else self._tokens
        if tokens is None:
            if not self._open:
                _check_local(request)
            return ANYBODY
        scheme, _, secret = (header(request, "Authorization") or "").partition(" ")
        given = hashlib.sha256(secret.strip().encode("latin-1")).digest()
        # All tokens, each in constant time: the time must not show which one is nearly right.
        known = [token for token in tokens if hmac.compare_digest(given, token.digest)]
        if scheme.lower() != "bearer" or not known:
            raise Unauthorized("a valid bearer token is needed")
        if scope and not known[0].scopes & {scope, "admin"}:
            raise Forbidden(f"token {known[0].name} is not for this: it lacks the scope {scope}")
        return known[0]


def _watched(path: Path) -> Reread[tuple[Token, ...]]:
    """The tokens of a file, which is read again when it has changed."""

    def read(again: bool) -> tuple[Token, ...]:
        try:
            tokens = tuple(parse_tokens(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"tokens: cannot read {path}: {error}") from None
        except ValueError as error:
            raise ConfigError(f"tokens: {path}: {error}") from None
        if again and not tokens:  # somebody writes the file at this moment
            raise ConfigError(f"tokens: {path}: there is none in the file")
        return tokens

    return Reread(
        path,
        read,
        changed=lambda tokens: log.info("{n} tokens are known now", n=len(tokens)),
        kept=lambda error: log.error("{error}; those before are used still", error=error),
    )


def _check_page(request: BoundedRequest) -> None:
    """Check a request that changes something, if a browser sends it.

    A browser says ``Sec-Fetch-Site`` where the page came by TLS or from its own machine. Else it
    says ``Origin`` only. A program says neither.

    :raises CrossSite: a page of another site sends it
    """
    site, origin = header(request, "Sec-Fetch-Site"), header(request, "Origin")
    host = header(request, "Host") or ""
    if site is None and origin is None:
        return
    is_ours = site in ("same-origin", "none") if site else origin == f"{_scheme(origin)}://{host}"
    if not is_ours:
        raise CrossSite("a page of another site may not change anything here")


#: Headers that browsers send, and other programs rarely do. A page cannot stop its browser from
#: sending them.
_OF_BROWSERS = ("Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Accept-Language")


def _check_name(request: BoundedRequest, hosts: frozenset[str]) -> None:
    """Check the name by which a browser calls this server where no token is needed.

    A page whose own name was bound to our address (DNS rebinding) is of one site with us: its
    browser lets it read and change everything. A token protects from that, as such a page has none.

    :param hosts: names of this server, beside addresses and its host name
    :raises CrossSite: it is another name
    """
    if not any(header(request, one) is not None for one in _OF_BROWSERS):
        return
    name = _name(header(request, "Host") or "")
    if address(name) is None and name not in hosts | {"localhost", socket.gethostname().lower()}:
        raise CrossSite(f"{name[:100]} is not a name of this server: see --allow-host")


def _scheme(origin: str | None) -> str:
    return (origin or "").partition("://")[0]


def _name(host: str) -> str:
    """The name or the address in a ``Host``, or empty."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _check_local(request: BoundedRequest) -> None:
    """:raises ProtectedMode: the request may not come from a client on this machine"""
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


@functools.lru_cache(MAX_HOSTS)
def _is_meant(asked: str, origin: str | None) -> bool:
    """Whether a request was meant for this server, and not made by a page of another site.

    A page in a browser on this machine may send requests to us. They have the page's ``Origin``;
    or, if the page's host name was bound to our address ("DNS rebinding"), its name as ``Host``.
    Ours are an address of this machine, ``localhost`` and the host name.

    :param asked: the request's ``Host``
    :param origin: its ``Origin``
    """
    name = _name(asked)
    return (origin is None or origin.partition("://")[2] == asked) and (
        name in ("localhost", socket.gethostname().lower()) or (name != "" and _is_local(name))
    )
