"""The name that a source gives to its file: by Content-Disposition, its URL, its type. Pure."""

import re
from contextlib import suppress
from email.errors import MessageError
from email.header import decode_header
from urllib.parse import unquote_to_bytes

from twisted_bulk.batch.names import MAX_PATH, safe, segment, split

#: One parameter of a header: its name, and its value as a quoted string or as it stands.
_PARAMETER = re.compile(r'[;\s]*([^;=]*)(?:=\s*(?:"((?:[^"\\]|\\.)*)"?|([^;]*)))?[^;]*', re.DOTALL)
_EXTENDED = re.compile(r"([A-Za-z0-9!#$%&+^_`{}~-]+)'[^']*'(.*)", re.DOTALL)
#: Character sets in which servers send names. Of others Python knows, some are no character sets.
CHARSETS = frozenset(
    (
        "utf-8 utf8 us-ascii ascii iso-8859-1 latin1 iso-8859-2 iso-8859-15 windows-1250"
        " windows-1251 windows-1252 koi8-r gb2312 gbk gb18030 big5 shift_jis iso-2022-jp euc-jp"
        " euc-kr"
    ).split()
)
_ENCODED_WORD = re.compile(r"=\?[^?\s]+\?[bBqQ]\?[^?]*\?=")
_ENDING = re.compile(r"\.(?=[A-Za-z0-9]*[A-Za-z])[A-Za-z0-9]{1,10}")
#: Endings of programs that send files: they are no endings of what is sent.
SCRIPTS = frozenset((".php", ".asp", ".aspx", ".ashx", ".jsp", ".cgi", ".pl", ".do", ".action"))
#: By type: the ending of a name that has none.
ENDINGS = {
    "application/gzip": ".gz",
    "application/json": ".json",
    "application/msword": ".doc",
    "application/pdf": ".pdf",
    "application/xml": ".xml",
    "application/zip": ".zip",
    "application/x-zip-compressed": ".zip",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "audio/aac": ".aac",
    "audio/aiff": ".aiff",
    "audio/amr": ".amr",
    "audio/basic": ".au",
    "audio/flac": ".flac",
    "audio/x-flac": ".flac",
    "audio/mp3": ".mp3",
    "audio/mp4": ".m4a",
    "audio/m4a": ".m4a",
    "audio/x-m4a": ".m4a",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/opus": ".opus",
    "audio/vnd.wave": ".wav",
    "audio/wav": ".wav",
    "audio/wave": ".wav",
    "audio/webm": ".webm",
    "audio/x-gsm": ".gsm",
    "audio/x-wav": ".wav",
    "audio/x-pn-wav": ".wav",
    "image/avif": ".avif",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/heic": ".heic",
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/pjpeg": ".jpg",
    "image/png": ".png",
    "image/svg+xml": ".svg",
    "image/tiff": ".tif",
    "image/vnd.microsoft.icon": ".ico",
    "image/webp": ".webp",
    "image/x-icon": ".ico",
    "text/css": ".css",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/javascript": ".js",
    "text/markdown": ".md",
    "text/plain": ".txt",
    "text/vtt": ".vtt",
    "text/xml": ".xml",
    "video/3gpp": ".3gp",
    "video/mp2t": ".ts",
    "video/mp4": ".mp4",
    "video/mpeg": ".mpg",
    "video/ogg": ".ogv",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
    "video/x-ms-wmv": ".wmv",
    "video/x-msvideo": ".avi",
}


def source_name(
    disposition: str, url: str, first_url: str, media: str, most: int = MAX_PATH
) -> str:
    """A safe name for a file; may be empty.

    :param disposition: the value of Content-Disposition, as Latin-1; or empty
    :param url: where it came from, after redirects, in ASCII
    :param first_url: where it was asked for at first
    :param media: its type, which gives an ending to a name without one
    :param most: characters
    """
    name = from_disposition(disposition, most) or from_url(url, most) or from_url(first_url, most)
    if not lacks_ending(name, media):
        return name
    stem, given = split(name)
    if given.lower() in SCRIPTS:
        name = stem
    return segment(f"{name or 'file'}{ENDINGS[media]}", most)


def lacks_ending(name: str, media: str) -> bool:
    """Whether a name gets an ending by the type of its file."""
    if media not in ENDINGS:
        return False
    given = split(name)[1]
    if given.lower() in SCRIPTS:
        return not media.startswith("text/")
    return not _ENDING.fullmatch(given)


def name_before(name: str, url: str, most: int = MAX_PATH) -> str:
    """The name of a member before its response has come.

    :param name: that its batch gives it, or empty
    :param most: UTF-8 bytes that it may have
    """
    return safe(name, most) or from_url(url, most) or "file"


def from_url(url: str, most: int = MAX_PATH) -> str:
    """A safe name from the last segment of a URL's path, without parameters; may be empty."""
    path = re.split(r"[?#]", url.partition("://")[2], maxsplit=1)[0].rstrip("/")
    last = path.rpartition("/")[2] if "/" in path else ""
    last = last.partition(";")[0]
    return segment(_unquoted(last).replace("/", "_").replace("\\", "_"), most)


def _unquoted(text: str) -> str:
    """Percent-encoded UTF-8, decoded once; other bytes stay percent-encoded."""
    decoded = unquote_to_bytes(text).decode("utf-8", "surrogateescape")
    return re.sub(r"[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", decoded)


def from_disposition(value: str, most: int = MAX_PATH) -> str:
    """A safe name from Content-Disposition (RFC 6266); may be empty.

    ``filename*`` counts before ``filename``. Of ``filename`` what servers really send is read: bare
    UTF-8, percent-encoded UTF-8, encoded words (RFC 2047), a Windows path.

    :param value: as Latin-1
    """
    if not value:
        return ""
    found = {"filename": "", "filename*": ""}
    at = 0
    while at < len(value):
        match = _PARAMETER.match(value, at)
        assert match is not None  # it matches anything
        name, at = match[1].strip().lower(), max(match.end(), at + 1)
        if name in found and not found[name]:
            found[name] = _unescaped(match[2] or "") or (match[3] or "").strip()
    text = _extended(found["filename*"]) or _plain(found["filename"])
    return segment(re.split(r"[/\\]", text.rstrip("/\\"))[-1], most)


def _unescaped(quoted: str) -> str:
    """A quoted string without its escapes; other backslashes are those of a Windows path."""
    return re.sub(r'\\(["\\])', r"\1", quoted)


def _extended(value: str) -> str:
    """The text of RFC 8187: ``UTF-8''%e2%82%ac``; empty: it is not one."""
    found = _EXTENDED.fullmatch(value)
    if found is None or found[1].lower() not in CHARSETS:
        return ""
    try:
        return unquote_to_bytes(found[2]).decode(found[1])
    except UnicodeError:
        return ""


def _plain(value: str) -> str:
    """The text of ``filename``, in whatever form the server sent it."""
    with suppress(UnicodeError):  # else it is Latin-1
        value = value.encode("latin-1").decode("utf-8")
    if _ENCODED_WORD.search(value):
        with suppress(MessageError, ValueError):
            return "".join(map(_word, decode_header(value)))
    return _unquoted(value) if re.search(r"%[0-9A-Fa-f]{2}", value) else value


def _word(found: tuple[bytes | str, str | None]) -> str:
    """A piece of a header that has encoded words.

    :raises ValueError: its character set is none of :data:`CHARSETS`
    """
    text, charset = found
    if isinstance(text, str):
        return text
    if (charset or "ascii") not in CHARSETS:
        raise ValueError(charset)
    return text.decode(charset or "ascii")
