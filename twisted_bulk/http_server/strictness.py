"""Heads of requests that another server may understand differently. Pure."""

import re

from twisted.web.http_headers import Headers

_LABEL = rb"[A-Za-z0-9_~!$&'()*+,;=%-]{1,63}"
_HOST = re.compile(rb"(?:%b(?:\.%b)*\.?|\[[0-9A-Fa-f:.]+\])?(?::[0-9]*)?" % (_LABEL, _LABEL))


def ambiguity(version: bytes, headers: Headers) -> str:
    """Why another server may understand this request differently; empty: it may not."""
    hosts = headers.getRawHeaders(b"Host", [])
    if len(hosts) > 1 or (not hosts and version != b"HTTP/1.0"):
        return "there must be one Host"
    if hosts and not _HOST.fullmatch(hosts[0]):
        return "Host is not a host"
    codings = headers.getRawHeaders(b"Transfer-Encoding")
    if codings is not None:
        if version != b"HTTP/1.1":
            return "Transfer-Encoding needs HTTP/1.1"
        if [coding.lower() for coding in codings] != [b"chunked"]:
            return "no Transfer-Encoding but chunked"
        if headers.hasHeader(b"Content-Length"):
            return "Transfer-Encoding and Content-Length"
    return ""


def stays_open(version: bytes, headers: Headers) -> bool:
    """Whether the connection stays open after this request (RFC 9112, 9.3)."""
    values = headers.getRawHeaders(b"Connection", [])
    tokens = {token.strip().lower() for value in values for token in value.split(b",")}
    return version == b"HTTP/1.1" and b"close" not in tokens
