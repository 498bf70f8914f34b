"""The arguments of a call, as a job's payload; and what a function returned, as a job's result.

A payload is JSON: ``{"function": "resize", "args": ["a.png"], "kwargs": {"width": 80}}``. What is
empty is left out, so programs in any language can make one.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import msgspec

MAX_PAYLOAD_BYTES = 8 << 20  # of one call; a larger one is refused when it is pushed


@dataclass(frozen=True)
class Call:
    """The arguments of one call, see :func:`call`."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


def call(*args: Any, **kwargs: Any) -> Call:
    """Arguments for ``push_many`` and periodic calls: ``call("a.png", width=80)``."""
    return Call(args, kwargs)


class Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A call with the name of its function; empty: the only one of the queue."""

    function: str = ""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


def encode(function: str, asked: Call) -> bytes:
    """The payload of a call. Equal arguments have equal payloads.

    It is strict: a value that would arrive as another one, as a date or a set, is refused. A tuple
    arrives as a list.

    :raises TypeError: an argument is a value that JSON does not have
    :raises ValueError: it is no number (NaN), nested too deeply, or larger than
        :data:`MAX_PAYLOAD_BYTES`
    """
    found = {"args": asked.args, "function": function, "kwargs": asked.kwargs}
    given = {name: value for name, value in found.items() if value}
    try:
        text = json.dumps(
            given, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
        )
    except RecursionError:
        raise ValueError("the arguments are nested too deeply") from None
    encoded = text.encode()
    if len(encoded) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"the arguments have more than {MAX_PAYLOAD_BYTES} bytes as JSON")
    return encoded


def decode(payload: bytes) -> Payload:
    """A call by its payload.

    :raises ValueError: it is none
    """
    return msgspec.json.decode(payload, type=Payload)


def encode_value(value: Any) -> bytes:
    """The bytes of a result: JSON; of a value that JSON does not have, its ``repr``.

    None is ``b""``.
    """
    if value is None:
        return b""
    try:
        return msgspec.json.encode(value, enc_hook=repr)
    except Exception:  # a cycle, half a character, a repr that fails: the call is done all the same
        text = object.__repr__(value)
    return msgspec.json.encode(text.encode("utf-8", "replace").decode())


def decode_value(result: bytes) -> Any:
    """What a function returned, as JSON has it: a tuple comes back as a list.

    :raises ValueError: the result is not one of a function
    """
    return msgspec.json.decode(result) if result else None
