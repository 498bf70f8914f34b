"""One attempt at one member: the request, redirects, the body, and their deadlines."""

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from hyperlink import EncodedURL
from idna import IDNAError
from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss, stringToDatetime
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from twisted_bulk.batch import Member, is_url
from twisted_bulk.errors import MemberError
from twisted_bulk.guard import hang_up

MAX_REDIRECTS = 5
PASSING = frozenset((408, 425, 429, 500, 502, 503, 504, 507, 509))
REDIRECTS = frozenset((301, 302, 303, 307, 308))
SECRETS = frozenset(("authorization", "cookie", "x-api-key"))


class Sink(Protocol):
    """Where one attempt's bytes go."""

    def write(self, data: bytes) -> "Deferred[None] | None":
        """Take a piece; with a Deferred, no more until it fires."""

    async def finish(self) -> None:
        """All has come. :raises MemberError: it is not what was asked for"""

    def discard(self) -> None:
        """The attempt failed; nothing of it stays."""


@dataclass(eq=False)
class Fetch:
    """One member on its way.

    :param open: makes the sink of an attempt; the response's ``length`` is set by then
    :param ended: told once, with the error or None
    :param modified: what the server said, in seconds since 1970
    """

    member: Member
    headers: dict[str, str]
    open: Callable[["Fetch"], Sink]
    ended: Callable[["Fetch", MemberError | None], None]
    attempts: int = 0
    received: int = 0
    length: int | None = None
    modified: int | None = None
    verified: bool = False
    finishing: bool = False


class Fetcher:
    """Makes attempts.

    :param header_timeout: seconds until the response's headers, redirects included
    :param idle_timeout: seconds without a byte of body
    """

    def __init__(
        self, agent: IAgent, clock: IReactorTime, header_timeout: float, idle_timeout: float
    ) -> None:
        self._agent = agent
        self._clock = clock
        self._header_timeout = header_timeout
        self._idle_timeout = idle_timeout

    async def attempt(self, fetch: Fetch) -> None:
        """Fetch a member into a new sink.

        :raises MemberError: it did not work; the sink was told to discard
        """
        fetch.received, fetch.length, fetch.finishing = 0, None, False
        response = await self._respond(fetch)
        fetch.length = response.length if isinstance(response.length, int) else None
        fetch.modified = _modified(response)
        try:
            sink = fetch.open(fetch)
        except BaseException:
            hang_up(response)
            raise
        body = _Body(fetch, sink, self._clock, self._idle_timeout)
        try:
            response.deliverBody(body)
            fetch.verified = await body.done
            fetch.finishing = True
            await sink.finish()
        except BaseException:
            body.abort()
            sink.discard()
            raise

    async def _respond(self, fetch: Fetch) -> IResponse:
        """The final response, after redirects."""
        late = MemberError("header_timeout", f"no answer within {self._header_timeout:g} s")
        asking = Deferred.fromCoroutine(self._ask(fetch))
        timer = self._clock.callLater(self._header_timeout, asking.cancel)
        try:
            return await asking
        except CancelledError:
            if timer.active():
                raise  # somebody else's wish
            raise late from None
        finally:
            if timer.active():
                timer.cancel()

    async def _ask(self, fetch: Fetch) -> IResponse:
        url, headers = fetch.member.url, fetch.headers | fetch.member.headers
        for _ in range(MAX_REDIRECTS + 1):
            url, headers = _take_userinfo(url, headers)
            # A client of its own each time: treq's share their cookies.
            try:
                response = await HTTPClient(self._agent).get(
                    _Literal.from_text(url) if "://[" in url else url,
                    headers=Headers({name: [value] for name, value in headers.items()}),
                    allow_redirects=False,
                    unbuffered=True,
                )
            except (MemberError, CancelledError):
                raise
            except Exception as problem:
                if any(reason.check(CancelledError) for reason in getattr(problem, "reasons", ())):
                    raise CancelledError() from problem
                raise _explain(Failure(problem)) from problem
            if response.code == 200:
                return response
            location = _header(response, b"Location")
            hang_up(response)
            if response.code not in REDIRECTS or not location:
                raise _status(response)
            try:
                target = urljoin(url, location)
            except ValueError:
                target = ""
            if not is_url(target):
                raise MemberError("bad_response", "redirected to something that is not a URL")
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                headers = {k: v for k, v in headers.items() if k.lower() not in SECRETS}
            url = target
        raise MemberError("too_many_redirects", f"more than {MAX_REDIRECTS} redirects")


