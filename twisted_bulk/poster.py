"""One callback on its way: signed as Standard Webhooks say, as JSON or as a form."""

import contextlib
import hashlib
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web._newclient import RequestTransmissionFailed, ResponseNeverReceived
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from twisted_bulk.answer import is_cancelled
from twisted_bulk.batch import Spec, host_of
from twisted_bulk.jobs import GroupRecord
from twisted_bulk.resolver import OWNER
from twisted_bulk.signer import Signer
from twisted_bulk.url import plain, take_userinfo

MAX_REPLY = 64 * 1024
BROKEN = RequestTransmissionFailed, ResponseNeverReceived  # how a connection ends without answer
DRAIN = 2.0  # seconds for a reply's body, which changes nothing


class _Drain(Protocol):
    """Read a reply to its end, but not an endless one."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self._hang_up())
        self._left = MAX_REPLY

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._hang_up()

    def _hang_up(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        if not self.done.called:
            self.done.callback(None)


class Poster:
    """Signed POSTs to callback URLs."""

    def __init__(self, agent: IAgent, clock: IReactorTime, signer: Signer) -> None:
        self._agent = agent
        self._clock = clock
        self._signer = signer

    async def post(
        self, record: GroupRecord, body: dict[str, Any], kind: str, timeout: float
    ) -> IResponse:
        """Send one callback; once there is a status, nothing that follows changes it.

        :param kind: its number, or ``last``, which is sent again at once if there is no answer
        """
        spec = msgspec.json.decode(record.spec, type=Spec)
        if spec.notify_format == "form":
            flat = {
                key: value if isinstance(value, str) else msgspec.json.encode(value).decode()
                for key, value in body.items()
            }
            data, media = urlencode(flat).encode(), "application/x-www-form-urlencoded"
        else:
            data, media = msgspec.json.encode(body), "application/json"
        name = f"{record.id}@{record.run}/{kind}"
        message = "msg_" + hashlib.sha256(name.encode()).hexdigest()[:32]
        now = datetime.now(UTC)
        signature = self._signer.sign(message, now, data.decode())
        headers = Headers({"Content-Type": [media], "webhook-id": [message]})
        headers.addRawHeader("webhook-timestamp", str(int(now.timestamp())))
        headers.addRawHeader("webhook-signature", signature)
        url, authorization = take_userinfo(spec.url.partition("#")[0])
        if authorization:
            headers.addRawHeader("Authorization", authorization)
        OWNER.set(host_of(spec.url))
        send = self._insist if kind == "last" else self._ask
        response = await Deferred.fromCoroutine(send(url, data, headers)).addTimeout(
            timeout, self._clock
        )
        drain = _Drain()
        response.deliverBody(drain)
        with contextlib.suppress(TimeoutError):
            await drain.done.addTimeout(DRAIN, self._clock)
        return response

    async def _insist(self, url: str, data: bytes, headers: Headers) -> IResponse:
        try:
            return await self._ask(url, data, headers)
        except BROKEN as broken:
            if is_cancelled(broken):
                raise
            # A connection that was kept has been closed meanwhile: another one, at once. What
            # arrives twice has the same id.
            return await self._ask(url, data, headers)

    async def _ask(self, url: str, data: bytes, headers: Headers) -> IResponse:
        return await HTTPClient(self._agent).post(
            plain(url), data=data, headers=headers, allow_redirects=False, unbuffered=True
        )
