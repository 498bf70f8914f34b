"""JSON objects in which each key stands once.

Of a key that stands twice one reader takes the first value and another the last (RFC 8259,
section 4), so that what was checked is not what is done. Pure.
"""

import json
from typing import Any

from twisted_bulk.errors import InvalidRequest


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
