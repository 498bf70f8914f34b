"""The requests of one attempt: redirects, credentials, cookies. Pure.

A :class:`Hop` is one request. Secrets go along to the origin that they are for, and nowhere else,
whatever their headers are called: to another origin only headers go that are known to be harmless.
"""

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from twisted.web.iweb import IResponse

from twisted_bulk.errors import MemberError
from twisted_bulk.http_client import digest_auth
from twisted_bulk.http_client.cookies import Cookies
from twisted_bulk.http_client.response import location
from twisted_bulk.system import urls

REDIRECT_STATUSES = frozenset((300, 301, 302, 303, 307, 308))
#: Headers that go along to another origin; their names in lower case. Also `accept` and what begins
#: with `accept-`.
HARMLESS = frozenset(("user-agent", "referer", "range", "if-range"))


@dataclass(frozen=True)
class Hop:
    """One request of an attempt.

    :param url: as :func:`~twisted_bulk.system.urls.normal` returns it, without user info
    :param headers: those of the batch and of the member that may go to it
    :param userinfo: ``user:password`` for it, or empty
    :param digest: the value of Authorization that answers its server's challenge, or empty
    :param cookies: those of the requests before it; None: none was set
    :param number: redirects so far
    :param since: when it became known, on the reactor's clock
    """

    url: str
    headers: dict[str, str]
    userinfo: str = ""
    digest: str = ""
    cookies: Cookies | None = None
    number: int = 0
    since: float = 0.0

    @property
    def sent(self) -> dict[str, str]:
        """All headers of the request that depend on where it goes."""
        sent = self.headers
        authorization = self.digest or (urls.basic(self.userinfo) if self.userinfo else "")
        if authorization:
            sent = {k: v for k, v in sent.items() if k.lower() != "authorization"}
            sent["Authorization"] = authorization
        if self.cookies is not None:
            given = "; ".join(v for k, v in sent.items() if k.lower() == "cookie")
            cookie = self.cookies.header(self.url, given)
            sent = {k: v for k, v in sent.items() if k.lower() != "cookie"}
            sent |= {"Cookie": cookie} if cookie else {}
        return sent


def first(url: str, headers: dict[str, str], now: float) -> Hop:
    """The first request of an attempt.

    :param url: as the user wrote it
    :raises MemberError: it is no URL
    """
    normal = urls.normal(url)
    if not normal:
        raise MemberError("bad_url", urls.reason(url))
    where, userinfo = urls.take_userinfo(normal)
    return Hop(where, headers, userinfo, since=now)


def following(hop: Hop, response: IResponse, most: int, now: float) -> Hop | None:
    """The request that a response asks for; None: it asks for none.

    :param most: redirects
    :raises MemberError: there are too many, or it leads nowhere
    """
    cookies = hop.cookies
    if response.headers.hasHeader(b"Set-Cookie"):
        cookies = cookies or Cookies()
        cookies.take(response, hop.url)
    if response.code == 401:
        asked = [
            value.decode("utf-8", "replace")  # RFC 7616, 3.3: UTF-8 is the only other charset
            for value in response.headers.getRawHeaders(b"WWW-Authenticate", [])
        ]
        if not hop.userinfo or hop.digest or not digest_auth.is_asked(asked):
            return None
        parts = urlsplit(hop.url)
        target = parts.path + (f"?{parts.query}" if "?" in hop.url else "")
        digest = digest_auth.answer(asked, hop.userinfo, target)
        return replace(hop, digest=digest, cookies=cookies, since=now)
    where = location(response)
    if response.code not in REDIRECT_STATUSES or not where:
        return None
    found, userinfo = urls.take_userinfo(urls.join(hop.url, where))
    if not found:
        raise MemberError("bad_response", "redirected to something that is not a URL")
    if hop.number >= most:
        raise MemberError("too_many_redirects", f"more than {most} redirects")
    headers = hop.headers
    if urls.may_have_secrets_of(found, hop.url):
        userinfo = userinfo or hop.userinfo
    else:
        headers = {name: value for name, value in headers.items() if _is_harmless(name)}
    return Hop(found, headers, userinfo, "", cookies, hop.number + 1, now)


def _is_harmless(name: str) -> bool:
    name = name.lower()
    return name in HARMLESS or name == "accept" or name.startswith("accept-")
