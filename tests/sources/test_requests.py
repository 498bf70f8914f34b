"""Redirects, credentials, cookies. The first line of each test is a row of the page's table."""

import hashlib
import re
from typing import Any

from tests.support.downloads import DownloadTestCase
from tests.support.origin_server import Exchange, Site, ok, respond
from twisted_bulk.downloads.fetch import Fetch
from twisted_bulk.http_client.cookies import MAX_COOKIES


def to(url: str, *headers: str, status: str = "302 Found") -> bytes:
    """A redirect."""
    return respond(status, b"", f"Location: {url}", *headers)


class ChainTestCase(DownloadTestCase):
    """Each member is fetched by a chain of requests."""

    def setUp(self) -> None:
        super().setUp()
        self.other = Site(self)

    async def fetch(self, path: str = "/a", **member: Any) -> Fetch:
        fetch = self.one(path, **member)
        await self.get(fetch)
        error = self.errors[path]
        self.assertIsNone(error, error and error.detail)
        return fetch

    def sent(self, site: Site, name: str) -> list[str]:
        """The values of a header in all requests of a site, as they were sent."""
        lines = [line for _, head, _ in site.requests for line in head]
        return [line.split(": ", 1)[1] for line in lines if line.lower().startswith(f"{name}: ")]


class RedirectRowTests(ChainTestCase):
    """Redirects."""

    async def test_statuses(self) -> None:
        """300 with `Location`, 301, 302, 303, 307, 308 | followed"""
        for status in (300, 301, 302, 303, 307, 308):
            self.site.answers |= {"/a": to("/b", status=f"{status} X"), "/b": ok(b"%d" % status)}
            await self.fetch()
            self.assertEqual(self.sinks[-1].data, b"%d" % status)

    async def test_twenty(self) -> None:
        """up to 20 of them (`--max-redirects`) | followed; more is `too_many_redirects`"""
        self.site.answers |= {f"/{n}": to(f"/{n + 1}") for n in range(21)}
        self.site.answers["/21"] = ok(b"end")
        await self.fetch("/1")
        self.sinks.clear()
        self.assertEqual((await self.fails("/0"))[0], "too_many_redirects")

    async def test_written(self) -> None:
        """a `Location` with blanks, tabs, line ends, backslashes, letters beyond ASCII | mended as
        a URL is
        """
        for where, path in (
            ("/b c", "/b%20c"), (" /b\t", "/b"), ("\\b\\d", "/b/d"), ("b;c?d e", "/b;c?d%20e"),
            ("?x", "/a?x"), ("/\xc3\xbc", "/%C3%BC"), ("/\xff", "/%FF"), ("./x/../b#y", "/b"),
        ):  # fmt: skip
            self.site.answers |= {"/a": to(where), path: ok(path.encode())}
            await self.fetch()
            self.assertEqual(self.sinks[-1].data, path.encode())

    async def test_no_url(self) -> None:
        """a `Location` that is no http URL | `bad_response`"""
        for where in (
            "file:///etc/passwd",
            "gopher://h/",
            "http://",
            "http://a b/",
            "javascript:1",
        ):
            self.site.answers["/a"] = to(where)
            self.assertEqual((await self.fails("/a"))[0], "bad_response", where)

    async def test_no_location(self) -> None:
        """302 without `Location` | `http_error`"""
        self.site.answers["/a"] = respond("302 Found")
        self.assertEqual((await self.fails("/a"))[0], "http_error")

    async def test_unclear_length(self) -> None:
        """a redirect whose length is unclear | followed; its connection is closed"""
        for odd in ("Content-Length: 3\r\nContent-Length: 4", "Transfer-Encoding: brotli"):
            head = f"HTTP/1.1 302 F\r\nLocation: /b\r\n{odd}\r\n\r\nabc"
            self.site.answers |= {"/a": head.encode(), "/b": ok(b"b")}
            connections = self.site.connections
            await self.fetch()
            self.assertEqual((self.sinks[-1].data, self.site.connections - connections), (b"b", 2))

    async def test_same_origin(self) -> None:
        """to the same scheme, host and port | all headers go along, user info too"""
        url = self.site.url.replace("://", "://u:p@")
        upper = self.site.url.replace("http", "HTTP")
        self.site.answers |= {"/a": to(f"{upper}/b"), "/b": ok(b"b")}
        await self.fetch(f"{url}/a", headers={"X-Secret": "s"})
        self.assertEqual(self.sent(self.site, "x-secret"), ["s", "s"])
        self.assertEqual(self.sent(self.site, "authorization"), ["Basic dTpw", "Basic dTpw"])

    async def test_other_origin(self) -> None:
        """to another host or port | of all headers only `Accept*`, `User-Agent`, `Referer`,
        `Range` go along
        """
        self.site.answers["/a"] = to(f"{self.other.url}/b")
        self.other.answers["/b"] = ok(b"b")
        given = {
            "Authorization": "Bearer s", "Cookie": "a=b", "X-Api-Key": "s", "PRIVATE-TOKEN": "s",
            "X-Anything": "s", "Accept": "audio/*", "Accept-Language": "de", "User-Agent": "me",
            "Referer": "http://r/",
        }  # fmt: skip
        url = self.site.url.replace("://", "://u:p@")
        await self.fetch(f"{url}/a", headers=given)
        kept = {"accept", "accept-language", "user-agent", "referer"}
        usual = {"host", "accept-encoding", "connection"}
        self.assertEqual(set(self.other.headers()) - usual, kept)
        self.assertEqual(self.site.headers()["private-token"], "s")

    async def test_there_and_back(self) -> None:
        """from there back to the first origin | secrets do not come back"""
        self.site.answers |= {"/a": to(f"{self.other.url}/b"), "/c": ok(b"c")}
        self.other.answers["/b"] = to(f"{self.site.url}/c")
        await self.fetch(headers={"X-Api-Key": "s"})
        self.assertNotIn("x-api-key", self.site.headers())

    async def test_userinfo_of_a_redirect(self) -> None:
        """user info in `Location` | is used there"""
        where = self.other.url.replace("://", "://x:y@")
        self.site.answers["/a"] = to(f"{where}/b")
        self.other.answers["/b"] = ok(b"b")
        await self.fetch()
        self.assertEqual(self.other.headers()["authorization"], "Basic eDp5")

    async def test_not_public(self) -> None:
        """to an address that is not public, or a closed port | `address_refused`, `port_refused`"""
        for where, code in (
            ("http://169.254.169.254/", "address_refused"), ("http://[::1]/", "address_refused"),
            ("http://0xa9fea9fe/", "address_refused"), ("http://8.8.8.8:22/", "port_refused"),
            ("http://169\u3002254.169.254/".encode().decode("latin-1"), "address_refused"),
        ):  # fmt: skip
            self.site.answers["/a"] = to(where)
            self.assertEqual((await self.fails("/a"))[0], code, where)


