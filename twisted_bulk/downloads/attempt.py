"""One attempt at one member: its requests, the bytes it continues, its deadlines."""

from collections.abc import Iterator
from dataclasses import replace
from http.cookiejar import Cookie
from typing import Any

from msgspec.structs import replace as struct_replace
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IAgent, IResponse

from twisted_bulk.downloads.body import Body, BodyLimits
from twisted_bulk.downloads.fetch import Fetch, Partial, Reception
from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.agent import plain
from twisted_bulk.http_client.codings import Decoder
from twisted_bulk.http_client.connection import StaleConnection
from twisted_bulk.http_client.content import content_of
from twisted_bulk.http_client.discard import drop
from twisted_bulk.http_client.headers import spelled
from twisted_bulk.http_client.parser import facts_of
from twisted_bulk.http_client.redirects import Hop, first, following
from twisted_bulk.http_client.response import (
    WHOLE_STATUSES,
    explain,
    is_whole,
    mark,
    refusal,
    total_from,
    validator,
)
from twisted_bulk.system.tcp import is_cancelled
from twisted_bulk.system.urls import host_of


class _NoCookies(IndexableCookieJar):
    """A jar that stays empty: treq has one for all members."""

    def add_cookie_header(self, request: Any) -> None: ...
    def extract_cookies(self, response: Any, request: Any) -> None: ...
    def __iter__(self) -> Iterator[Cookie]:
        return iter(())


NO_COOKIES = _NoCookies()


class Redirected(Exception):
    """The attempt goes on at another host, which has limits of its own."""

    def __init__(self, hop: Hop) -> None:
        super().__init__(hop.url)
        self.hop = hop


