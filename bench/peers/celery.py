"""Celery: solo pool, results ignored."""

import sys

from celery import Celery, group

from bench.peers import record

app = Celery("bench", broker=record.URL)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)


@app.task
def noop(n: int) -> None:
    record.noop()


@app.task
def started(sent: float) -> None:
    record.started(sent)


def consume() -> None:
    """The worker."""
    words = "worker --pool=solo --without-gossip --without-mingle --without-heartbeat"
    app.worker_main([*words.split(), "--loglevel=ERROR"])


def main() -> None:
    what, count = sys.argv[1], int(sys.argv[2])
    if what == "single":
        record.timed(count, lambda: [noop.delay(n) for n in range(count)])
    elif what == "bulk":
        record.timed(count, lambda: group(noop.s(n) for n in range(count)).apply_async())
    elif what == "latency":
        record.spaced(count, started.delay)
    else:
        consume()


if __name__ == "__main__":
    # The worker must find the tasks under their own module's name.
    from bench.peers.celery import main as run

    run()
