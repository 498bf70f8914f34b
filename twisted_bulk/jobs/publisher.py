"""Puts function calls into a queue."""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from twisted_bulk.jobs.model import Queued, Work


class _Queue(Protocol):
    async def enqueue(self, work: list[Work]) -> list[Queued]: ...


def encode(one: tuple[Any, ...], many: dict[str, Any]) -> bytes:
    """The payload of a call: ``[value]`` for one parameter, ``{"name": value}`` for named ones.

    Equal parameters have equal payloads, in any order.

    :raises TypeError: both kinds of parameters, or a value that JSON does not have
    """
    if len(one) + bool(many) > 1 or len(one) > 1:
        raise TypeError("a call takes one parameter, or any number by name")
    return msgspec.json.encode(list(one) if one else many, order="deterministic")


def decode(payload: bytes) -> tuple[list[Any], dict[str, Any]]:
    """The parameters from a payload of :func:`encode`."""
    value = msgspec.json.decode(payload)
    return (value, {}) if isinstance(value, list) else ([], value)


def encode_value(value: Any) -> bytes:
    """The bytes of a result: JSON; of a value that JSON does not have, its ``repr``.

    None is ``b""``.
    """
    return b"" if value is None else msgspec.json.encode(value, enc_hook=repr)


@dataclass(frozen=True)
class Publisher:
    """Queues calls of a consumer's function. The options are those of :class:`Work`.

    :param unique: a call is dropped while a call with equal parameters waits or runs
    :param window: seconds; a call is also dropped when an equal call was done in that time
    """

    queue: _Queue
    priority: int = 0
    first: bool = False
    delay: float = 0
    expires: float = 0
    tries: int = 3
    losses: int = 3
    unique: bool = False
    window: float = 0

    def options(self, **options: Any) -> "Publisher":
        """A publisher with other options: ``publisher.options(priority=5).push(url)``."""
        return replace(self, **options)

    async def push(self, *one: Any, **many: Any) -> Queued:
        """Queue one call; returns when it is stored.

        When the broker's answer is lost, the call may be queued although this raises. With
        ``unique`` a second push of the call is dropped then.
        """
        (queued,) = await self.queue.enqueue([self._work(encode(one, many))])
        return queued

    async def push_many(self, calls: Iterable[Any]) -> list[Queued]:
        """Queue many calls: a dict is named parameters, any other value is the one parameter."""
        return await self.queue.enqueue(
            [
                self._work(encode((), call) if isinstance(call, dict) else encode((call,), {}))
                for call in calls
            ]
        )

    def _work(self, payload: bytes) -> Work:
        unique = self.unique or self.window > 0
        return Work(
            id=secrets.token_hex(8),
            payload=payload,
            priority=self.priority,
            first=self.first,
            delay=self.delay,
            expires=self.expires,
            tries=self.tries,
            losses=self.losses,
            digest=hashlib.sha256(payload).hexdigest() if unique else "",
            window=self.window,
        )
