"""Everything that can be done with batches, put together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IReactorTime

from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.jobs.quiet_hours import ALWAYS, Hours
from twisted_bulk.management.bulk import Bulk
from twisted_bulk.management.events import BatchEvents
from twisted_bulk.management.intake import Intake
from twisted_bulk.management.listing import Listing
from twisted_bulk.management.manifest import Manifests
from twisted_bulk.management.member_search import MemberSearch
from twisted_bulk.management.members import Members
from twisted_bulk.management.probing import AskSize, Probing
from twisted_bulk.management.retries import Retries
from twisted_bulk.orders.grouping import Grouping
from twisted_bulk.orders.order import Order
from twisted_bulk.orders.preflight import CheckHost, preflight
from twisted_bulk.storage.folders import DataFolders


@dataclass(frozen=True)
class Management:
    """What the API can do with batches.

    ``bulk``, and ``feed`` of ``events``, are services that must run. ``preflight`` tells what would
    become of an order, and blocks; ``probing`` asks its sources.
    """

    intake: Intake
    listing: Listing
    members: Members
    retries: Retries
    bulk: Bulk
    events: BatchEvents
    preflight: Callable[[Order], dict[str, Any]]
    probing: Probing


def manage(
    queue: GroupQueue,
    folders: DataFolders,
    clock: IReactorTime,
    *,
    link_base: Callable[[], str],
    part_files: int,
    compress: str,
    callback_tries: int,
    keep: float,
    check_host: CheckHost,
    ask_size: AskSize,
    rate: Callable[[], int | None] = lambda: None,
    deleted: Callable[[str], object] = lambda batch: None,
    check: Callable[[], object] = lambda: None,
    claim: Callable[[int], object] = lambda size: None,
    hours: Hours = ALWAYS,
) -> Management:
    """Put it together for one queue.

    :param folders: of this node
    :param link_base: returns the beginning of links
    :param part_files: members in one part
    :param compress: the mode of batches that ask for none
    :param callback_tries: attempts at a last callback
    :param keep: seconds for which a deletion is remembered
    :param check_host: raises MemberError if no connection to a host and port may be made
    :param ask_size: asks a member's source for its size
    :param rate: returns bytes a second at which this node serves a client; 0 or None: no number
    :param deleted: called with the key of a batch after its record was removed
    :param check: raises an error if no batch can be taken in now
    :param claim: asks for room in the queue for so many bytes; raises an error if there is none
    :param hours: when nothing is begun on this node
    """
    listing = Listing(queue, link_base, hours, clock)
    grouping = Grouping(
        queue, claim, part_files=part_files, compress=compress, callback_tries=callback_tries
    )
    members = Members(queue, MemberSearch(folders), clock)

    def check_all() -> None:
        check()
        claim(0)

    return Management(
        Intake(
            queue, listing, grouping, keep=keep, deleted=deleted, manifests=Manifests(folders),
            check=check_all,
        ),
        listing,
        members,
        Retries(queue, listing, grouping, members, check_all),
        Bulk(queue, listing, clock, keep, deleted),
        BatchEvents(listing, queue, clock),
        lambda order: preflight(order, part_files, check_host),
        Probing(queue, ask_size, clock, rate),
    )  # fmt: skip
