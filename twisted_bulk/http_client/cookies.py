"""The cookies of one member: from its redirects, for the hosts that have set them."""

import re
from http.client import HTTPMessage
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request

from twisted.web.iweb import IResponse

MAX_COOKIES = 50  # of one member; further ones are ignored
MAX_BYTES = 8 * 1024  # of all of them, with their attributes
#: The attributes that are looked at. Others are left out, as are those that no server means so.
_ATTRIBUTE = re.compile(
    r"(?i)\s*(path=[^\s]{0,200}|secure|max-age=-?\d{1,9}|expires=(?!.*\d{5})[\w ,:+-]{1,50})\s*"
)


class _SameHost(DefaultCookiePolicy):
    """A cookie is for the host that has set it, and for no other, whatever its Domain says.

    So no list of public suffixes is needed.
    """

    def set_ok(self, cookie: Cookie, request: Any) -> bool:
        cookie.domain = urlsplit(request.get_full_url()).hostname or ""
        cookie.domain_specified = cookie.domain_initial_dot = False
        return bool(self.set_ok_path(cookie, request))

    def return_ok(self, cookie: Cookie, request: Any) -> bool:
        url = urlsplit(request.get_full_url())
        secure = not cookie.secure or url.scheme == "https"
        return bool(cookie.domain == url.hostname and secure and not cookie.is_expired())

    def domain_return_ok(self, domain: str, request: Any) -> bool:
        return bool(domain == urlsplit(request.get_full_url()).hostname)


def _harmless(value: bytes) -> str:
    """A Set-Cookie with the attributes that matter; empty: it could not be sent back as it is."""
    try:
        pair, *attributes = value.decode().split(";")
    except UnicodeDecodeError:
        return ""
    return ";".join((pair, *filter(_ATTRIBUTE.fullmatch, attributes)))


class Cookies:
    """The cookies that one member's responses have set."""

    def __init__(self) -> None:
        self._jar = CookieJar(_SameHost())

    def take(self, response: IResponse, url: str) -> None:
        """Take the cookies of a response.

        :param url: of its request
        """
        values: list[bytes] = response.headers.getRawHeaders(b"Set-Cookie") or []
        if not values:
            return
        message = HTTPMessage()
        room = MAX_BYTES - sum(len(one.name) + len(one.value or "") for one in self._jar)
        for value in values[: max(0, MAX_COOKIES - len(self._jar))]:
            cookie = _harmless(value)
            room -= len(cookie)
            if cookie and room >= 0:
                message.add_header("Set-Cookie", cookie)

        class _Answer:
            info = staticmethod(lambda: message)

        self._jar.extract_cookies(_Answer(), Request(url))  # type: ignore[arg-type]

    def header(self, url: str, given: str) -> str:
        """The value of Cookie for a request.

        :param given: cookies that the user has given for it; a cookie that was set replaces one of
            that name
        """
        request = Request(url)
        self._jar.add_cookie_header(request)
        found = request.get_header("Cookie", "") or ""
        names = {pair.partition("=")[0].strip() for pair in found.split(";")}
        own = [pair for pair in given.split(";") if pair.partition("=")[0].strip() not in names]
        return "; ".join(pair.strip() for pair in (*own, found) if pair.strip())
