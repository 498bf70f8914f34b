"""A Redis without memory."""

from twisted.internet.threads import deferToThread

from tests.support.brokers import OnRedis
from tests.support.queues import QueueTestCase
from tests.support.redis_servers import shared_redis
from twisted_bulk.errors import QueueFull
from twisted_bulk.jobs.model import Ack, Acked
from twisted_bulk.jobs.scripts import SCRIPTS
from twisted_bulk.queue import SyncPublisher


class FullServerTests(OnRedis, QueueTestCase):
    """A server over its memory limit."""

    async def test_drains(self) -> None:
        """Nothing more is taken in, all that is there can be worked off."""
        await self.put(*"abcde")
        await self.store.command("CONFIG", "SET", "maxmemory", 1)
        try:
            with self.assertRaises(QueueFull):
                await self.put("f")
            with self.assertRaises(QueueFull):
                await deferToThread(SyncPublisher(shared_redis().url, "parts").push, 1)
            jobs = await self.take()
            self.assertEqual(len(jobs), 5)
            self.assertFalse((await self.queue.beat("w1", [(job, 1, b"p") for job in jobs])).lost)
            self.assertTrue(await self.queue.nack("w1", jobs[0], 0, "x"))
            self.assertEqual(await self.queue.release("w1", [jobs[1]]), 1)
            jobs = [*jobs[2:], *await self.take()]
            self.assertEqual(len(jobs), 5)
            acked = await self.queue.ack("w1", [Ack(job, 1, b"r" * 100) for job in jobs])
            self.assertEqual(acked, [Acked.RECORDED] * 5)
            await self.queue.maintain(keep=0)
            # What running work needs of the server beside the queue.
            await self.queue.control({"paused": True, "max_doing": 3})
            await self.queue.control({"paused": None, "max_doing": None})
            shared = await self.store.run(SCRIPTS["share"], "bw:x:", "w", 1000, "host", 8, 0, 1)
            self.assertEqual(shared, [1])
        finally:
            await self.store.command("CONFIG", "SET", "maxmemory", 0)
        await self.check()
