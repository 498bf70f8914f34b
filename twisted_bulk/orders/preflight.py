"""What would become of a batch, before it is queued. Nothing is fetched, no name is looked up."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from twisted_bulk.batch.masks import show
from twisted_bulk.batch.model import Member
from twisted_bulk.batch.names import Names
from twisted_bulk.batch.source_names import name_before
from twisted_bulk.errors import MemberError
from twisted_bulk.orders.order import Order
from twisted_bulk.orders.submission import manifest_of
from twisted_bulk.system.urls import host_of, normal, reason

MAX_CHECKED = 200_000  # members that are looked at, from the first
MAX_NAMED = 20_000  # members whose names are looked at: names take more time
MAX_HOSTS = 20  # that are shown, those with the most members first
MAX_SHOWN = 300  # characters of a URL or a name
MAX_EXAMPLES = 5  # members that are shown for each finding

#: Raises MemberError if no connection to this host and port may be made.
CheckHost = Callable[[str, int], object]


class _Findings:
    """Members that something is said of, counted by what it is."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[Any]] = {}

    def add(self, code: str, detail: str, example: Callable[[], str]) -> None:
        """Count one.

        :param example: returns it as it may be shown
        """
        found = self._found.setdefault((code, detail), [0, []])
        found[0] += 1
        if len(found[1]) < MAX_EXAMPLES:
            found[1].append(example())

    def shown(self) -> list[dict[str, Any]]:
        """As the API shows them."""
        return [
            {"code": code, "detail": detail, "members": members, "examples": examples}
            for (code, detail), (members, examples) in self._found.items()
        ]


def preflight(order: Order, part_files: int, check_host: CheckHost) -> dict[str, Any]:
    """What is known of a batch by its order alone. Blocks.

    ``checked``: how many members were looked at. ``callback``: why it could not be sent, or None.
    ``refused``: members that would fail at once. ``duplicates``: members whose URL stands before.
    ``renamed``: members whose file would not have the name that was asked for.

    :param part_files: members in one part
    """
    hosts: Counter[str] = Counter()
    seen: set[str] = set()
    troubles: dict[str, MemberError | None] = {}  # by scheme and host: alike for all its members
    refused, duplicates, renamed = _Findings(), _Findings(), _Findings()
    names, most = Names(manifest_of(order.submission)), min(len(order), MAX_CHECKED)
    for number, member in enumerate(_members(order, most)):
        host = host_of(member.url)
        hosts[host] += 1
        origin = f"{normal(member.url)[:6]}{host}"  # "https:", or "http:/"
        if not host or origin not in troubles:
            troubles[origin] = _trouble(member, check_host)
        trouble = troubles[origin]
        shown = partial(_shown, member, order)
        if trouble is not None:
            refused.add(trouble.code, trouble.detail, shown)
        if member.url in seen:
            duplicates.add("duplicate", "", shown)
        seen.add(member.url)
        if number < MAX_NAMED:
            wanted = member.name or name_before("", member.url)
            name = names.take(name_before(member.name, member.url))
            if name != wanted:
                renamed.add("renamed", "", partial(_renamed, wanted, name))
    callback = order.submission.url
    trouble = _trouble(Member(callback), check_host) if callback else None
    return {
        "callback": trouble and {"code": trouble.code, "detail": trouble.detail},
        "total": len(order),
        "checked": most,
        "parts": -(-len(order) // part_files),
        "hosts": [{"host": host, "members": n} for host, n in hosts.most_common(MAX_HOSTS)],
        "more_hosts": max(0, len(hosts) - MAX_HOSTS),
        "refused": refused.shown(),
        "duplicates": duplicates.shown(),
        "renamed": renamed.shown(),
    }


def _members(order: Order, most: int) -> Iterator[Member]:
    for some in order.members(0, most):
        yield from some


def _shown(member: Member, order: Order) -> str:
    return show(member.url, order.submission.show_urls)[:MAX_SHOWN]


def _renamed(wanted: str, name: str) -> str:
    return f"{wanted[:MAX_SHOWN]} → {name[:MAX_SHOWN]}"


def _trouble(member: Member, check_host: CheckHost) -> MemberError | None:
    if not normal(member.url):
        return MemberError("bad_url", reason(member.url))
    parts = urlsplit(normal(member.url))
    try:
        check_host(parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80))
    except MemberError as error:
        # Without the host: one line for all members of this kind.
        return MemberError(error.code, error.detail.partition(" ")[2] or error.detail)
    return None
