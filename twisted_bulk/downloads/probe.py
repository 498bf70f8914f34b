"""Asks for the size of a member's file, without fetching it."""

import re
from contextlib import suppress

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IAgent, IResponse

from twisted_bulk.batch.model import Member
from twisted_bulk.downloads.attempt import NO_COOKIES
from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.agent import plain
from twisted_bulk.http_client.connection import StaleConnection
from twisted_bulk.http_client.discard import drop
from twisted_bulk.http_client.headers import spelled
from twisted_bulk.http_client.redirects import Hop, first, following
from twisted_bulk.http_client.response import (
    WHOLE_STATUSES,
    explain,
    header,
    refusal,
    whole_length,
)
from twisted_bulk.system.tcp import is_cancelled

MAX_STALE = 8  # kept connections of one question that turn out to be closed
ONE_BYTE = {"Range": "bytes=0-0"}


class Prober:
    """Asks sources for sizes.

    :param timeout: seconds for each request
    :param max_redirects: of one question
    """

    def __init__(
        self, agent: IAgent, clock: IReactorTime, timeout: float, max_redirects: int
    ) -> None:
        self._client = HTTPClient(agent, NO_COOKIES)
        self._clock = clock
        self._timeout = timeout
        self._max_redirects = max_redirects

    async def size(self, member: Member, headers: dict[str, str]) -> int | None:
        """The bytes of a file; None: its server does not tell.

        HEAD is asked first. A server that does not like it is asked for the first byte.

        :param headers: of the batch
        :raises MemberError: the file could not be fetched now
        """
        response = await self._ask("HEAD", member, headers)
        if response.code in WHOLE_STATUSES:
            length = header(response, b"Content-Length")
            if re.fullmatch(r"[0-9]{1,18}", length):
                return int(length)
        response = await self._ask("GET", member, headers | ONE_BYTE)
        if response.code in WHOLE_STATUSES or response.code == 206:
            return whole_length(response)
        if response.code == 416:  # it has no first byte
            return 0
        raise refusal(response, ())

    async def _ask(self, method: str, member: Member, headers: dict[str, str]) -> IResponse:
        """The headers of the final response, after redirects."""
        hop = first(member.url, headers | member.headers, self._clock.seconds())
        while True:
            response = await self._insist(method, hop)
            await drop(response, self._clock)
            new = following(hop, response, self._max_redirects, self._clock.seconds())
            if new is None:
                return response
            hop = new

    async def _insist(self, method: str, hop: Hop) -> IResponse:
        """An answer; asked again where a kept connection turns out to be closed."""
        for _ in range(MAX_STALE):
            with suppress(StaleConnection):
                return await self._request(method, hop)
        raise MemberError("connection_lost", "kept connections are closed again and again")

    async def _request(self, method: str, hop: Hop) -> IResponse:
        def late(*_: object) -> Failure:
            return Failure(MemberError("header_timeout", f"no answer within {self._timeout:g} s"))

        try:
            asked = self._client.request(
                method, plain(hop.url), headers=spelled(hop.sent), cookies=NO_COOKIES,
                allow_redirects=False, unbuffered=True,
            )  # fmt: skip
            asked.addTimeout(self._timeout, self._clock, late)
            response: IResponse = await asked
        except (MemberError, CancelledError, StaleConnection):
            raise
        except Exception as problem:
            if is_cancelled(problem):
                raise CancelledError() from problem
            raise explain(Failure(problem)) from problem
        return response
