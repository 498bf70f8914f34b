"""Calls of the API: requests made, repeated where that is safe, answers decoded."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from twisted_bulk import __version__
from twisted_bulk.api.answers import Problem
from twisted_bulk.api_client.failures import ClientError, NotBulkwav, Refused, Unreachable
from twisted_bulk.api_client.transport import Answer, Transport

DEFAULT_PORT = 10000  # of a server that is named by its host alone
MAX_ANSWER_BYTES = 256 << 20  # of one answer that is read whole
PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds before a call is repeated
MAX_PAUSE = 60.0  # seconds; a longer Retry-After is cut to it
USER_AGENT = f"bulkwav/{__version__}"

_T = TypeVar("_T")


class Session:
    """A server, and who calls it.

    :param server: as ``https://bulkwav.example:10000``; a path before the API's own may follow
    :param token: a bearer token, or empty
    :param patience: seconds for which a call is repeated that failed in a way that may pass
    :raises ValueError: ``server`` is no URL, or ``token`` cannot be sent
    """

    def __init__(
        self, transport: Transport, server: str, token: str = "", patience: float = 0.0
    ) -> None:
        self.server = checked_server(server)
        if token and not (token.isascii() and token.isprintable() and " " not in token):
            raise ValueError("the token has characters that no token has")
        self.transport = transport
        self.patience = patience
        self._headers = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    async def call(
        self,
        kind: type[_T],
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        *,
        repeat: bool = True,
    ) -> _T:
        """Make a call; its answer as ``kind``.

        :param query: its empty values are left out
        :param body: sent as JSON; None: there is none
        :param repeat: it does no harm to make the call once more after an answer was lost
        :raises Refused: the server answered with an error
        :raises Unreachable: there was no answer
        :raises NotBulkwav: the answer is not of this type
        """
        return (await self.exchange(kind, method, path, query, body, repeat=repeat))[1]

    async def exchange(
        self,
        kind: type[_T],
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        *,
        repeat: bool = True,
    ) -> tuple[int, _T]:
        """As :meth:`call`, with the status of the answer."""
        encoded = None if body is None else msgspec.json.encode(body)

        async def send() -> tuple[int, bytes]:
            answer = await self._send(method, path, query, encoded)
            return answer.status, await answer.read(MAX_ANSWER_BYTES)

        status, text = await self._repeated(send, repeat)
        found: _T = decoded(text, kind)
        return status, found

    async def open(
        self, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """As :meth:`call`, without a body; the answer's body is not read yet."""
        return await self._repeated(lambda: self._send(method, path, headers=headers), True)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request; raises what its answer tells."""
        given = {name: value for name, value in (query or {}).items() if value not in ("", None)}
        url = f"{self.server}{path}" + (f"?{urlencode(given)}" if given else "")
        sent = {**self._headers, **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        answer = await self.transport.send(method, url, sent, body)
        if answer.status < 300:
            return answer
        raise await refusal(answer)

    async def _repeated(self, step: Callable[[], Awaitable[_T]], repeat: bool) -> _T:
        """Do a step, again and again where it fails in a way that may pass."""
        tries, end = 0, self.transport.now() + self.patience
        while True:
            try:
                return await step()
            except (Refused, Unreachable) as error:
                pause = pause_after(error, tries, repeat)
                if pause is None or self.transport.now() + pause > end:
                    raise
            tries += 1
            await self.transport.pause(pause)


def checked_server(text: str) -> str:
    """The URL of a server, without a slash at its end; ``host`` alone is ``http://host:10000``.

    :raises ValueError: it is no URL of a server
    """
    named = text if "://" in text else f"http://{text}"
    parts = urlsplit(named)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is not the URL of a server, as https://bulkwav.example:10000")
    if parts.username is not None:
        raise ValueError("user and password do not belong into the URL; bulkwav takes a token")
    port = parts.port  # raises ValueError
    if port is None and "://" not in text:
        named = parts._replace(netloc=f"{parts.netloc}:{DEFAULT_PORT}").geturl()
    return named.rstrip("/")


def pause_after(error: ClientError, tries: int, repeat: bool = True) -> float | None:
    """Seconds before a request is sent again; None: it is not.

    :param tries: how often it was sent again before
    :param repeat: it may be sent again although the server may have got it
    """
    pause = PAUSES[min(tries, len(PAUSES) - 1)]
    if isinstance(error, Refused) and error.is_temporary and (repeat or error.status in (429, 503)):
        return min(error.retry_after or pause, MAX_PAUSE)
    if isinstance(error, Unreachable) and (repeat or not error.is_sent):
        return pause
    return None


def decoded(text: bytes | msgspec.Raw, kind: Any) -> Any:
    """JSON of the server, as ``kind``.

    :raises NotBulkwav: it is not of this type
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except (ValueError, RecursionError):
        raise NotBulkwav("the server answers, and is no bulkwav") from None


async def refusal(answer: Answer) -> Refused:
    """The error that an answer tells."""
    after = answer.header("Retry-After")
    try:
        problem = msgspec.json.decode(await answer.read(1 << 20), type=Problem)
        code, detail = problem.code, problem.detail or problem.title
    except (ValueError, RecursionError, ClientError):
        answer.close()
        code, detail = "", f"the server answered with status {answer.status}"
    return Refused(
        answer.status, code, detail, float(after) if re.fullmatch("[0-9]{1,6}", after) else None
    )
