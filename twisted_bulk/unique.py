"""JSON objects in which each key stands once.

Of a key that stands twice one reader takes the first value and another the last (RFC 8259,
section 4), so that what was checked is not what is done. Pure.
"""

import json
import re
from itertools import islice
from typing import Any

import msgspec

from twisted_bulk.errors import InvalidRequest

_DOWNLOAD = re.compile(rb'"download"\s*:\s*')
FEW = 3  # places where "download" may stand before all is looked at


class _Outline(msgspec.Struct):
    download: msgspec.Raw


def _once(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise InvalidRequest(f"the key {key!r} stands twice in one object")
        seen.add(key)


# Numbers are not looked at: Python would not read one of 5,000 digits.
_decoder = json.JSONDecoder(object_pairs_hook=_once, parse_int=str, parse_float=str)


def check_keys(body: bytes) -> None:
    """Look at every object in ``body``, which is known to be JSON.

    :raises InvalidRequest: names the key
    """
    try:
        _decoder.decode(body.decode())
    except UnicodeDecodeError:
        raise InvalidRequest("not JSON: it is not UTF-8") from None
    except RecursionError:
        raise InvalidRequest("not JSON that is read: nested too deeply") from None


def check_order(body: bytes) -> None:
    """The same for a batch, but for what stands in ``download``, which may be a million URLs."""
    wanted = memoryview(msgspec.json.decode(body, type=_Outline).download)
    for found in islice(_DOWNLOAD.finditer(body), FEW):
        begin, end = found.end(), found.end() + len(wanted)
        if memoryview(body)[begin:end] == wanted:
            return check_keys(body[:begin] + b"0" + body[end:])
    check_keys(body)
