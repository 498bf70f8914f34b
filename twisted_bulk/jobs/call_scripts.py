"""What calls of functions need of a queue: what is declared, what is due at fixed times."""

from collections.abc import Mapping
from typing import Any

from twisted_bulk.brokers.store import Argument, Store
from twisted_bulk.errors import QueueFull
from twisted_bulk.jobs.model import Work
from twisted_bulk.jobs.replies import PREFIX, ms
from twisted_bulk.jobs.scripts import SCRIPTS

FULL_RETRY_AFTER = 30  # seconds for a client that is refused because the queue is full


def words_of(work: Work) -> tuple[Argument, ...]:
    """A new job, as the scripts take it."""
    return (
        *(work.id, work.priority, int(work.first), ms(work.delay), ms(work.expires)),
        *(work.tries, work.losses, work.size, work.digest, ms(work.window), work.payload),
    )


class CallScripts:
    """A queue's place in its store, and the steps for calls of functions.

    The methods without a docstring are described in :class:`~twisted_bulk.jobs.protocol.JobQueue`.
    """

    def __init__(self, store: Store, name: str, cap: int) -> None:
        self.name = name
        self.prefix = f"{PREFIX}{name}:"
        self.store = store
        self.cap = cap

    async def script(self, name: str, *arguments: Argument, deadline: float = 10.0) -> Any:
        """Run the script ``name`` on this queue; returns its reply."""
        return await self.store.run(SCRIPTS[name], self.prefix, *arguments, deadline=deadline)

    async def declare(self, functions: Mapping[str, bytes]) -> None:
        words = [word for pair in functions.items() for word in pair]
        if words:
            await self.store.command("HSET", f"{self.prefix}fn", *words)

    async def declared(self) -> dict[str, bytes]:
        found = await self.store.command("HGETALL", f"{self.prefix}fn")
        return {name.decode(): text for name, text in zip(found[::2], found[1::2], strict=True)}

    async def payload(self, job_id: str) -> bytes | None:
        short = await self.store.command("HGET", f"{self.prefix}j:{job_id}", "payload")
        found: bytes | None = short or await self.store.command("GET", f"{self.prefix}p:{job_id}")
        return found

    async def last_times(self, periodic: Mapping[str, str]) -> tuple[float, list[float]]:
        words = [word for pair in periodic.items() for word in pair]
        now, *last = await self.script("cron", *words)
        return int(now) / 1000, [int(one) / 1000 for one in last]

    async def enqueue_due(
        self, name: str, line: str, before: float, due: float, work: Work
    ) -> bool:
        words = (self.cap, name, line, ms(before), ms(due), *words_of(work))
        reply = await self.script("cron_due", *words)
        if reply == -2:
            raise QueueFull("as much is waiting as may", FULL_RETRY_AFTER)
        return bool(reply == 1)

    async def pause(self, seconds: float) -> None:
        await self.store.pause(seconds)
