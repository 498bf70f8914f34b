"""Odd responses of servers."""

import gzip
import zlib

from tests.sources.rows import Row
from tests.support.origin_server import Exchange

FILE = b"RIFF" + bytes(range(256)) * 20  # what most rows have
PACKED = gzip.compress(FILE, mtime=0)
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = f"Content-Length: {len(FILE)}"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(FILE), FILE)
BOMB = gzip.compress(bytes(100 << 20), mtime=0)


def head(*lines: str | bytes, status: bytes = OK) -> bytes:
    """The headers of a response."""
    return status + b"".join(
        (line if isinstance(line, bytes) else line.encode("latin-1")) + b"\r\n"
        for line in (*lines, "")
    )


def sized(*lines: str | bytes, body: bytes = FILE, status: bytes = OK) -> bytes:
    """A response with a length."""
    return head(f"Content-Length: {len(body)}", *lines, status=status) + body


class Closing:
    """Says something, and closes the connection."""

    def __init__(self, said: bytes) -> None:
        self.said = said

    def __call__(self, exchange: Exchange) -> None:
        exchange.write(self.said)
        exchange.close()


def chunked(body: bytes, *lines: str) -> bytes:
    """A response in chunks."""
    return head("Transfer-Encoding: chunked", *lines) + body


TWO = "two readers would find two ends"
HEADERS = "what a server may keep in memory is bounded"
A_PART = "it is not known to be the whole"

FRAMING = [
    Row("`Content-Length`", sized(), FILE),
    Row("`Content-Length` twice, alike", head(LENGTH, LENGTH) + FILE, FILE),
    Row("`Content-Length: 5, 5`", head(f"{LENGTH}, {len(FILE)}") + FILE, FILE),
    Row("`Content-Length` twice, different", head(LENGTH, "Content-Length: 9") + FILE,
        code="bad_response", detail=f"Content-Length: {len(FILE)}, 9", why=TWO),
    Row("`Content-Length: -5`", Closing(head("Content-Length: -5") + FILE),
        code="bad_response", detail="Content-Length: -5", why="it says nothing"),
    Row("`Content-Length: abc`", Closing(head("Content-Length: abc") + FILE),
        code="bad_response", detail="Content-Length: abc", why="it says nothing"),
    Row("`Content-Length:` without a number", Closing(head("Content-Length:") + FILE), FILE,
        verified=False),
    Row("no length, and the connection is closed", Closing(head() + FILE), FILE, verified=False),
    Row("no length in HTTP/1.0", Closing(head(status=b"HTTP/1.0 200 OK\r\n") + FILE), FILE,
        verified=False),
    Row("bytes behind `Content-Length`", sized() + b"\r\n<!-- served by x -->", FILE,
        how="taken, without them"),
    Row("bytes behind the last chunk", chunked(CHUNKS + b"more"), FILE, how="taken, without them"),
    Row("fewer bytes than `Content-Length`", Closing(head("Content-Length: 9999") + FILE),
        code="body_short", why="a part of a file is no file"),
    Row("an empty file", sized(body=b""), b""),
    Row("chunks", chunked(CHUNKS), FILE),
    Row("`Transfer-Encoding: Chunked`", head("Transfer-Encoding: Chunked") + CHUNKS, FILE),
    Row("`Transfer-Encoding: identity` with a length",
        head("Transfer-Encoding: identity", LENGTH) + FILE, FILE),
    Row("`Transfer-Encoding: identity` without",
        Closing(head("Transfer-Encoding: identity") + FILE), FILE, verified=False),
    Row("`Transfer-Encoding: identity, chunked`",
        head("Transfer-Encoding: identity, chunked") + CHUNKS, FILE),
    Row("`Transfer-Encoding: gzip`", Closing(head("Transfer-Encoding: gzip") + PACKED), FILE,
        verified=False,
        how="decoded, `unverified`"),
    Row("`Transfer-Encoding: deflate, chunked`",
        head("Transfer-Encoding: deflate, chunked") + b"%x\r\n%b\r\n0\r\n\r\n" % (
            len(zlib.compress(FILE)), zlib.compress(FILE)), FILE, how="decoded"),
    Row("`Transfer-Encoding: brotli`", Closing(head("Transfer-Encoding: brotli") + FILE),
        code="bad_response", detail="Transfer-Encoding: brotli", why="nobody asked for it"),
    Row("`Transfer-Encoding: chunked, chunked`",
        head("Transfer-Encoding: chunked, chunked") + CHUNKS, code="bad_response",
        detail="Transfer-Encoding: chunked, chunked", why=TWO),
    Row("both a length and chunks", chunked(CHUNKS, LENGTH), code="bad_response",
        detail="Content-Length", why=TWO),
    Row("blanks around a chunk's size",
        chunked(b" %x \r\n%b\r\n0 \r\n\r\n" % (len(FILE), FILE)), FILE),
    Row("capital letters and zeros in a chunk's size",
        chunked(b"000%X\r\n%b\r\n000\r\n\r\n" % (len(FILE), FILE)), FILE),
    Row("chunk extensions of any kind",
        chunked(b"%x;a=\"b\";\xff\r\n%b\r\n0;c\r\n\r\n" % (len(FILE), FILE)), FILE),
    Row("chunk lines that end with a bare line feed",
        chunked(b"%x\n%b\n0\n\n" % (len(FILE), FILE)), FILE),
    Row("trailers behind the chunks",
        chunked(CHUNKS[:-2] + b"X-Sum: 1\r\nnot a header\r\n\r\n"), FILE),
    Row("a chunk without a readable size", chunked(b"xyz\r\n" + FILE), code="bad_response",
        detail="xyz"),
    Row("a chunk with a size below 0", chunked(b"-5\r\n" + FILE), code="bad_response", detail="-5"),
    Row("a chunk that is longer than its size",
        chunked(b"5\r\nabcdefgh\r\n0\r\n\r\n"), code="bad_response",
        detail="longer than its size", why=TWO),
    Row("no last chunk", Closing(chunked(b"%x\r\n%b\r\n" % (len(FILE), FILE))), code="body_short",
        why="a part of a file is no file"),
    Row("206 with the whole, unasked",
        sized(f"Content-Range: bytes 0-{len(FILE) - 1}/{len(FILE)}", status=b"HTTP/1.1 206 P\r\n"),
        FILE),
    Row("206 with the whole, unasked, and fewer bytes",
        head("Content-Length: 5", "Content-Range: bytes 0-999/1000",
             status=b"HTTP/1.1 206 P\r\n") + b"abcde",
        code="body_short", why="a part of a file is no file"),
    Row("206 with a part, unasked",
        sized(f"Content-Range: bytes 0-{len(FILE) - 1}/9999", status=b"HTTP/1.1 206 P\r\n"),
        code="bad_range", why=A_PART),
    Row("206 without `Content-Range`, unasked", sized(status=b"HTTP/1.1 206 P\r\n"),
        code="bad_range", why=A_PART),
]  # fmt: skip

