"""Threads push calls without a reactor while their server is killed; nothing answered is lost.

    python -m tests.chaos.pushes [--threads 8] [--pushes 10000] [--kills 3]

The server keeps its data as the embedded one does (``appendfsync always``). It is killed (SIGKILL)
each time a part of the calls has been pushed, and started again. In the end each call that was
answered is in the queue, once, and no other one is there but those that were on their way.
"""

import argparse
import sys
import threading
import time
from collections import Counter

from tests.support.redis_servers import RedisServer, ask
from twisted_bulk.errors import QueueUnavailable
from twisted_bulk.queue import SyncPublisher

AWAY_SECONDS = 0.3  # that the server is away


class PushKills:
    """A server, a publisher, and threads that share it."""

    def __init__(self, threads: int, pushes: int) -> None:
        self.redis = RedisServer("--appendonly", "yes", "--appendfsync", "always")
        self.publisher = SyncPublisher(self.redis.url, "pushes", timeout=20)
        self.each = pushes // threads
        self.threads = [threading.Thread(target=self._push, args=(n,)) for n in range(threads)]
        self.answered: dict[str, int] = {}
        self.refused = 0

    def close(self) -> None:
        """End it."""
        self.publisher.close()
        self.redis.close()

    def _push(self, number: int) -> None:
        for n in range(self.each):
            value = number * self.each + n
            try:
                self.answered[self.publisher.push(value).id] = value
            except QueueUnavailable:
                self.refused += 1

    def run(self, kills: int) -> list[str]:
        """Push all; returns what is wrong."""
        for thread in self.threads:
            thread.start()
        total = self.each * len(self.threads)
        for kill in range(1, kills + 1):
            while len(self.answered) + self.refused < total * kill / (kills + 1):
                time.sleep(0.005)
            self.redis.kill()
            time.sleep(AWAY_SECONDS)
            self.redis.start()
        for thread in self.threads:
            thread.join()
        return self._wrong(total)

    def _wrong(self, total: int) -> list[str]:
        pushed: Counter[int] = Counter()
        where, prefix = self.redis.socket, "bw:{bulkwav}:pushes:"
        ids = [one.decode() for one in ask(where, "ZRANGE", f"{prefix}todo", "0", "-1")]
        for one in ids:
            payload = ask(where, "HGET", f"{prefix}j:{one}", "payload").decode()
            pushed[int(payload.partition("[")[2].partition("]")[0])] += 1
        wrong = [f"{one} was answered and is not there" for one in set(self.answered) - set(ids)]
        wrong += [f"call {value} is there {n} times" for value, n in pushed.items() if n > 1]
        if len(self.answered) + self.refused != total:
            wrong.append(f"{len(self.answered)} answered, {self.refused} refused, of {total}")
        return wrong


def main() -> None:
    """Run it, and print what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--pushes", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=3)
    given = parser.parse_args()
    chaos, began = PushKills(given.threads, given.pushes), time.monotonic()
    try:
        wrong = chaos.run(given.kills)
    finally:
        chaos.close()
    for line in wrong[:20]:
        print("wrong:", line)
    told = f"{len(chaos.answered)} answered, {chaos.refused} refused, {len(wrong)} wrong"
    print(f"{time.monotonic() - began:.1f} s: {told}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
