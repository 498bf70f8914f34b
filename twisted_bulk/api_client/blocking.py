"""Sends requests with urllib3, and blocks meanwhile; needs no reactor. Threads may share it."""

import os
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3 import exceptions

from twisted_bulk.api_client.failures import NotBulkwav, Unreachable

_T = TypeVar("_T")

PIECE_BYTES = 64 * 1024
#: No server got the request.
UNSENT = (exceptions.NewConnectionError, exceptions.ConnectTimeoutError)
MAX_KEPT = 8  # connections to one server that are kept open


class BlockingAnswer:
    """See :class:`~twisted_bulk.api_client.transport.Answer`."""

    def __init__(self, found: urllib3.BaseHTTPResponse, server: str) -> None:
        self._found = found
        self._server = server
        self.status = found.status

    def header(self, name: str) -> str:
        """The value of a header, or empty."""
        return self._found.headers.get(name, "")

    async def read(self, most: int) -> bytes:
        """The whole body, of ``most`` bytes."""
        body = bytearray()
        async for piece in self.pieces():
            body += piece
            if len(body) > most:
                self.close()
                raise NotBulkwav(f"{self._server}: the answer has more than {most} bytes")
        return bytes(body)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body, piece by piece."""
        is_over = False
        try:
            while not is_over:
                piece = self._found.read1(PIECE_BYTES)
                is_over = not piece
                if piece:
                    yield piece
        except (exceptions.HTTPError, OSError) as error:
            raise Unreachable(f"{self._server}: {_reason(error)}") from None
        finally:
            self._found.release_conn() if is_over else self._found.close()

    def close(self) -> None:
        """End the connection if the body has not been read."""
        self._found.close()


class BlockingTransport:
    """See :class:`~twisted_bulk.api_client.transport.Transport`.

    :param timeout: seconds for a connection, and for each silence of the server
    :param ca: file of certificate authorities that are trusted beside the system's, PEM; or empty
    """

    def __init__(self, timeout: float, ca: str = "") -> None:
        self._timeout = urllib3.Timeout(connect=timeout, read=timeout)
        context = ssl.create_default_context()
        if ca:
            context.load_verify_locations(cafile=ca)
        self._options: dict[str, Any] = {"ssl_context": context, "maxsize": MAX_KEPT}
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._owner = os.getpid()

    def _pool(self, url: str) -> urllib3.PoolManager:
        """The connections for a URL: straight, or through the proxy of the environment."""
        parts = urlsplit(url)
        proxy = "" if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme, "")
        if self._owner != os.getpid():  # a child process must not use its parent's connections
            self._pools, self._owner = {}, os.getpid()
        if proxy not in self._pools:
            self._pools[proxy] = self._make(proxy)
        return self._pools[proxy]

    def _make(self, proxy: str) -> urllib3.PoolManager:
        if not proxy:
            return urllib3.PoolManager(**self._options)
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=login) if parts.username else None
        where = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        return urllib3.ProxyManager(where, proxy_headers=headers, **self._options)

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> BlockingAnswer:
        """Send one request."""
        server = urlsplit(url).netloc
        try:
            found = self._pool(url).request(
                method, url, headers=headers, body=body, timeout=self._timeout, retries=False,
                preload_content=False, decode_content=False,
            )  # fmt: skip
        except (exceptions.HTTPError, OSError, UnicodeError) as error:
            is_sent = not isinstance(error, UNSENT)
            raise Unreachable(f"{server}: {_reason(error)}", is_sent) from None
        return BlockingAnswer(found, server)

    async def run(self, action: Callable[[], _T]) -> _T:
        """Do work that blocks."""
        return action()

    async def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def now(self) -> float:
        """Seconds on a clock that nobody sets."""
        return time.monotonic()

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.clear()


def _reason(error: BaseException) -> str:
    """Why a connection failed, in a few words."""
    root: BaseException = error
    while root.__cause__ is not None or root.__context__ is not None:
        root = root.__cause__ or root.__context__ or root
    if isinstance(error, exceptions.NameResolutionError):
        return "the name cannot be resolved"
    is_late = isinstance(error, exceptions.ConnectTimeoutError | exceptions.ReadTimeoutError)
    if is_late and not isinstance(error, exceptions.NewConnectionError):  # a refusal is one of both
        return "no answer in time"
    if isinstance(root, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {root.verify_message} (see --ca)"
    if isinstance(root, ssl.SSLError):
        return "it does not speak TLS as expected; is it http:// and not https://?"
    if isinstance(root, OSError) and root.strerror:
        return root.strerror.lower()
    return "the connection broke"
