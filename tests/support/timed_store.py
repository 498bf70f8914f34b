"""A store whose clock stands where the test puts it."""

from tests.support.direct_store import DirectSqlite
from twisted_bulk.brokers.sqlite import MEMORY, Database


class Timed(DirectSqlite):
    """A store whose clock stands where the test puts it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self._database = Database(MEMORY, lambda: self.now)
