"""What the replies to callbacks say."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.notify.replies import MAX_SAID_BYTES, refusal


class _Response:
    def __init__(self, code: int) -> None:
        self.code = code


class RefusalTests(SynchronousTestCase):
    """A status and a few words."""

    def test_words(self) -> None:
        """Of the body its text, in one line, as far as there is room; never half a letter."""
        response: Any = _Response(503)
        for body, said in (
            (b"", "HTTP 503"),
            (b"no such  user\r\n", "HTTP 503: no such user"),
            (
                b"<html><h1>Fatal error</h1>\n<p>in /var/www</p>",
                "HTTP 503: Fatal error in /var/www",
            ),
            (b"<html <script", "HTTP 503"),
            (b"\x00\x1b[31m \xff\xfe", "HTTP 503"),
            ("数据库".encode(), "HTTP 503: 数据库"),
            ("数".encode() * 200, "HTTP 503: " + "数" * (MAX_SAID_BYTES // 3)),
        ):
            self.assertEqual(refusal(response, body), said)
