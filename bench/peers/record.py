"""What the benchmark's functions do: count, and note times in the file ``$BENCH_RECORD``."""

import itertools
import os
import time
from collections.abc import Callable

URL = os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379/0")
_RECORD = os.environ.get("BENCH_RECORD", "/dev/null")
_LAST = int(os.environ.get("BENCH_COUNT", "0"))
_calls = itertools.count(1)
_began = 0.0


def noop() -> None:
    """Nothing; the last call notes how long all after the first took."""
    global _began
    call = next(_calls)
    if call == 1:
        _began = time.time()
    if call == _LAST:
        with open(_RECORD, "a") as file:
            file.write(f"{time.time() - _began}\n")


def started(sent: float) -> None:
    """Note how long a call has taken to start."""
    now = time.time()
    with open(_RECORD, "a") as file:
        file.write(f"{now - sent}\n")


def timed(count: int, publish: Callable[[], object]) -> None:
    """Print how long ``publish`` takes."""
    began = time.time()
    publish()
    print(time.time() - began, count)


def spaced(count: int, publish: Callable[[float], object]) -> None:
    """Publish with pauses that no poller can be in step with."""
    for n in range(count):
        time.sleep(0.15 + 0.0137 * (n % 11))
        publish(time.time())
