"""Queues for functions of your own, for users of the library. Rooms: calls/, consumer/, jobs/,
brokers/.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

from twisted_bulk.brokers.services import LazyStore, store_service
from twisted_bulk.calls.arguments import call
from twisted_bulk.calls.declarations import BadArguments
from twisted_bulk.calls.publisher import CallFailed, FailedCall, NoSuchCall, Publisher
from twisted_bulk.calls.sync_publisher import SyncPublisher
from twisted_bulk.consumer.consumer import Consumer
from twisted_bulk.consumer.registry import Functions
from twisted_bulk.consumer.task import Backoff, Fatal, GiveBack, Retry
from twisted_bulk.jobs.protocol import JobQueue
from twisted_bulk.jobs.scripted import ScriptedQueue

__all__ = [
    "Backoff",
    "BadArguments",
    "CallFailed",
    "CallQueue",
    "Consumer",
    "FailedCall",
    "Fatal",
    "Functions",
    "GiveBack",
    "JobQueue",
    "NoSuchCall",
    "Publisher",
    "Retry",
    "SyncPublisher",
    "call",
    "open_queue",
]


class CallQueue(ScriptedQueue):
    """A queue of function calls."""

    @cached_property
    def publisher(self) -> Publisher:
        """Queues calls."""
        return Publisher(self)


def open_queue(reactor: Any, url: str, name: str = "default", *, cap: int = 500_000) -> CallQueue:
    """The queue ``name`` of a broker. The first call of the queue connects to the broker.

    :param url: ``embedded:FOLDER`` (starts a Valkey server), ``redis://...``, ``rediss://...``,
        ``unix:///path``, ``sentinel://...``, ``sqlite:///path`` or ``memory:``
    :param cap: units that may be unfinished; then ``enqueue`` raises QueueFull
    :raises ConfigError: there is no broker for the URL, or it cannot run here
    """
    folder = Path("bulkwav-data/redis")
    if url.startswith("embedded:"):
        url, folder = "embedded", Path(url.removeprefix("embedded:")).absolute()
    return CallQueue(LazyStore(reactor, store_service(reactor, url, folder)), name, cap)
