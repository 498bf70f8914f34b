"""The names of a part's files. No two files of a batch have one name, in all its parts."""

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from twisted_bulk.batch.model import Member, PartSpec
from twisted_bulk.batch.names import MAX_PATH, SHARDS, Names, fold, folders_of, safe, sharded
from twisted_bulk.batch.source_names import lacks_ending, name_before, source_name
from twisted_bulk.errors import Unavailable
from twisted_bulk.http_client.content import Content

CLAIMS_AT_ONCE = 500  # names and folders in one call
#: Times that a name may be another part's; then its numbers begin behind the members of the parts
#: before this one. Else parts with many names alike would ask for each number in vain.
MAX_REFUSED = 8
FOLDER = 0  # claims a folder: several files share it

#: Claims names for a batch: digests of 6 bytes with numbers of 4; returns 1 for each that is ours.
Claim = Callable[[Sequence[bytes]], Awaitable[Sequence[int]]]


def _claim(name: str, claimant: int) -> bytes:
    digest = hashlib.blake2b(fold(name).encode(), digest_size=6).digest()
    return digest + claimant.to_bytes(4, "big")


class Naming:
    """The names of a part's members.

    A name is reserved for each member, in the order of the request. A member without a ``name`` of
    its own may get another one when its response has come.

    :ivar names: of all members
    :param claim: asks the other parts of the batch; None: it has no others
    """

    def __init__(
        self, spec: PartSpec, members: Sequence[Member], claim: Claim | None = None
    ) -> None:
        self._spec = spec
        self._members = members
        self._claim = claim
        self._shards = spec.layout == "sharded"
        self._most = MAX_PATH - 2 * SHARDS if self._shards else MAX_PATH
        self._wanted = [self._layout(self._first(member)) for member in members]
        self._folders: set[str] = set()  # that were claimed
        self._refused: Counter[str] = Counter()
        self._names = Names(spec.manifest)
        self.names = [self._names.take(wanted) for wanted in self._wanted]

    def _first(self, member: Member) -> str:
        """The name of a member before its response has come."""
        return name_before(member.name, member.url, self._most)

    def _layout(self, name: str) -> str:
        return sharded(name) if self._shards else name

    def keep(self, there: Mapping[int, str]) -> None:
        """Some members are in the archive already, under these names: the others give way."""
        if all(self.names[number] == name for number, name in there.items()):
            return
        self._names = Names(self._spec.manifest)
        for number, name in there.items():
            self._names.add(name)
            self.names[number] = name
        for number, wanted in enumerate(self._wanted):
            if number not in there:
                self.names[number] = self._names.take(wanted)

    async def claim_all(self, fixed: Collection[int] = ()) -> None:
        """Claim the names of all members; those that other parts have give way.

        :param fixed: members whose names cannot change any more
        """
        if self._claim is None:
            return
        left: Collection[int] = range(len(self.names))
        while left := await self._claim_names(self.names, left) - set(fixed):
            for number in sorted(left):
                self.names[number] = self._take_another(self._wanted[number])

    def _take_another(self, wanted: str) -> str:
        """A name is another part's: take the next one for it."""
        self._refused[wanted] += 1
        if self._refused[wanted] > MAX_REFUSED:
            self._names.skip_to(wanted, self._spec.first + 2)
        return self._names.take(wanted)

    async def _claim_names(
        self, names: Mapping[int, str] | Sequence[str], numbers: Iterable[int]
    ) -> set[int]:
        """Claim the names of some members; returns those that need another name."""
        assert self._claim is not None
        refused: set[int] = set()
        claims = self._claims(names, numbers)
        while some := list(islice(claims, CLAIMS_AT_ONCE)):
            answers = await self._claim([_claim(name, who) for _, name, who in some])
            for (number, name, who), ours in zip(some, answers, strict=True):
                if ours and who == FOLDER:
                    self._folders.add(name)
                elif not ours:
                    refused.add(number)
                    if who == FOLDER:  # another part has a file of this name
                        self._names.lose_folder(name)
        return refused

    def _claims(
        self, names: Mapping[int, str] | Sequence[str], numbers: Iterable[int]
    ) -> Iterator[tuple[int, str, int]]:
        """The names and folders of members that have to be claimed, with the claimants."""
        for number in numbers:
            for folder in folders_of(names[number]):
                if folder not in self._folders:
                    yield number, folder, FOLDER
            yield number, names[number], self._spec.first + number + 1

    async def settle(self, numbers: Iterable[int], content: Content) -> dict[int, str]:
        """The final names of members that have one URL, whose response has come."""
        wanted = {number: self._named_by(number, content) for number in numbers}
        new: dict[int, str] = {}
        for number, name in wanted.items():
            if name != self._wanted[number]:
                self._names.release(self.names[number])
                new[number] = self._names.take(name)
                self._names.add(self.names[number])  # until the new one is claimed
        try:
            left: Iterable[int] = new
            while self._claim is not None and (left := await self._claim_names(new, left)):
                for number in sorted(left):
                    new[number] = self._take_another(wanted[number])
        except BaseException as problem:
            for number, name in new.items():
                self._names.release(name)
                self._names.add(self.names[number])
            if not isinstance(problem, Unavailable):
                raise
            new.clear()  # the names of before are good enough
        for number, name in new.items():
            self._names.release(self.names[number])
            self._names.add(name)
            self.names[number], self._wanted[number] = name, wanted[number]
        return {number: self.names[number] for number in wanted}

    def _named_by(self, number: int, content: Content) -> str:
        """The name that a member should have by the response to its request."""
        member, wanted = self._members[number], self._wanted[number]
        if member.name and safe(member.name, self._most):
            return wanted
        is_first = content.url == member.url and not content.disposition
        if is_first and not lacks_ending(wanted, content.type):
            return wanted
        found = source_name(content.disposition, content.url, member.url, content.type, self._most)
        return self._layout(found or "file")
