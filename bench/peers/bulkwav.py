"""Ours: one process, up to 500 calls at once."""

import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from bench.peers import record
from twisted_bulk.consumer.consumer import Consumer
from twisted_bulk.queue import call, open_queue


async def function(n: int | None = None, sent: float | None = None) -> None:
    if sent is None:
        record.noop()
    else:
        record.started(sent)


async def run(reactor: Any, what: str, count: int) -> None:
    queue = open_queue(reactor, record.URL, "bench")
    publisher = queue.publisher
    began = time.time()
    if what == "single":
        for n in range(count):
            await publisher.push(n=n)
    elif what == "bulk":
        await publisher.push_many(call(n=n) for n in range(count))
    elif what == "latency":
        for n in range(count):
            await deferLater(reactor, 0.15 + 0.0137 * (n % 11))
            await publisher.push(sent=time.time())
    else:
        Consumer(queue, function, reactor, slots=500).startService()
        await Deferred()
    print(time.time() - began, count)


def main() -> None:
    what, count = sys.argv[1], int(sys.argv[2])
    react(lambda reactor: Deferred.fromCoroutine(run(reactor, what, count)))


if __name__ == "__main__":
    main()