class CookieRowTests(ChainTestCase):
    """Cookies, Digest, spelling."""

    async def test_set_by_a_redirect(self) -> None:
        """a cookie that a redirect sets | sent to that host within the member's requests"""
        self.site.answers |= {
            "/a": to("/b", "Set-Cookie: s=1; Path=/; HttpOnly", "Set-Cookie: t=2; Path=/x"),
            "/b": to("/x/c", "Set-Cookie: s=3; Path=/"),
            "/x/c": ok(b"c"),
        }
        await self.fetch(headers={"Cookie": "own=1; s=0"})
        self.assertEqual(
            self.sent(self.site, "cookie"), ["own=1; s=0", "own=1; s=1", "own=1; t=2; s=3"]
        )

    async def test_other_hosts(self) -> None:
        """a cookie with a `Domain` | for no other host than the one that set it"""
        port = self.other.url.rsplit(":", 1)[1]
        self.site.answers["/a"] = to(
            f"http://localhost:{port}/b", "Set-Cookie: s=1; Domain=localhost",
            "Set-Cookie: t=1; Domain=.0.0.1", "Set-Cookie: u=1",
        )  # fmt: skip
        self.other.answers["/b"] = to(f"{self.site.url}/c", "Set-Cookie: v=1")
        self.site.answers["/c"] = ok(b"c")
        await self.fetch()
        self.assertEqual(self.sent(self.other, "cookie"), [])
        (sent,) = self.sent(self.site, "cookie")
        self.assertEqual(sorted(sent.split("; ")), ["s=1", "t=1", "u=1"])

    async def test_secure_and_expired(self) -> None:
        """a `Secure` cookie over http, one that has expired | not sent"""
        self.site.answers |= {
            "/a": to("/b", "Set-Cookie: s=1; Secure", "Set-Cookie: t=1; Max-Age=0"), "/b": ok(b"b"),
        }  # fmt: skip
        await self.fetch()
        self.assertEqual(self.sent(self.site, "cookie"), [])

    async def test_other_members(self) -> None:
        """a cookie of another member | not sent"""
        self.site.answers |= {"/a": to("/b", "Set-Cookie: s=1; Path=/"), "/b": ok(b"b")}
        await self.fetch()
        self.site.requests.clear()
        self.sinks.clear()
        self.site.answers["/c"] = ok(b"c", "Set-Cookie: x=y")
        await self.get(self.one("/c"), self.one("/b"))
        self.assertEqual(self.sent(self.site, "cookie"), [])

    async def test_many(self) -> None:
        """more than 50 cookies | the others are ignored"""
        cookies = [f"Set-Cookie: c{n}=1" for n in range(99)]
        self.site.answers |= {"/a": to("/b", *cookies[:40]), "/b": to("/c", *cookies[40:])}
        self.site.answers["/c"] = ok(b"c")
        await self.fetch()
        sent = [len(cookie.split("; ")) for cookie in self.sent(self.site, "cookie")]
        self.assertEqual(sent, [40, MAX_COOKIES])

    async def test_large(self) -> None:
        """cookies of more than 8 KiB in all, or not in UTF-8 | not sent"""
        self.site.answers |= {
            "/a": to(
                "/b", "Set-Cookie: a=1; Expires=Wed, 1 Jan 9" + "9" * 5000 + " 00:00:00 GMT",
                "Set-Cookie: b=2; Max-Age=" + "9" * 400, "Set-Cookie: c=\xff",
                *(f"Set-Cookie: d{n}=" + "x" * 2000 for n in range(9)),
            ),
            "/b": ok(b"b"),
        }  # fmt: skip
        await self.fetch()
        (sent,) = self.sent(self.site, "cookie")
        names = [pair.partition("=")[0] for pair in sent.split("; ")]
        self.assertEqual(names, ["a", "b", "d0", "d1", "d2", "d3"])

    async def test_set_again(self) -> None:
        """a large cookie that each redirect sets anew | the last one counts, and takes room once"""
        for n in range(18):
            cookie = f"Set-Cookie: s={n}" + "x" * 1000
            self.site.answers[f"/{n}"] = to(f"/{n + 1}", cookie)
        self.site.answers["/18"] = ok(b"end")
        await self.fetch("/0")
        self.assertTrue(self.sent(self.site, "cookie")[-1].startswith("s=17x"))

    def digest(self, challenge: str, algorithm: str) -> None:
        """The site asks for Digest, and checks the answer."""

        def hashed(text: str) -> str:
            return hashlib.new(algorithm, text.encode()).hexdigest()

        def answer(exchange: Exchange) -> None:
            given = self.site.headers().get("authorization", "")
            found = dict(re.findall(r'([a-z]+)="?([^",]*)"?', given))
            action = hashed("GET:/a?b")
            secret = hashed("u:r:p")
            if "sess" in challenge and "cnonce" in found:
                secret = hashed(f"{secret}:n:{found['cnonce']}")
            middle = f"n:{found['nc']}:{found['cnonce']}:auth" if "nc" in found else "n"
            good = given.startswith("Digest ") and found["uri"] == "/a?b" and found["opaque"] == "o"
            if good and found["response"] == hashed(f"{secret}:{middle}:{action}"):
                exchange.write(ok(b"in"))
            else:
                exchange.write(respond("401 No", b"", *challenge.split("\n")))

        self.site.answers["/a?b"] = answer

    async def test_digest(self) -> None:
        """401 that asks for Digest (MD5, SHA-256, -sess, with and without qop), with user info |
        answered
        """
        url = self.site.url.replace("://", "://u:p@") + "/a?b"
        asks, r = "WWW-Authenticate: Digest", 'realm="r", nonce="n", opaque="o"'
        for challenge, algorithm in (
            (f'{asks} {r}, qop="auth,auth-int"', "md5"),
            (f"{asks} {r}", "md5"),
            (f'{asks} algorithm=SHA-256,qop="auth",{r.replace(", ", ",")}', "sha256"),
            (f"{asks} {r}, algorithm=MD5-sess, qop=auth", "md5"),
            (f'WWW-Authenticate: Basic realm="b", Digest {r}', "md5"),
            (f"{asks} {r}, algorithm=MD5\n{asks} {r}, algorithm=SHA-256", "sha256"),
        ):
            self.digest(challenge, algorithm)
            fetch = await self.fetch(url)
            self.assertEqual((self.sinks[-1].data, fetch.tries.attempts), (b"in", 1), challenge)

    async def test_wrong_password(self) -> None:
        """a wrong password, 401 without user info, an unknown algorithm | `http_error`, asked
        twice at most
        """
        challenge = 'WWW-Authenticate: Digest realm="r", nonce="n", opaque="o"'
        self.digest(challenge, "md5")
        url = self.site.url.replace("://", "://u:q@") + "/a?b"
        self.assertEqual((await self.fails(url))[0], "http_error")
        self.assertEqual(len(self.site.requests), 2)
        self.assertEqual((await self.fails("/a?b"))[0], "http_error")
        self.digest(challenge + ", algorithm=ROT13", "md5")
        self.assertEqual((await self.fails(url))[0], "http_error")
        self.assertEqual(len(self.site.requests), 4)

    async def test_digest_elsewhere(self) -> None:
        """Digest of another host after a redirect | not answered with the password of the first"""
        self.site.answers["/a"] = to(f"{self.other.url}/b")
        challenge = 'WWW-Authenticate: Digest realm="r", nonce="n"'
        self.other.answers["/b"] = respond("401 No", b"", challenge)
        url = self.site.url.replace("://", "://u:p@") + "/a"
        self.assertEqual((await self.fails(url))[0], "http_error")
        self.assertEqual(self.sent(self.other, "authorization"), [])

    async def test_spelling(self) -> None:
        """the names of headers | sent as they were spelled; `Accept: */*` if none is given"""
        self.site.answers["/a"] = ok(b"a")
        await self.fetch(headers={"x-API-key": "s", "SOAPAction": "t"})
        head = self.site.requests[-1][1]
        self.assertTrue({"x-API-key: s", "SOAPAction: t", "Accept: */*"} <= set(head), head)
