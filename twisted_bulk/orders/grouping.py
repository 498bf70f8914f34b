"""Makes the group of jobs of a batch: its parts, with their members."""

from collections.abc import Callable, Mapping

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from twisted_bulk.batch.expectations import ANYTHING
from twisted_bulk.batch.model import PartSpec, Spec, pack_members
from twisted_bulk.batch.names import segment
from twisted_bulk.errors import InvalidRequest, NotRetryable
from twisted_bulk.jobs.group_model import ENDED, Group, GroupPart, GroupRecord
from twisted_bulk.jobs.groups import GroupQueue
from twisted_bulk.orders.order import Order
from twisted_bulk.orders.replacements import Replacements
from twisted_bulk.orders.submission import MAX_PARTS, NamedMember, manifest_of
from twisted_bulk.system.urls import host_of


class Grouping:
    """Cuts orders into groups for one queue.

    :param claim: asks for room in the queue for so many bytes; raises an error if there is none
    :param part_files: members in one part
    :param compress: the mode of batches that ask for none
    :param callback_tries: attempts at a last callback
    """

    def __init__(
        self,
        queue: GroupQueue,
        claim: Callable[[int], object],
        *,
        part_files: int,
        compress: str,
        callback_tries: int,
    ) -> None:
        self._queue = queue
        self._claim = claim
        self._part_files = part_files
        self._compress = compress
        self._callback_tries = callback_tries

    async def group(
        self, key: str, order: Order, owner: str, digest: str
    ) -> tuple[Group, list[str]]:
        """The group of a batch, and the keys of the data that was stored for it.

        :param key: of the batch
        :param digest: of the order, with its owner
        :raises InvalidRequest: it would have too many parts
        """
        count = -(-len(order) // self._part_files)
        if count > MAX_PARTS:
            raise InvalidRequest(f"$.download: would make {count} zips, at most {MAX_PARTS}")
        parts, attached = list[GroupPart](), list[str]()
        try:
            for number in range(1, count + 1):
                parts.append(await self._part(key, order, number, count, attached))
        except BaseException:
            # Without waiting: our caller may be gone.
            Deferred.fromCoroutine(self._queue.detach(attached)).addErrback(lambda _: None)
            raise
        submission = order.submission
        spec = Spec(url=submission.url or "", notify_format=submission.notify_format, owner=owner)
        group = Group(
            id=key,
            digest=digest,
            spec=msgspec.json.encode(spec),
            need=order.need,
            parts=parts,
            priority=submission.priority,
            expires=submission.expires,
            after=key.encode() if submission.url else b"",
            after_tries=self._callback_tries,
            owner=owner,
        )
        return group, attached

    async def _part(
        self, key: str, order: Order, number: int, count: int, attached: list[str]
    ) -> GroupPart:
        """One part. The members of a large batch are stored now, those of a small one with it."""
        submission, total, each = order.submission, len(order), self._part_files
        begin = (number - 1) * each
        size = min(each, total - begin)
        packed = await self._pack(order, begin, begin + size)
        spec = PartSpec(
            batch=key,
            part=number,
            parts=count,
            spare=total - order.need,
            compress=submission.compress or self._compress,  # type: ignore[arg-type]
            headers=submission.headers,
            timeout=submission.timeout,
            layout=submission.layout,
            notify=host_of(submission.url) if submission.url else "",
            first=begin,
            show_urls=submission.show_urls,
            filename=segment(submission.filename).removesuffix(".zip"),
            manifest=manifest_of(submission),
            expect=submission.expect or ANYTHING,
            retry_on=tuple(submission.retry_on),
        )
        payload = msgspec.json.encode(spec)
        self._claim(len(packed))
        if order.is_small:
            return GroupPart(size=size, payload=payload, data=packed)
        attached.append(self._queue.new_key())  # first: it is dropped also if we are cancelled
        await self._queue.attach(attached[-1], packed)
        return GroupPart(size=size, payload=payload, attachment=attached[-1])

    async def replace(
        self, record: GroupRecord, wanted: Mapping[str, str | NamedMember]
    ) -> dict[int, str]:
        """Replace members of a batch that has ended.

        :param wanted: new URLs or members, by the numbers or URLs of those that they replace
        :returns: by part number: the key of its new members
        :raises InvalidRequest: a URL is none, or a number or URL is of no part that is tried again
        """
        changes = await deferToThread(Replacements, wanted)
        made: dict[int, str] = {}
        if record.state not in ENDED or record.state == "done":
            return made  # there is nothing to try again
        try:
            for number, part in enumerate(record.parts, 1):
                if part.ok < part.size and changes.may_be_in(part.size):
                    key = await self._queue.attachment_of(record, number)
                    packed = await self._queue.attachment(key) if key else None
                    if packed is None:
                        raise NotRetryable("its members are kept no longer: send it again")
                    data = await deferToThread(changes.apply, packed)
                    if data:
                        self._claim(len(data))
                        made[number] = self._queue.new_key()
                        await self._queue.attach(made[number], data)
                changes.pass_by(part.size)
            changes.check_all_used()
        except BaseException:
            Deferred.fromCoroutine(self._queue.detach(list(made.values()))).addErrback(
                lambda _: None
            )
            raise
        return made

    async def _pack(self, order: Order, begin: int, end: int) -> bytes:
        """The members from ``begin`` to ``end``; those of a large batch are packed on a thread."""

        def pack() -> bytes:
            return pack_members(order.members(begin, end), end - begin)

        return pack() if order.is_small else await deferToThread(pack)
