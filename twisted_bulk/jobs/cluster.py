"""What all nodes of a queue have in common beside jobs: shares of limits, and hosts in trouble."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from twisted_bulk.brokers.store import Argument, Store
from twisted_bulk.jobs.scripted import PREFIX, ms
from twisted_bulk.jobs.scripts import SCRIPTS

DEADLINE = 5.0  # seconds for one question


class Wish(NamedTuple):
    """What a process uses of a limit, and may have at most, with what it wants."""

    name: str
    most: int
    using: int
    wanted: int


class HostReport(NamedTuple):
    """What a node has to tell of a host since it told last; the fields of lua/report_hosts.lua."""

    name: str
    trouble: bool
    wait: float
    there: bool
    good: bool
    fails: int
    first: int
    second: int


class HostNews(NamedTuple):
    """What all nodes together know of a host in trouble; times in seconds from now."""

    name: str
    limit: int
    wait: float
    fails: int
    age: float
    again: float
    first: int
    second: int


class Cluster:
    """The nodes that share a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def share(
        self, scope: str, worker: str, lease: float, wishes: Sequence[Wish]
    ) -> list[int]:
        """How many each wish is granted until it is asked again, ``lease`` seconds at most.

        :param scope: what the processes that share have in common
        """
        words: list[Argument] = [worker, ms(lease)]
        for wish in wishes:
            words += wish
        return list(await self._run("share", f"{PREFIX}limits:{scope}:", *words))

    async def report_hosts(self, most: int, reports: Sequence[HostReport]) -> list[HostNews]:
        """Tell the others of hosts, and learn what they know.

        :param most: requests at once to a host that is not in trouble
        """
        words: list[Argument] = [most]
        for report in reports:
            name, trouble, wait, there, good, fails, first, second = report
            words += (name, int(trouble), ms(wait), int(there), int(good), fails, first, second)
        told = iter(await self._run("report_hosts", PREFIX, *words))
        return [
            HostNews(
                name.decode(), limit, wait / 1000, fails, age / 1000, again / 1000, first, second
            )
            for name, limit, wait, fails, age, again, first, second in zip(*[told] * 8, strict=True)
        ]

    async def _run(self, script: str, key: str, *words: Argument) -> Any:
        return await self._store.run(SCRIPTS[script], key, *words, deadline=DEADLINE)
