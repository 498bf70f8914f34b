"""What users are told of a part's members."""

from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_bulk.archive.zip_member import ZipMember
from twisted_bulk.batch.model import Member, PartSpec
from twisted_bulk.errors import MemberError
from twisted_bulk.parts.state import PartState


class NumberTests(SynchronousTestCase):
    """In which of a part's zips a member is."""

    def test_zips_that_went(self) -> None:
        """Where one has nothing in the end, those behind it move up."""
        members = [Member(f"http://h/{number}") for number in range(4)]
        tally = PartState(PartSpec("b", 1, 1, 0), members, cast(Any, Clock()))
        for number, volume in enumerate((1, 3, 4)):
            tally.came(number, ZipMember(f"{number}", volume, 0, 0, 0, 1, 1, 0, "sum"))
        tally.failed_with(3, MemberError("body_short", "short"), 1)
        tally.renumber([1, 3, 4])
        self.assertEqual([one and one.volume for one in tally.outcomes], [1, 2, 3, 1])
        tally.renumber([1, 2, 3])
        self.assertEqual([one and one.volume for one in tally.outcomes], [1, 2, 3, 1])
