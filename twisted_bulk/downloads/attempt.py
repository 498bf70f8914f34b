"""One attempt at one member: the request, its redirects, the bytes it continues, its deadlines."""

from collections.abc import Iterator
from http.cookiejar import Cookie
from typing import Any
from urllib.parse import urljoin, urlsplit

from msgspec.structs import replace
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from twisted_bulk.batch.model import host_of, is_url
from twisted_bulk.downloads.body import Body, BodyLimits
from twisted_bulk.downloads.fetch import Content, Fetch, Hop, Partial, Reception, Sink
from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.connection import StaleConnection
from twisted_bulk.http_client.discard import drop
from twisted_bulk.http_client.ending import Ending, ending_of
from twisted_bulk.http_client.response import (
    REDIRECT_STATUSES,
    digest,
    explain,
    is_cancelled,
    location,
    modified,
    refusal,
    total_from,
    validator,
)
from twisted_bulk.http_client.url import plain, take_userinfo

MAX_REDIRECTS = 5  # of one request; then `too_many_redirects`
#: Headers that a redirect to another origin does not take along.
SECRET_HEADERS = frozenset(("authorization", "cookie", "x-api-key"))


class _NoCookies(IndexableCookieJar):
    """A jar that stays empty: no request gets a cookie that another response has set."""

    def add_cookie_header(self, request: Any) -> None:
        """Nothing: there are none."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Nothing: none is kept."""

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
    """

    def __init__(
        self, agent: IAgent, clock: IReactorTime, header_timeout: float, limits: BodyLimits
    ) -> None:
        self._client = HTTPClient(agent, NO_COOKIES)
        self._clock = clock
        self._header_timeout = header_timeout
        self._limits = limits

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
            if not (failed.retry and reception.partial and reception.partial.validator):
                reception.forget()
            raise
        except BaseException:
            reception.forget()
            raise

    async def _attempt(self, fetch: Fetch, hop: Hop | None) -> None:
        reception = fetch.reception
        response = await self._ask(fetch, hop, self._clock.seconds() + self._header_timeout)
        try:
            sink = self._sink(fetch, response)
        except BaseException:
            await drop(response, self._clock)
            raise
        body = Body(reception, sink, self._clock, self._limits)
        try:
            response.deliverBody(body)
            certain = await body.done
            _check_length(reception, ending_of(response), certain)
            checked = bool(fetch.member.sha256 or reception.content.digest)
            reception.verified = certain or checked
            reception.finishing, reception.came = True, self._clock.seconds()
            await sink.finish()
        except BaseException:
            body.abort()
            raise
        reception.partial = None

    def _sink(self, fetch: Fetch, response: IResponse) -> Sink:
        """A new sink; or that of the attempt which this one continues."""
        reception = fetch.reception
        if response.code == 206:
            assert reception.partial is not None
            named, length = reception.partial.validator, reception.content.length
            try:
                length = total_from(response, reception.received, named, length)
            except MemberError:
                reception.forget()
                raise
            reception.content = replace(reception.content, length=length)
            return reception.partial.sink
        reception.forget()
        length = response.length if isinstance(response.length, int) else None
        if length is not None and length > self._limits.most:
            what = f"{length} bytes, at most {self._limits.most} are taken"
            raise MemberError("too_large", what)
        reception.content = Content(length, modified(response), digest(response))
        sink = fetch.target.open(fetch)
        reception.partial = Partial(sink, validator(response))
        return sink

    async def _ask(self, fetch: Fetch, hop: Hop | None, deadline: float) -> IResponse:
        """The final response, after redirects within one host.

        :raises Redirected: it is at another host
        """
        hop, reception = hop or self._first(fetch), fetch.reception
        url, headers = hop.url, hop.headers
        for number in range(hop.number, MAX_REDIRECTS + 1):
            url, authorization = take_userinfo(url.partition("#")[0])
            if authorization:
                headers = headers | {"Authorization": authorization}
            response = await self._get(url, headers, deadline)
            if response.code == 200 or (response.code == 206 and reception.partial is not None):
                return response
            target = location(response)
            await drop(response, self._clock)
            if response.code == 416 and reception.partial is not None:
                reception.forget()
                return await self._ask(fetch, None, deadline)
            if response.code not in REDIRECT_STATUSES or not target:
                raise refusal(response)
            try:
                target = urljoin(url, target)
            except ValueError:
                target = ""
            if not is_url(target):
                raise MemberError("bad_response", "redirected to something that is not a URL")
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                headers = {k: v for k, v in headers.items() if k.lower() not in SECRET_HEADERS}
            if host_of(target) != host_of(url) and number < MAX_REDIRECTS:
                raise Redirected(Hop(target, headers, number + 1, self._clock.seconds()))
            url = target
        raise MemberError("too_many_redirects", f"more than {MAX_REDIRECTS} redirects")

    def _first(self, fetch: Fetch) -> Hop:
        """The first request of an attempt."""
        headers, reception = fetch.headers | fetch.member.headers, fetch.reception
        if reception.partial is not None:
            headers |= {
                "Range": f"bytes={reception.received}-",
                "If-Range": reception.partial.validator,
            }
        return Hop(fetch.member.url, headers, 0, self._clock.seconds())

    async def _get(self, url: str, headers: dict[str, str], deadline: float) -> IResponse:
        def late(*_: object) -> Failure:
            what = f"no answer within {self._header_timeout:g} s"
            return Failure(MemberError("header_timeout", what))

        try:
            asked = self._client.get(
                plain(url),
                headers=Headers({name: [value] for name, value in headers.items()}),
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


def _check_length(reception: Reception, ending: Ending, certain: bool) -> None:
    """Compare the received bytes with the announced length.

    A body that ended well by its own framing may still be too long or too short.

    :param certain: the end of the body was certain
    """
    received, length = reception.received, reception.content.length
    if ending.overlong or (length is not None and received > length):
        reception.forget()
        raise MemberError("body_long", "more bytes than the headers announced")
    if length is not None and received < length:
        reception.forget()
        raise MemberError("body_short", f"the answers ended after {received} bytes of {length}")
    if not certain and ending.broken:
        raise MemberError("body_short", f"the connection broke after {received} bytes")
