"""Which members are meant: a condition on their results. Pure."""

import msgspec

from twisted_bulk.batch.model import Outcome
from twisted_bulk.system.urls import host_of

STATUSES = ("done", "unverified", "failed")  # of an outcome


class Selection(msgspec.Struct, frozen=True, omit_defaults=True):
    """Members that meet all conditions. An empty condition holds for every member.

    :param status: one of :data:`STATUSES`
    :param code: of its error
    :param host: of its URL as shown, with the port if that is not the usual one
    :param text: stands in its URL as shown, its name, its code or its detail; ``A`` to ``Z`` are as
        ``a`` to ``z``
    :param members: numbers in the batch, from 1
    """

    status: str = ""
    code: str = ""
    host: str = ""
    text: str = ""
    members: frozenset[int] = frozenset()

    def matches(self, outcome: Outcome) -> bool:
        """Whether a member is meant, by its result."""
        return (
            self.status in ("", outcome.status)
            and self.code in ("", outcome.code)
            and (not self.members or outcome.member in self.members)
            and (not self.host or self.host == host_of(outcome.url))
            and self.has_text(outcome.url, outcome.name, outcome.code, outcome.detail)
        )

    def has_text(self, *texts: str) -> bool:
        """Whether ``text`` stands in one of these."""
        if not self.text:
            return True
        # Of bytes, lower() changes ASCII letters only.
        wanted = self.text.encode().lower()
        return any(wanted in text.encode().lower() for text in texts)

    @property
    def needle(self) -> bytes:
        """The bytes that a line of JSON in lower case has, if ``text`` stands in its values."""
        return msgspec.json.encode(self.text)[1:-1].lower()

    def may_match(self, code: str, host: str) -> bool:
        """Whether a failed member with this error and host may be meant.

        :param host: empty: of one of many hosts
        """
        return (
            self.status in ("", "failed")
            and self.code in ("", code)
            and (not self.host or host in ("", self.host))
        )