HEADS = [
    Row("a header line with a blank in its name", sized("Content Type: x"), FILE),
    Row("a header line without a name", sized(": x"), FILE),
    Row("a header line without a colon", sized("x"), FILE),
    Row("letters beyond ASCII in a header's name", sized("\xfcber: x"), FILE),
    Row("letters beyond ASCII in its value",
        sized("X-Who: J\xfcrgen", b"X-Name: \xe4\xbd\xa0"), FILE),
    Row("control characters in its value", sized(b"X: a\x01b"), FILE),
    Row("a blank before the colon, also of `Content-Length`",
        head(f"Content-Length : {len(FILE)}", "X-Y : z") + FILE, FILE),
    Row("a header over several lines", sized("X-Long: a\r\n b\r\n\tc"), FILE),
    Row("headers that begin with such a line", head(b" continued", LENGTH) + FILE, FILE),
    Row("names of headers in small letters",
        head(f"content-length: {len(FILE)}", "content-type: audio/wav") + FILE, FILE,
        told=(("type", "audio/wav"),)),
    Row("a header line of 60 KiB", sized("X: " + "y" * 60 * 1024), FILE),
    Row("a header line of more than 64 KiB", sized("X: " + "y" * 66 * 1024),
        code="headers_too_large", why=HEADERS),
    Row("headers of more than 128 KiB", sized(*["X: " + "y" * 9_000] * 20),
        code="headers_too_large", why=HEADERS),
    Row("lines that end with a bare line feed",
        sized().replace(b"\r\n", b"\n", 2), FILE),
    Row("100 Continue before the response", b"HTTP/1.1 100 Go on\r\n\r\n" + sized(), FILE),
    Row("103 Early Hints before it",
        head("Link: </x>", status=b"HTTP/1.1 103 H\r\n") + sized(), FILE),
    Row("a status line without a phrase", sized(status=b"HTTP/1.1 200\r\n"), FILE),
    Row("a status line with several blanks", sized(status=b"HTTP/1.1  200  Fine\r\n"), FILE),
    Row("a phrase beyond ASCII", sized(status=b"HTTP/1.1 200 \xe5\xa5\xbd\r\n"), FILE),
    Row("`HTTP/1.0 200`, `HTTP/1.1 299`",
        [sized(status=b"HTTP/1.0 200 OK\r\n"), sized(status=b"HTTP/1.1 299 Odd\r\n")], FILE),
    Row("`ICY 200 OK` (SHOUTcast)", Closing(head(status=b"ICY 200 OK\r\n") + FILE), FILE,
        verified=False),
    Row("no status line (HTTP/0.9)", Closing(FILE), code="bad_response", detail="first line",
        why="everything would be a file"),
    Row("a status line that cannot be read", sized(status=b"HTTP/1.1 OK\r\n"), code="bad_response",
        detail="HTTP/1.1 OK"),
    Row("203 Non-Authoritative", sized(status=b"HTTP/1.1 203 N\r\n"), FILE),
    Row("201 Created with a body", sized(status=b"HTTP/1.1 201 C\r\n"), FILE),
    Row("204 No Content", head(status=b"HTTP/1.1 204 N\r\n"), code="http_error",
        detail="204", why="there is no file"),
    Row("205 Reset Content", sized(status=b"HTTP/1.1 205 R\r\n", body=b""), code="http_error",
        detail="205", why="there is no file"),
    Row("304 Not Modified", head(status=b"HTTP/1.1 304 N\r\n"), code="http_error", detail="304"),
]  # fmt: skip

