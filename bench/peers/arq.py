"""arq: 100 jobs at once, results not kept."""

import asyncio
import sys
import time
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import run_worker

from bench.peers import record

REDIS = RedisSettings.from_dsn(record.URL)


async def noop(ctx: dict[str, Any], n: int) -> None:
    record.noop()


async def started(ctx: dict[str, Any], sent: float) -> None:
    record.started(sent)


class WorkerSettings:
    functions = [noop, started]
    redis_settings = REDIS
    max_jobs = 100
    keep_result = 0


async def publish(what: str, count: int) -> None:
    pool = await create_pool(REDIS)
    began = time.time()
    if what == "single":
        for n in range(count):
            await pool.enqueue_job("noop", n)
    elif what == "bulk":
        for n in range(0, count, 100):
            await asyncio.gather(*(pool.enqueue_job("noop", n + m) for m in range(100)))
    else:
        for n in range(count):
            await asyncio.sleep(0.15 + 0.0137 * (n % 11))
            await pool.enqueue_job("started", time.time())
    print(time.time() - began, count)


def main() -> None:
    what, count = sys.argv[1], int(sys.argv[2])
    if what == "consume":
        run_worker(WorkerSettings)  # type: ignore[arg-type]
    else:
        asyncio.run(publish(what, count))


if __name__ == "__main__":
    main()
