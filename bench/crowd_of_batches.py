"""Fills a queue with batches, and keeps some running, as workers would.

    python -m bench.crowd_of_batches REDIS_URL DATA_FOLDER BATCHES RUNNING PARTS

It prints ``ready`` when the queue is filled.
"""

import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from twisted_bulk.batch.manifest_file import encode
from twisted_bulk.batch.member_index import INDEX_FILE, MemberIndex, lines_of
from twisted_bulk.batch.model import Outcome, PartProgress, PartResult, PartSpec
from twisted_bulk.batch.names import MANIFEST
from twisted_bulk.brokers.redis import connection
from twisted_bulk.jobs.group_model import Group, GroupPart
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.jobs.model import Ack, Job
from twisted_bulk.jobs.scripted import ScriptedQueue
from twisted_bulk.storage.folders import DataFolders

PART = 10_000  # members of a part of the large batch
BAD = 20  # of so many of its members one failed
CODES = ("http_error", "header_timeout")


def outcome(number: int, part: int) -> Outcome:
    """The result of a member of the large batch."""
    bad = number % BAD == 0
    code = CODES[number % 3 == 0] if bad else ""
    url = f"http://h{number % 7}.example/recordings/2026/11/{number:08}.wav?token=***"
    return Outcome(
        url, f"{number:08}.wav", "failed" if bad else "done", code, "HTTP 404" if bad else "",
        0 if bad else 123_456, "" if bad else "ab" * 32, 1, part, member=number,
    )  # fmt: skip


def publish(folders: DataFolders, part: int) -> tuple[bytes, int]:
    """Write the results of one part; returns its result, and how many members are there."""
    first = (part - 1) * PART
    found = [outcome(number, part) for number in range(first + 1, first + PART + 1)]
    text = encode(found)
    folder = folders.public / f"large-{secrets.token_hex(16)}"
    folder.mkdir()
    (folder / MANIFEST).write_bytes(text)
    (folder / INDEX_FILE).write_bytes(MemberIndex.of(lines_of(text), first).encode())
    failed = sum(one.status == "failed" for one in found)
    groups = [(CODES[0], f"h{n}.example", failed // 7) for n in range(7)]
    result = PartResult(
        folder.name, [], PART - failed, failed, 1 << 30, [], folders.node, failures=groups
    )
    return msgspec.json.encode(result), PART - failed


async def submit(queue: GroupQueue, name: str, parts: int, size: int) -> None:
    """Queue a batch without members."""
    specs = [
        GroupPart(size=size, payload=msgspec.json.encode(PartSpec(name, number, parts, size)))
        for number in range(1, parts + 1)
    ]
    await queue.submit(Group(id=name, digest="d", spec=b"{}", need=1, parts=specs))


async def fill(queue: GroupQueue, folders: DataFolders, batches: int, parts: int) -> None:
    """The large batch, and many small ones that have ended."""
    await submit(queue, "large", parts, PART)
    for job in (await queue.reserve("w", parts)).jobs:
        result, ok = publish(folders, int(job.id.rpartition("/")[2]))
        await queue.ack("w", [Ack(job, ok, result, ",".join(CODES))])
    small = msgspec.json.encode(PartResult("b", [], 4, 0, 99, [], folders.node))
    for number in range(batches):
        await submit(queue, f"batch-{number:05}", 1, 4)
        if number % 100 == 99:
            jobs = (await queue.reserve("w", 100)).jobs
            await queue.ack("w", [Ack(job, 4, small) for job in jobs])


async def work(reactor: Any, queue: GroupQueue, running: Sequence[Job]) -> None:
    """Report progress of each batch once a second."""
    for second in range(1, 1_000_000):
        progress = msgspec.json.encode(PartProgress(done=second, bytes=second * 10_000, rate=1e6))
        await queue.beat("w", [(job, second * 1000, progress) for job in running])
        await deferLater(reactor, 1.0)


async def run(reactor: Any, url: str, data: str, *numbers: str) -> None:
    """Fill, and work on."""
    batches, running, parts = map(int, numbers)
    redis = connection(reactor, url)
    redis.connect()
    queue = GroupQueue(redis, "parts", 10_000_000, ScriptedQueue(redis, "callbacks"))
    await fill(queue, DataFolders(Path(data)), batches, parts)
    for number in range(running):
        await submit(queue, f"running-{number:03}", 1, 10_000)
    jobs = (await queue.reserve("w", running)).jobs
    print("ready", flush=True)
    await work(reactor, queue, jobs)


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(run(reactor, *sys.argv[1:])))
