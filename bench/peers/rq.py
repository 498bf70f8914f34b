"""RQ: one SimpleWorker, which does not fork for each job."""

import sys

from redis import Redis
from rq import Queue, SimpleWorker

from bench.peers import record


def noop(n: int) -> None:
    record.noop()


def started(sent: float) -> None:
    record.started(sent)


def main() -> None:
    from bench.peers import rq  # jobs name their functions' module

    what, count = sys.argv[1], int(sys.argv[2])
    queue = Queue(connection=Redis.from_url(record.URL))
    if what == "single":
        record.timed(count, lambda: [queue.enqueue(rq.noop, n, result_ttl=0) for n in range(count)])
    elif what == "bulk":
        many = [Queue.prepare_data(rq.noop, (n,), result_ttl=0) for n in range(count)]
        record.timed(count, lambda: queue.enqueue_many(many))
    elif what == "latency":
        record.spaced(count, lambda sent: queue.enqueue(rq.started, sent, result_ttl=0))
    else:
        SimpleWorker([queue], connection=queue.connection).work(logging_level="ERROR")


if __name__ == "__main__":
    main()
