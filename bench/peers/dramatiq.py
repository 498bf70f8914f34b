"""Dramatiq: one process, eight threads."""

import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.peers import record

broker = RedisBroker(url=record.URL)
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(n: int) -> None:
    record.noop()


@dramatiq.actor
def started(sent: float) -> None:
    record.started(sent)


def main() -> None:
    what, count = sys.argv[1], int(sys.argv[2])
    if what == "single":
        record.timed(count, lambda: [noop.send(n) for n in range(count)])
    elif what == "bulk":
        record.timed(count, lambda: dramatiq.group(noop.message(n) for n in range(count)).run())
    elif what == "latency":
        record.spaced(count, started.send)
    else:
        from dramatiq.cli import main as cli
        from dramatiq.cli import make_argument_parser

        words = ["bench.peers.dramatiq", "--processes=1", "--threads=8", "--skip-logging"]
        sys.exit(cli(make_argument_parser().parse_args(words)))


if __name__ == "__main__":
    main()
