"""JSON of requests, decoded: errors name the field, and each key stands once. Pure."""

import functools
import inspect
import json
import re
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from twisted_bulk.errors import InvalidRequest


def _hint(kind: Any, where: str) -> str:
    """What is expected at a place of a body, where msgspec does not say it."""
    if where == "$.download":
        return " (in PHP: array_values)"
    if not inspect.isclass(kind):
        return ""
    kind = get_type_hints(kind).get(where.removeprefix("$."))
    found = [
        word
        for one in (kind, *get_args(kind))
        if get_origin(one) is Literal
        for word in get_args(one)
    ]
    return f" (expected {', '.join(found)})" if found else ""


_BYTE = re.compile(r"\(byte (\d+)\)")
_decoder = functools.cache(msgspec.json.Decoder)


def decode(
    body: bytes,
    kind: Any,
    place: Callable[[str], str] = str,
    offset: Callable[[int], int] = int,
) -> Any:
    """Decode JSON.

    :param kind: the type of the result
    :param place: makes the path in the request's body, such as ``$.a[1]``, of a path in ``body``
    :param offset: makes the offset in the request's body of an offset in ``body``
    :raises InvalidRequest: names the field and what was expected there
    """
    try:
        return _decoder(kind).decode(body)
    except msgspec.ValidationError as error:
        what, at, path = str(error).rpartition(" - at `")
        where = place(path.rstrip("`")) if at else place("$")
        what = (what if at else path) + _hint(kind, where)
        raise InvalidRequest(what if where == "$" else f"{what} - at `{where}`") from None
    except UnicodeDecodeError:
        raise InvalidRequest("not JSON: it is not UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        said = _BYTE.sub(lambda found: f"(byte {offset(int(found[1]))})", str(error))
        raise InvalidRequest(f"not JSON: {said}") from None


def _once(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise InvalidRequest(f"the key {key!r} stands twice in one object")
        seen.add(key)


# Numbers stay text: Python would not convert one of 5,000 digits.
_key_decoder = json.JSONDecoder(object_pairs_hook=_once, parse_int=str, parse_float=str)


def check_keys(body: bytes) -> None:
    """Check that each key stands once in its object.

    Of a key that stands twice one reader takes the first value and another the last (RFC 8259,
    section 4), so that a checked value might not be the used one.

    :param body: JSON
    :raises InvalidRequest: names the key
    """
    try:
        _key_decoder.decode(body.decode())
    except UnicodeDecodeError:
        raise InvalidRequest("not JSON: it is not UTF-8") from None
    except RecursionError:
        raise InvalidRequest("not JSON that is read: nested too deeply") from None


def read(body: bytes, kind: Any) -> Any:
    """Decode a small body, in which each key stands once.

    :raises InvalidRequest: names the field and what was expected there
    """
    found = decode(body, kind)
    check_keys(body)
    return found
