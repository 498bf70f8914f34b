"""Groups found by their indexes: those of a filter, and those that changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from twisted_bulk.brokers.store import Argument
from twisted_bulk.jobs.group_model import Changes
from twisted_bulk.jobs.replies import ms
from twisted_bulk.jobs.scripted import ScriptedQueue

MAX_LOOKED = 10_000  # groups that one call looks at
AFTER_FAILED = "~after_failed"  # the tag of a group whose following job has failed
AFTER_TRYING = "~after_trying"  # of one whose following job waits for another try


@dataclass(frozen=True, kw_only=True)
class GroupFilter:
    """Groups that have all of these. An empty condition holds for every group.

    :param states: any of :data:`~twisted_bulk.jobs.group_model.GROUP_STATES`
    :param owner: the token that submitted it
    :param tags: words that its ended jobs have, see :class:`~twisted_bulk.jobs.model.Ack`, or
        :data:`AFTER_FAILED`, :data:`AFTER_TRYING`
    :param prefix: how the id begins; what stands before a colon in the id does not count
    :param since: it was created then or later, in seconds since 1970
    :param before: it was created before then
    """

    states: Sequence[str] = ()
    owner: str = ""
    tags: Sequence[str] = ()
    prefix: str = ""
    since: float | None = None
    before: float | None = None

    @property
    def words(self) -> list[Argument]:
        """The arguments of scripts, see ``filter_of`` in lua/shared/indexes.lua."""
        times = ["" if time is None else str(ms(time)) for time in (self.since, self.before)]
        return [",".join(self.states), self.owner, ",".join(self.tags), self.prefix, *times]


EVERY_GROUP = GroupFilter()


class GroupIndex(ScriptedQueue):
    """The part of :class:`~twisted_bulk.jobs.groups.GroupQueue` that finds groups."""

    async def groups(
        self, wanted: GroupFilter = EVERY_GROUP, cursor: str = "", limit: int = 50
    ) -> tuple[list[str], str]:
        """Ids of groups, newest first, and the cursor of the next page or ``""``.

        A page may have fewer than ``limit`` though more follow: one call looks at
        :data:`MAX_LOOKED` groups of the smallest index.

        :param cursor: of the page before, or empty
        """
        words = [*wanted.words, cursor, limit, MAX_LOOKED]
        more, *found = await self.script("groups", *words)
        return [group_id.decode() for group_id in found], more.decode()

    async def count_groups(
        self, wanted: GroupFilter = EVERY_GROUP, cursor: str = ""
    ) -> tuple[int, str]:
        """How many groups match, and the cursor of those that were not looked at or ``""``.

        :param cursor: of the call before: only older groups are counted
        """
        count, more = await self.script("count_groups", *wanted.words, cursor, MAX_LOOKED)
        return int(count), more.decode()

    async def changes(self, after: int | None = None, limit: int = 1000) -> Changes:
        """Groups that changed, each once, in the order of their last changes.

        Forgotten ones are among them for an hour.

        :param after: the number of a change: those after it; None: none, only the numbers are asked
        """
        last, forgotten, *found = await self.script(
            "changes", -1 if after is None else after, limit
        )
        groups = [
            (group_id.decode(), int(number))
            for group_id, number in zip(found[::2], found[1::2], strict=True)
        ]
        return Changes(groups=groups, last=last, forgotten=forgotten)
