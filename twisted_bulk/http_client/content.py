"""What the headers of a response tell of its body."""

from urllib.parse import urlsplit

import msgspec
from twisted.web.iweb import IResponse

from twisted_bulk.http_client.codings import codings_of, to_decode
from twisted_bulk.http_client.parser import facts_of
from twisted_bulk.http_client.response import digest, header, media_type, modified, whole_length

MAX_TYPE = 255  # characters of Content-Type that are kept (RFC 6838, 4.2)
MAX_NAMED = 10  # codings of a body that is kept that are named
MAX_DISPOSITION = 4096  # bytes of Content-Disposition that are looked at


class Content(msgspec.Struct, frozen=True):
    """A body by its headers.

    :param length: in bytes, as they are sent; None: it is unknown
    :param modified: Last-Modified, in seconds since 1970; None: it is unknown
    :param digest: its SHA-256 in hexadecimal digits, or empty
    :param type: Content-Type without parameters, or empty
    :param disposition: Content-Disposition as Latin-1, or empty
    :param url: of the request that it answers
    :param decoded: its codings, which are decoded; the digest is not that of the decoded bytes
    :param encoding: its codings, if it is kept as it comes; empty: it has none
    """

    length: int | None = None
    modified: int | None = None
    digest: str = ""
    type: str = ""
    disposition: str = ""
    url: str = ""
    decoded: tuple[str, ...] = ()
    encoding: str = ""

    @property
    def size(self) -> int | None:
        """Bytes of the file; None: it is unknown."""
        return None if self.decoded else self.length


NO_CONTENT = Content()


def content_of(response: IResponse, url: str) -> Content:
    """The content of a response to a request for ``url``."""
    media, codings = media_type(response), codings_of(facts_of(response).codings)
    decoded = to_decode(codings, urlsplit(url).path, media) if codings else ()
    return Content(
        length=whole_length(response),
        modified=modified(response),
        digest="" if decoded else digest(response),
        type=media[:MAX_TYPE],
        disposition=header(response, b"Content-Disposition")[:MAX_DISPOSITION],
        url=url,
        decoded=decoded,
        encoding="" if decoded else ", ".join(codings[:MAX_NAMED]),
    )