class Fetcher:
    """Makes attempts.

    :param header_timeout: seconds until the response's headers, from each host
    :param limits: of each body
    :param max_redirects: of one attempt; then `too_many_redirects`
    """

    def __init__(
        self,
        agent: IAgent,
        clock: IReactorTime,
        header_timeout: float,
        limits: BodyLimits,
        max_redirects: int = 20,
    ) -> None:
        self._client = HTTPClient(agent, NO_COOKIES)
        self._clock = clock
        self._header_timeout = header_timeout
        self._limits = limits
        self._max_redirects = max_redirects

    async def attempt(self, fetch: Fetch, hop: Hop | None = None) -> None:
        """Fetch a member, or the rest of it. Changes the fetch's ``reception`` only.

        :param hop: where the attempt goes on, after a redirect
        :raises MemberError: it failed; received bytes are kept if the next attempt may continue
        :raises Redirected: it goes on at another host
        """
        reception = fetch.reception
        reception.begin()
        try:
            await self._attempt(fetch, hop)
        except Redirected:
            raise
        except MemberError as failed:
            if not (failed.retry and reception.partial and reception.partial.can_continue):
                reception.forget()
            raise
        except BaseException:
            reception.forget()
            raise

    async def _attempt(self, fetch: Fetch, hop: Hop | None) -> None:
        reception = fetch.reception
        response, url = await self._ask(fetch, hop, self._clock.seconds() + self._header_timeout)
        try:
            tail = self._rest(fetch, response)
            if tail is None:
                await self._begin(fetch, response, url)
        except BaseException:
            await drop(response, self._clock)
            raise
        assert reception.partial is not None
        content, sink = reception.content, reception.partial.sink
        limits, most = self._limits, fetch.expect.max_bytes
        if most:
            limits = replace(limits, most=min(limits.most, most))
        decoder = Decoder(content.decoded) if content.decoded else None
        body = Body(reception, sink, self._clock, limits, decoder, tail or b"")
        try:
            response.deliverBody(body)
            certain = await body.done
            _check_length(reception, facts_of(response).broken, certain)
            fetch.expect.check_size(body.given)
            reception.verified = certain or bool(fetch.member.sha256 or content.digest)
            reception.finishing, reception.came = True, self._clock.seconds()
            await sink.finish()
        except BaseException:
            body.abort()
            raise
        reception.partial = None

    def _rest(self, fetch: Fetch, response: IResponse) -> bytes | None:
        """Of a response that continues the attempt before: the bytes with which it begins, which
        have come already. None: it has the whole file.
        """
        reception, partial = fetch.reception, fetch.reception.partial
        if response.code != 206 or partial is None:
            return None
        begin = reception.received - len(partial.tail)
        wanted, length = partial.validator or partial.mark, reception.content.length
        try:
            length = total_from(response, begin, wanted, length)
        except MemberError:
            reception.forget()
            raise
        reception.content = struct_replace(reception.content, length=length)
        return partial.tail

    async def _begin(self, fetch: Fetch, response: IResponse, url: str) -> None:
        """A new sink for the whole file."""
        reception = fetch.reception
        reception.forget()
        content = content_of(response, url)
        fetch.expect.check_type(content.type)
        if content.size is not None:
            fetch.expect.check_size(content.size)
            if content.size > self._limits.most:
                what = f"{content.size} bytes, at most {self._limits.most} are taken"
                raise MemberError("too_large", what)
        reception.content = content
        sink = await fetch.target.open(fetch)
        named = "" if content.decoded else validator(response)
        marked = "" if content.decoded or named else mark(response)
        reception.partial = Partial(sink, named, marked)

    async def _ask(self, fetch: Fetch, hop: Hop | None, deadline: float) -> tuple[IResponse, str]:
        """The final response, after redirects within one host, and the URL that it is of.

        :raises Redirected: it is at another host
        """
        hop, reception = hop or self._first(fetch), fetch.reception
        while True:
            response = await self._get(hop, deadline)
            partial = reception.partial
            if response.code in WHOLE_STATUSES or (response.code == 206 and partial is not None):
                return response, hop.url
            if response.code == 206 and is_whole(response):
                return response, hop.url
            await drop(response, self._clock)
            if response.code == 416 and partial is not None:
                reception.forget()
                if hop.number:  # the first host has no place for it now
                    raise MemberError("bad_range", "the file has become shorter")
                return await self._ask(fetch, None, deadline)
            if response.code == 206:
                what = "a part of the file, which was not asked for"
                raise MemberError("bad_range", what, retry=False)
            now = self._clock.seconds()
            new = following(hop, response, self._max_redirects, now)
            if new is None:
                raise refusal(response, fetch.retry_on)
            if host_of(new.url) != host_of(hop.url):
                raise Redirected(new)
            hop = new

    def _first(self, fetch: Fetch) -> Hop:
        """The first request of an attempt."""
        headers, reception = fetch.headers | fetch.member.headers, fetch.reception
        if reception.partial is not None:
            begin = reception.received - len(reception.partial.tail)
            headers |= {"Range": f"bytes={begin}-"}
            if reception.partial.validator:
                headers |= {"If-Range": reception.partial.validator}
        return first(fetch.member.url, headers, self._clock.seconds())

    async def _get(self, hop: Hop, deadline: float) -> IResponse:
        def late(*_: object) -> Failure:
            what = f"no answer within {self._header_timeout:g} s"
            return Failure(MemberError("header_timeout", what))

        try:
            asked = self._client.get(
                plain(hop.url),
                headers=spelled(hop.sent),
                cookies=NO_COOKIES,
                allow_redirects=False,
                unbuffered=True,
            )
            left = max(0.0, deadline - self._clock.seconds())
            asked.addTimeout(left, self._clock, late)
            response: IResponse = await asked
        except (MemberError, CancelledError):
            raise
        except StaleConnection as problem:
            what = "a kept connection was closed before an answer"
            raise MemberError("connection_lost", what, stale=True) from problem
        except Exception as problem:
            if is_cancelled(problem):
                raise CancelledError() from problem
            raise explain(Failure(problem)) from problem
        return response


def _check_length(reception: Reception, broken: bool, certain: bool) -> None:
    """Compare the received bytes with the announced length, whatever its own framing said.

    :param broken: the connection was lost with an error
    :param certain: the end of the body was certain
    """
    received, length = reception.received, reception.content.length
    if length is not None and received > length:
        reception.forget()
        raise MemberError("body_long", "more bytes than the headers announced")
    if length is not None and received < length:
        reception.forget()
        raise MemberError("body_short", f"the answers ended after {received} bytes of {length}")
    if not certain and broken:
        raise MemberError("body_short", f"the connection broke after {received} bytes")
