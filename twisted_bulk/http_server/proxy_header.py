"""The PROXY header, by which a proxy names the client of a whole connection. Pure.

HAProxy's proxy-protocol.txt describes it; versions 1 and 2 are read.
"""

import ipaddress
import re
import struct

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"  # of version 2
MAX_V1, MAX_V2 = 107, 2048  # bytes of a header; a longer one is refused
_V1 = re.compile(rb"PROXY (?:(TCP4|TCP6) (\S+) (\S+) (\d{1,5}) (\d{1,5})|UNKNOWN(?: .*)?)\r\n")


class ProxyHeader:
    """A header that comes in pieces.

    ``client``: the client's address, once the header is complete (empty: the connection's own).
    """

    def __init__(self) -> None:
        self._data = b""
        self.client: str | None = None

    def add(self, data: bytes) -> bytes:
        """Take a piece; returns the bytes behind the header.

        :raises ValueError: there is no header, or it is not valid; further pieces are dropped
        """
        self._data += data
        try:
            found = read_proxy_header(self._data)
        except ValueError:
            self._data = b""
            raise
        if found is None:
            return b""
        length, self.client = found
        return self._data[length:]


def read_proxy_header(data: bytes) -> tuple[int, str] | None:
    """Read a header at the beginning of ``data``.

    :returns: its length, and the client's address (empty: the connection's own); None: more bytes
        are needed
    :raises ValueError: there is no header, or it is not valid
    """
    if data[:12] == SIGNATURE[: len(data)]:
        return _version2(data)
    if not b"PROXY "[: len(data)] == data[:6]:
        raise ValueError("no PROXY header")
    end = data.find(b"\r\n", 0, MAX_V1) + 2
    if end < 2:
        if len(data) >= MAX_V1:
            raise ValueError("an endless PROXY header")
        return None
    found = _V1.fullmatch(data[:end])
    if not found:
        raise ValueError("a PROXY header that cannot be read")
    if found[1] is None:
        return end, ""
    ip = ipaddress.ip_address(found[2].decode("ascii"))
    if ip.version != (4 if found[1] == b"TCP4" else 6):
        raise ValueError("a PROXY header of another family")
    return end, str(ip)


def _version2(data: bytes) -> tuple[int, str] | None:
    if len(data) < 16:
        return None
    command, family, length = struct.unpack(">BBH", data[12:16])
    if command not in (0x20, 0x21) or length > MAX_V2:
        raise ValueError("a PROXY header that cannot be read")
    if len(data) < 16 + length:
        return None
    size = {1: 4, 2: 16}.get(family >> 4, 0)
    if command == 0x20 or not size:
        return 16 + length, ""
    if length < 2 * size + 4:
        raise ValueError("a PROXY header that is too short")
    return 16 + length, str(ipaddress.ip_address(data[16 : 16 + size]))
