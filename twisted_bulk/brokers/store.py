"""Where a queue is kept: what all brokers have in common."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred

Argument = str | bytes | int

DEADLINE = 10.0  # seconds for one call, waiting for a connection included


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a broker can do beyond one process.

    :param processes: several processes may share its queues
    :param hosts: and these may be on several machines
    :param durable: what was accepted outlives the processes
    """

    processes: bool
    hosts: bool
    durable: bool


class Script:
    """A Lua script; Redis gets its digest, and the text only where it lacks it.

    :param promises: its effect must not be lost: behind Sentinel a replica has to have it, too
    """

    def __init__(self, source: str, promises: bool = False) -> None:
        self.source = source.encode()
        self.promises = promises
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()


class Store(Protocol):
    """Runs scripts and single commands atomically; replies are bytes, integers, lists, None.

    Each call ends within ``deadline`` seconds and raises
    :class:`~twisted_bulk.errors.QueueUnavailable` where trying again may help, or
    :class:`~twisted_bulk.errors.QueueFull` where there is no room.
    """

    @property
    def where(self) -> str:
        """The place as logs should name it (no secrets)."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    async def run(
        self, script: Script, key: str, *arguments: Argument, deadline: float = DEADLINE
    ) -> Any:
        """Run ``script`` with ``key`` as its only key."""

    async def command(self, *arguments: Argument, deadline: float = DEADLINE) -> Any:
        """Run one Redis command."""

    async def pause(self, seconds: float) -> None:
        """Wait; a store that blocks its caller's thread blocks it."""

    def listen(self, channel: str, heard: Callable[[], object]) -> None:
        """Call ``heard`` soon after a message on ``channel``: a hint, which may be lost."""

    def attend(self, leave: Callable[[], Deferred[None]]) -> None:
        """Call ``leave``, and wait for it, before the store closes by itself; some never do."""
