"""Function calls put into a queue."""

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
    """A call's parameters: one value as ``[value]``, many by name as ``{"name": value}``.

    Equal parameters have equal bytes, whatever their order.

    :raises TypeError: neither, or what JSON cannot hold
    """
    if len(one) + bool(many) > 1 or len(one) > 1:
        raise TypeError("a call takes one parameter, or any number by name")
    return msgspec.json.encode(list(one) if one else many, order="deterministic")


def decode(payload: bytes) -> tuple[list[Any], dict[str, Any]]:
    """What :func:`encode` was given."""
    value = msgspec.json.decode(payload)
    return (value, {}) if isinstance(value, list) else ([], value)


def encode_value(value: Any) -> bytes:
    """A value as it is kept: JSON, and what JSON lacks as its ``repr``; None is nothing."""
    return b"" if value is None else msgspec.json.encode(value, enc_hook=repr)


@dataclass(frozen=True)
class Publisher:
    """Queues calls of a consumer's function. The options are those of :class:`Work`.

    :param unique: of calls with equal parameters one waits or runs at a time; after a success
        further ones are dropped for ``window`` seconds
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
        """The same with other options: ``publisher.options(priority=5).push(url)``."""
        return replace(self, **options)

    async def push(self, *one: Any, **many: Any) -> Queued:
        """Queue one call; returns its id once it is stored.

        A lost answer may be followed by a second push of the same call: give ``unique`` where
        that matters.
        """
        (queued,) = await self.queue.enqueue([self._work(encode(one, many))])
        return queued

    async def push_many(self, calls: Iterable[Any]) -> list[Queued]:
        """Queue many calls, 500 a message: a dict is parameters by name, anything else the one."""
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
