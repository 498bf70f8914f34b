"""The names of a part's files. No two files of a batch have one name, in all its parts."""

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

from twisted_bulk.batch.model import Member, PartSpec
from twisted_bulk.batch.names import MAX_PATH, SHARDS, Names, fold, folders_of, safe, sharded
from twisted_bulk.batch.source_names import from_url, source_name
from twisted_bulk.errors import Unavailable
from twisted_bulk.http_client.content import Content

CLAIMS_AT_ONCE = 500  # names in one call
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
        return safe(member.name, self._most) or from_url(member.url, self._most) or "file"

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
        left: list[int] = list(range(len(self.names)))
        while left:
            refused: set[int] = set()
            for begin in range(0, len(left), CLAIMS_AT_ONCE):
                refused |= await self._claim_some(left[begin : begin + CLAIMS_AT_ONCE])
            left = sorted(refused - set(fixed))
            for number in left:
                self._take_another(number)

    def _take_another(self, number: int) -> None:
        """The name of a member is another part's: take the next one for it."""
        wanted = self._wanted[number]
        self._refused[wanted] += 1
        if self._refused[wanted] > MAX_REFUSED:
            self._names.skip_to(wanted, self._spec.first + 2)
        self.names[number] = self._names.take(wanted)

    async def _claim_some(self, numbers: Iterable[int]) -> set[int]:
        """Claim the names of some members; returns those that need another name."""
        assert self._claim is not None
        asked: list[bytes] = []
        about: list[tuple[int, str]] = []  # the member, and the folder or nothing
        for number in numbers:
            name = self.names[number]
            for folder in folders_of(name):
                if folder not in self._folders:
                    asked.append(_claim(folder, FOLDER))
                    about.append((number, folder))
            asked.append(_claim(name, self._spec.first + number + 1))
            about.append((number, ""))
        refused: set[int] = set()
        for (number, folder), ours in zip(about, await self._claim(asked), strict=True):
            if ours:
                self._folders |= {folder} if folder else set()
            else:
                refused.add(number)
                if folder:  # another part has a file of this name
                    self._names.lose_folder(folder)
        return refused

    async def settle(self, number: int, content: Content) -> str:
        """The final name of a member, whose response has come."""
        member = self._members[number]
        if safe(member.name, self._most):
            return self.names[number]
        found = source_name(content.disposition, content.url, member.url, content.type, self._most)
        wanted = self._layout(found or "file")
        if wanted == self._wanted[number]:
            return self.names[number]
        before, old = self.names[number], self._wanted[number]
        self._wanted[number] = wanted
        self._names.release(before)
        self.names[number] = self._names.take(wanted)
        try:
            while self._claim is not None and number in await self._claim_some([number]):
                self._take_another(number)
        except Unavailable:  # the name that was claimed before is good enough
            self._names.release(self.names[number])
            self.names[number], self._wanted[number] = self._names.take(before), old
        return self.names[number]
