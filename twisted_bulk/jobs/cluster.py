"""State that all nodes of a queue share beside jobs: limits of downloads, and hosts in trouble."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from twisted_bulk.brokers.store import Argument, Store
from twisted_bulk.jobs.replies import PREFIX, ms
from twisted_bulk.jobs.scripts import SCRIPTS

DEADLINE_SECONDS = 5.0  # for one call; then QueueUnavailable


class Wish(NamedTuple):
    """A process's wish for a share of a limit.

    :param name: of the limit
    :param most: the limit itself
    :param using: how many the process uses now
    :param wanted: how many it could use
    """

    name: str
    most: int
    using: int
    wanted: int


class HostReport(NamedTuple):
    """What happened with a host on this node since its last report; see lua/report_hosts.lua.

    :param trouble: it has too much to do
    :param wait: seconds of pause that it asked for, or 0
    :param there: it has answered, before the failures
    :param good: it has served a request
    :param fails: failures in a row
    :param first: a batch that had trouble with it, or 0
    :param second: another one, or 0
    """

    name: str
    trouble: bool
    wait: float
    there: bool
    good: bool
    fails: int
    first: int
    second: int


class HostNews(NamedTuple):
    """What all nodes together know of a host in trouble. Times are in seconds from now.

    :param limit: requests at once
    :param wait: until when it asked for a pause
    :param fails: failures in a row
    :param age: how long ago the first of these was
    :param again: when it is asked next, as it is away
    :param first: a batch that had trouble with it, or 0
    :param second: another one, or 0
    """

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
        """Ask for shares of limits.

        :param scope: a name that the processes which share the limits have in common
        :param lease: seconds after which an unrenewed share is taken back
        :returns: how many each wish is granted
        """
        words: list[Argument] = [worker, ms(lease)]
        for wish in wishes:
            words += wish
        return list(await self._run("share", f"{PREFIX}limits:{scope}:", *words))

    async def report_hosts(self, most: int, reports: Sequence[HostReport]) -> list[HostNews]:
        """Tell the other nodes of hosts, and learn what they know.

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
        return await self._store.run(SCRIPTS[script], key, *words, deadline=DEADLINE_SECONDS)