def _take_userinfo(url: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Turn ``user:password@`` of a URL into a header."""
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, headers
    token = b64encode(unquote(userinfo).encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), headers | {"Authorization": f"Basic {token}"}


class _Literal(EncodedURL):
    """A URL of an IPv6 address, which hyperlink would run through IDNA, in vain."""

    def to_uri(self) -> "_Literal":
        return self


def _header(response: IResponse, name: bytes) -> str:
    """The first value of a header, whatever bytes it has; empty where there is none."""
    values: list[bytes] = response.headers.getRawHeaders(name) or [b""]
    return values[0].decode("latin-1")


def _modified(response: IResponse) -> int | None:
    try:
        return int(stringToDatetime(_header(response, b"Last-Modified").encode("ascii")))
    except (ValueError, IndexError, OverflowError):
        return None


def _status(response: IResponse) -> MemberError:
    phrase = response.phrase.decode("ascii", "replace")[:80]
    code = "http_unavailable" if response.code in PASSING else "http_error"
    after = _header(response, b"Retry-After")
    retry_after = float(after) if re.fullmatch(r"[0-9]{1,6}", after) else None
    return MemberError(code, f"HTTP {response.code} {phrase}".strip(), retry_after=retry_after)


def _explain(failure: Failure) -> MemberError:
    """The member's error for what an HTTP client raised."""
    reasons: list[Failure] = [failure, *getattr(failure.value, "reasons", ())]
    for reason in reasons:
        if isinstance(reason.value, MemberError):
            return reason.value
        if reason.check(SSL.Error, VerificationError):
            return MemberError("tls_failed", "no TLS, or the certificate is not valid for it")
    last = reasons[-1]
    if last.check(IDNAError, UnicodeError):
        return MemberError("bad_url", "the host's name is not one that DNS can hold")
    if last.check(error.ConnectionClosed, error.ConnectionDone, error.ConnectionLost):
        return MemberError("connection_lost", "the connection was closed before an answer")
    return MemberError("bad_response", f"not an HTTP answer ({type(last.value).__name__})")


class _Body(TwistedProtocol):
    """Hand a body to its sink; stop reading while the sink is busy, give up on silence.

    ``done`` fires with whether the body's end was certain.
    """

    def __init__(self, fetch: Fetch, sink: Sink, clock: IReactorTime, idle: float) -> None:
        self.done: Deferred[bool] = Deferred(lambda _: self.abort())
        self._fetch = fetch
        self._sink = sink
        self._clock = clock
        self._idle = idle
        self._heard = clock.seconds()
        self._busy = False
        self._timer: IDelayedCall | None = clock.callLater(idle, self._check)

    def _check(self) -> None:
        silent = self._clock.seconds() - self._heard
        if silent < self._idle or self._busy:
            wait = self._idle if self._busy else self._idle - silent
            self._timer = self._clock.callLater(wait, self._check)
            return
        self._timer = None
        self._fail(MemberError("idle_timeout", f"not a byte for {self._idle:g} s"))

    def dataReceived(self, data: bytes) -> None:
        if self.done.called:
            return
        self._heard = self._clock.seconds()
        self._fetch.received += len(data)
        try:
            busy = self._sink.write(data)
        except Exception as problem:
            self._fail(problem)
            return
        if busy is not None:
            self._busy = True
            cast(IPushProducer, self.transport).pauseProducing()
            busy.addCallbacks(self._resume, self._fail)

    def _resume(self, _: None) -> None:
        self._busy = False
        self._heard = self._clock.seconds()
        if self.transport is not None:
            cast(IPushProducer, self.transport).resumeProducing()

    def _fail(self, problem: BaseException | Failure) -> None:
        if not self.done.called:
            self.done.errback(problem)
        self.abort()

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008
        self.transport = None
        self._stop_timer()
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(True)
        elif reason.check(PotentialDataLoss):
            self.done.callback(False)
        elif reason.check(ResponseFailed):
            got = f"{self._fetch.received} bytes"
            if self._fetch.length is not None:
                got += f" of {self._fetch.length}"
            self.done.errback(MemberError("body_short", f"the connection ended after {got}"))
        else:
            self.done.errback(_explain(reason))

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def abort(self) -> None:
        """Stop for good and close the connection, if it is still there."""
        self._stop_timer()
        if self.transport is not None:
            self.transport.loseConnection()
