"""One attempt at one member: the request, its redirects, what is continued, and deadlines."""

from collections.abc import Iterator
from dataclasses import dataclass
from http.cookiejar import Cookie
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from twisted_bulk.batch.model import Member, host_of, is_url
from twisted_bulk.downloads.body import Body, BodyLimits, Sink
from twisted_bulk.errors import MemberError
from twisted_bulk.http_client.pool import StaleConnection, drop
from twisted_bulk.http_client.response import (
    REDIRECTS,
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

MAX_REDIRECTS = 5
SECRETS = frozenset(("authorization", "cookie", "x-api-key"))


class _NoCookies(IndexableCookieJar):
    """A jar that stays empty: what one server sets is no other request's business."""

    def add_cookie_header(self, request: Any) -> None:
        """There is none."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """None is kept."""

    def __iter__(self) -> Iterator[Cookie]:
        return iter(())


NO_COOKIES = _NoCookies()


@dataclass
class Partial:
    """What has come of a member; with a ``validator`` the next attempt may continue it."""

    sink: Sink
    validator: str


class Redirected(Exception):
    """The attempt goes on at another host, which has limits of its own."""


@dataclass(frozen=True)
class Hop:
    """Where an attempt goes on.

    :param number: of redirects so far
    :param since: when the redirect came, on the clock
    """

    url: str
    headers: dict[str, str]
    number: int
    since: float


class Target(Protocol):
    """Where a member goes."""

    def open(self, fetch: "Fetch") -> Sink:
        """A sink for one attempt; the fetch's length, date and digest are known by then."""

    def ended(self, fetch: "Fetch", error: MemberError | None) -> None:
        """Told once: it is there, or why not."""


@dataclass(eq=False, slots=True)
class Fetch:
    """One member on its way.

    :param modified: what the server said, in seconds since 1970
    :param digest: the SHA-256 that the server said, or empty
    :param throttled: attempts that were answered with "not now"; ``stale``: attempts on a kept
        connection that was closed
    :param excused: attempts that failed while the host was away
    :param busy_since: since when our own disk is what it waits for, on the clock, or None
    :param held: seconds for which it had waited for that before
    :param came: when its last byte had come, on the clock, or None
    :param hop: where the attempt goes on, after a redirect to another host
    :param renewed: how often a redirect was asked for anew, as what it named had expired
    :param deadline: on the clock, for all attempts together; ``late``: it has passed
    """

    member: Member
    headers: dict[str, str]
    target: Target
    attempts: int = 0
    throttled: int = 0
    stale: int = 0
    excused: int = 0
    received: int = 0
    length: int | None = None
    modified: int | None = None
    digest: str = ""
    hop: Hop | None = None
    renewed: int = 0
    verified: bool = False
    finishing: bool = False
    busy_since: float | None = None
    held: float = 0.0
    came: float | None = None
    deadline: float | None = None
    late: bool = False
    partial: Partial | None = None

    @property
    def host(self) -> str:
        """The host that is asked next."""
        return host_of(self.member.url if self.hop is None else self.hop.url)

    def forget(self) -> None:
        """What has come is of no use."""
        partial, self.partial = self.partial, None
        self.received, self.length = 0, None
        if partial is not None:
            partial.sink.discard()


class Fetcher:
    """Makes attempts.

    :param header_timeout: seconds until the response's headers, from each host
    :param patience: with its body
    """

    def __init__(
        self, agent: IAgent, clock: IReactorTime, header_timeout: float, patience: BodyLimits
    ) -> None:
        self._client = HTTPClient(agent, NO_COOKIES)
        self._clock = clock
        self._header_timeout = header_timeout
        self._patience = patience

    async def attempt(self, fetch: Fetch) -> None:
        """Fetch a member, or the rest of it.

        :raises MemberError: it did not work; what has come stays where it can be continued
        :raises Redirected: ``fetch.hop`` says where it goes on
        """
        fetch.finishing, fetch.busy_since, fetch.held, fetch.came = False, None, 0.0, None
        try:
            await self._attempt(fetch)
        except Redirected:
            raise
        except MemberError as failed:
            if not (failed.retry and fetch.partial and fetch.partial.validator):
                fetch.forget()
            raise
        except BaseException:
            fetch.forget()
            raise

    async def _attempt(self, fetch: Fetch) -> None:
        response = await self._ask(fetch, self._clock.seconds() + self._header_timeout)
        try:
            sink = self._sink(fetch, response)
        except BaseException:
            await drop(response, self._clock)
            raise
        body = Body(fetch, sink, self._clock, self._patience)
        try:
            response.deliverBody(body)
            certain = await body.done
            self._check_length(fetch, response, certain)
            fetch.verified = certain or bool(fetch.member.sha256 or fetch.digest)
            fetch.finishing, fetch.came = True, self._clock.seconds()
            await sink.finish()
        except BaseException:
            body.abort()
            raise
        fetch.partial = None

    def _check_length(self, fetch: Fetch, response: IResponse, certain: bool) -> None:
        """A body that ended well by its own framing may still not be the member's."""
        original: Any = getattr(response, "original", response)
        got, length = fetch.received, fetch.length
        if getattr(original, "overlong", False) or (length is not None and got > length):
            fetch.forget()
            raise MemberError("body_long", "more bytes than the headers announced")
        if length is not None and got < length:
            fetch.forget()
            raise MemberError("body_short", f"the answers ended after {got} bytes of {length}")
        if not certain and getattr(original, "broken", False):
            raise MemberError("body_short", f"the connection broke after {got} bytes")

    def _sink(self, fetch: Fetch, response: IResponse) -> Sink:
        """A new sink; or that of the attempt that this one continues."""
        if response.code == 206:
            assert fetch.partial is not None
            named = fetch.partial.validator
            try:
                fetch.length = total_from(response, fetch.received, named, fetch.length)
            except MemberError:
                fetch.forget()
                raise
            return fetch.partial.sink
        fetch.forget()
        fetch.length = response.length if isinstance(response.length, int) else None
        if fetch.length is not None and fetch.length > self._patience.most:
            what = f"{fetch.length} bytes, at most {self._patience.most} are taken"
            raise MemberError("too_large", what)
        fetch.modified, fetch.digest = modified(response), digest(response)
        sink = fetch.target.open(fetch)
        fetch.partial = Partial(sink, validator(response))
        return sink

    async def _ask(self, fetch: Fetch, deadline: float) -> IResponse:
        """The final response, after redirects within one host.

        :raises Redirected: it is at another one
        """
        hop, fetch.hop = fetch.hop or self._first(fetch), None
        url, headers = hop.url, hop.headers
        for number in range(hop.number, MAX_REDIRECTS + 1):
            url, authorization = take_userinfo(url.partition("#")[0])
            if authorization:
                headers = headers | {"Authorization": authorization}
            response = await self._get(url, headers, deadline)
            if response.code == 200 or (response.code == 206 and fetch.partial is not None):
                return response
            target = location(response)
            await drop(response, self._clock)
            if response.code == 416 and fetch.partial is not None:
                fetch.forget()
                return await self._ask(fetch, deadline)
            if response.code not in REDIRECTS or not target:
                raise refusal(response)
            try:
                target = urljoin(url, target)
            except ValueError:
                target = ""
            if not is_url(target):
                raise MemberError("bad_response", "redirected to something that is not a URL")
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                headers = {k: v for k, v in headers.items() if k.lower() not in SECRETS}
            if host_of(target) != host_of(url) and number < MAX_REDIRECTS:
                fetch.hop = Hop(target, headers, number + 1, self._clock.seconds())
                raise Redirected
            url = target
        raise MemberError("too_many_redirects", f"more than {MAX_REDIRECTS} redirects")

    def _first(self, fetch: Fetch) -> Hop:
        """Where an attempt begins."""
        headers = fetch.headers | fetch.member.headers
        if fetch.partial is not None:
            headers |= {"Range": f"bytes={fetch.received}-", "If-Range": fetch.partial.validator}
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
