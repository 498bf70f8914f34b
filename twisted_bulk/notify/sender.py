"""Sends one callback: as JSON or as a form, signed by the Standard Webhooks specification."""

import hashlib
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
from treq.client import HTTPClient
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from twisted_bulk.batch.model import Spec
from twisted_bulk.dialing.resolver import OWNER
from twisted_bulk.http_client.agent import plain
from twisted_bulk.http_client.discard import drop
from twisted_bulk.jobs.group_model import GroupRecord
from twisted_bulk.notify.signer import Signer
from twisted_bulk.system import urls


class Sender:
    """Signed POSTs to callback URLs.

    :param agent: for progress callbacks
    :param last_agent: for last callbacks. It must keep no connections: a callback sent on one that
        the receiver has closed would be sent twice, or not at all
    """

    def __init__(
        self, agent: IAgent, last_agent: IAgent, clock: IReactorTime, signer: Signer
    ) -> None:
        self._client, self._last_client = HTTPClient(agent), HTTPClient(last_agent)
        self._clock = clock
        self._signer = signer

    async def post(
        self, record: GroupRecord, body: dict[str, Any], kind: str, timeout: float
    ) -> tuple[IResponse, bytes]:
        """Send one callback; returns the response, and the beginning of its body.

        :param body: of the callback
        :param kind: its number, or ``last``
        :param timeout: seconds until the response's headers
        :raises StaleConnection: a kept connection was closed; the receiver may have the callback
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
        name = f"{record.after_id}/{kind}"
        message = "msg_" + hashlib.sha256(name.encode()).hexdigest()[:32]
        now = datetime.now(UTC)
        signature = self._signer.sign(message, now, data.decode(), spec.owner)
        headers = Headers({"Content-Type": [media], "webhook-id": [message]})
        headers.addRawHeader("webhook-timestamp", str(int(now.timestamp())))
        headers.addRawHeader("webhook-signature", signature)
        url, userinfo = urls.take_userinfo(urls.normal(spec.url))
        if userinfo:
            headers.addRawHeader("Authorization", urls.basic(userinfo))
        OWNER.set(urls.host_of(spec.url))
        client = self._last_client if kind == "last" else self._client
        response: IResponse = await client.post(
            plain(url), data=data, headers=headers, allow_redirects=False, unbuffered=True
        ).addTimeout(timeout, self._clock)
        return response, await drop(response, self._clock)