TEXT = (("type", "text/plain"),)
DAMAGED = "its bytes are damaged"


def coded(coding: str, body: bytes, *more: str) -> bytes:
    """A response with Content-Encoding."""
    return sized(f"Content-Encoding: {coding}", *more, body=body)


def kept(coding: str) -> Row:
    """A coding that is kept."""
    return Row(
        f"`{coding}`", coded(coding, PACKED), PACKED, how="as it comes, `encoding` says so",
        told=(("encoding", coding),),
    )  # fmt: skip


CODINGS = [
    *(
        Row(f"`{word}`", coded(word, FILE), FILE, how="as it comes", told=(("encoding", ""),))
        for word in ("identity", "none", "utf-8", "binary", "8bit", "aws-chunked",
                     "identity, identity", "application/gzip")
    ),
    Row("empty", coded("", FILE), FILE, how="as it comes"),
    Row("`x-gzip` of a file `.gz`", coded("x-gzip", PACKED), PACKED, path="/a.gz",
        how="as it comes: its own packing", told=(("encoding", ""),)),
    Row("`gzip` of `application/gzip`", coded("gzip", PACKED, "Content-Type: application/gzip"),
        PACKED, how="as it comes: its own packing"),
    Row("`gzip` of a file `.tgz`", coded("gzip", PACKED), PACKED, path="/a.tgz?x=y",
        how="as it comes: its own packing"),
    Row("`gzip`", coded("gzip", PACKED), FILE, how="decoded"),
    Row("`gzip` without a length, the connection is closed",
        Closing(head("Content-Encoding: gzip") + PACKED), FILE, verified=False,
        how="decoded, `unverified`"),
    Row("`x-gzip`", coded("x-gzip", PACKED), FILE, how="decoded"),
    Row("`GZIP` in chunks", chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(PACKED), PACKED),
        "Content-Encoding: GZIP"), FILE, how="decoded"),
    Row("`deflate` (zlib)", coded("deflate", zlib.compress(FILE)), FILE, how="decoded"),
    Row("`deflate` without zlib's header", coded("deflate", zlib.compress(FILE, wbits=-15)), FILE,
        how="decoded"),
    Row("`gzip, gzip`", coded("gzip, gzip", gzip.compress(PACKED)), FILE, how="decoded twice"),
    Row("`gzip` of several parts", coded("gzip", PACKED + PACKED), FILE + FILE, how="decoded"),
    Row("`gzip` with waste behind it", coded("gzip", PACKED + bytes(100)), FILE, how="decoded"),
    Row("`gzip` that is none", coded("gzip", FILE), FILE, how="as it comes"),
    Row("`deflate` that is none", coded("deflate", b"\xff" + FILE), b"\xff" + FILE,
        how="as it comes"),
    Row("`gzip`, but empty", coded("gzip", b""), b"", how="as it comes"),
    Row("`gzip`, the connection is closed at once", Closing(head("Content-Encoding: gzip")), b"",
        verified=False, how="taken, `unverified`"),
    *map(kept, ("br", "zstd", "compress", "gzip, br", "gzip, gzip, gzip, gzip")),
    Row("`gzip` that is damaged", coded("gzip", PACKED[:60] + b"\xff\x00" + PACKED[62:]),
        code="content_encoded", why=DAMAGED),
    Row("`gzip` that ends too early", coded("gzip", PACKED[:-9]), code="body_short", why=DAMAGED),
    Row("`gzip` of 100 MB of zeros", coded("gzip", BOMB), code="content_encoded",
        why="it grows to more than 200 times its size"),
]  # fmt: skip

TABLES = {"Lengths": FRAMING, "Headers": HEADS, "Content-Encoding": CODINGS}
