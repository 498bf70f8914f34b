"""Shorthands for tests of a queue, whatever its broker."""

from collections.abc import Sequence
from typing import Any

from tests.support.brokers import Queues
from twisted_bulk.jobs.model import Ack, Acked, Job, JobRecord, Work


class QueueTestCase(Queues):
    """Shorthands."""

    async def put(self, *ids: str, **options: Any) -> None:
        await self.queue.enqueue([Work(id=i, payload=i.encode(), **options) for i in ids])

    async def take(self, worker: str = "w1", count: int = 10) -> Sequence[Job]:
        return (await self.queue.reserve(worker, count)).jobs

    async def due(self, key: str) -> None:
        await self.age(self.queue, key)

    async def ack(self, worker: str, job: Job, ok: int = 1, result: bytes = b"") -> Acked:
        return (await self.queue.ack(worker, [Ack(job, ok, result)]))[0]

    async def lost(self, worker: str, job: Job, units: int = 0) -> frozenset[str]:
        return (await self.queue.beat(worker, [(job, units, b"p")])).lost

    async def record(self, job: str = "a") -> JobRecord:
        record = await self.queue.job(job)
        assert record is not None
        return record
