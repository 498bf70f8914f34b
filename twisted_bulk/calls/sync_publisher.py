"""Publishes calls from programs without a reactor: Django, Flask, scripts."""

from collections.abc import Iterable, Iterator
from typing import Any

from twisted_bulk.brokers.blocking import BlockingStore, blocking_store
from twisted_bulk.calls.publisher import FailedCall, Publisher
from twisted_bulk.jobs.model import JobRecord, Queued, Stats
from twisted_bulk.jobs.scripted import ScriptedQueue
from twisted_bulk.system.at_once import finish, steps


class SyncPublisher:
    """Queues calls of a consumer's functions, and waits for what they return.

    Threads may share one. It connects with its first call. A call whose answer was lost is repeated
    until ``timeout``; it is queued once. See :class:`~twisted_bulk.calls.publisher.Publisher`.

    :param url: of the queue, as for ``open_queue``; the server of ``embedded:FOLDER`` has to run
    :param name: of the queue
    :param cap: units that may be unfinished; then ``push`` raises QueueFull
    :param timeout: seconds; then a call raises QueueUnavailable
    :param options: of the publisher
    :raises ConfigError: there is no queue for the URL that several processes can share
    """

    def __init__(
        self,
        url: str,
        name: str = "default",
        *,
        cap: int = 500_000,
        timeout: float = 10.0,
        **options: Any,
    ) -> None:
        self._store: BlockingStore = blocking_store(url, timeout)
        self._publisher = Publisher(ScriptedQueue(self._store, name, cap), **options)  # type: ignore[arg-type]

    def __enter__(self) -> "SyncPublisher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def options(self, **options: Any) -> "SyncPublisher":
        """A publisher with other options, over the same connection."""
        found = object.__new__(SyncPublisher)
        found._store = self._store
        found._publisher = self._publisher.options(**options)
        return found

    def push(self, *args: Any, **kwargs: Any) -> Queued:
        """Queue one call; returns when it is stored.

        :raises BadArguments: the function cannot be called so
        :raises TypeError: an argument is a value that JSON does not have
        :raises QueueFull: as much is unfinished as may be
        :raises QueueUnavailable: the queue was away for too long
        """
        return finish(self._publisher.push(*args, **kwargs))

    def push_many(self, calls: Iterable[Any]) -> list[Queued]:
        """Queue many calls: an entry is ``call(...)``, or the one argument that push would get."""
        return finish(self._publisher.push_many(calls))

    def result(self, job: Queued | str, timeout: float | None = None) -> Any:
        """Wait for a call; returns what its function returned, as JSON has it.

        :raises CallFailed: it has failed, and is not tried again
        :raises NoSuchCall: there is no such call, or its record is gone
        :raises TimeoutError: it has not ended in time
        """
        return finish(self._publisher.result(job, timeout))

    def job(self, job_id: str) -> JobRecord | None:
        """The record of a call; None: there is none."""
        return finish(self._publisher.queue.job(job_id))

    def failed(self) -> Iterator[FailedCall]:
        """The calls that are dead, the latest first; of ``function``, if it is not empty."""
        return steps(self._publisher.failed())

    def revive(self, job_id: str) -> bool:
        """Queue a dead call again, with all its tries.

        :returns: False: it is not dead, or an equal unique call waits or runs
        """
        return finish(self._publisher.revive(job_id))

    def cancel(self, job_id: str) -> bool:
        """End a call that has not ended; False: it has ended, or there is none."""
        return finish(self._publisher.queue.cancel(job_id))

    def stats(self) -> Stats:
        """The present state of the queue: calls by state, workers, events of the last minutes."""
        return finish(self._publisher.queue.stats())

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        self._store.close()
