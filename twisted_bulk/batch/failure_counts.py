"""Failed members, counted by error and host. Pure."""

from collections import Counter
from collections.abc import Iterable

#: A group: code, host, members. The host is empty for members of many hosts together.
Group = tuple[str, str, int]


class FailureCounts:
    """Counts failed members by error and host."""

    def __init__(self, groups: Iterable[Group] = ()) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        for code, host, members in groups:
            self.add(code, host, members)

    def add(self, code: str, host: str, members: int = 1) -> None:
        """Count failed members."""
        self._counts[code, host] += members

    def largest(self, most: int) -> list[Group]:
        """The groups with the most members, the largest first.

        The others are added up: one group for each code, without a host. So there may be as many
        groups more than ``most`` as there are codes.
        """
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        groups = [(code, host, members) for (code, host), members in ordered[:most]]
        rest: Counter[str] = Counter()
        for (code, _), members in ordered[most:]:
            rest[code] += members
        if not rest:
            return groups
        lumped = FailureCounts(groups)
        for code, members in rest.items():
            lumped.add(code, "", members)
        return lumped.largest(most + len(rest))

    @property
    def codes(self) -> list[str]:
        """All codes, in order."""
        return sorted({code for code, _ in self._counts})
