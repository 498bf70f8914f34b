"""The queue's transitions: Lua, one script each, run by every broker that we have.

Redis and Valkey run them themselves. :mod:`twisted_bulk.brokers.sqlite` runs the same
text on a database file or in memory, so there is one state machine only.
"""

import hashlib
from importlib.resources import files

_FOLDER = files("twisted_bulk") / "lua"


class Script:
    """A Lua script; Redis gets its digest, and the text only where it lacks it.

    :param promises: somebody is told that what it stored will not be lost
    """

    def __init__(self, source: str, promises: bool = False) -> None:
        self.source = source.encode()
        self.promises = promises
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()


def _load(name: str) -> Script:
    promises = name in ("enqueue", "submit", "revive", "again")
    produces = f"local PRODUCES = {str(name in ('enqueue', 'submit')).lower()}\n"
    source = produces + (_FOLDER / "common.lua").read_text() + (_FOLDER / f"{name}.lua").read_text()
    return Script(source, promises)


SCRIPTS = {
    name: _load(name)
    for name in (
        *("enqueue", "reserve", "beat", "ack", "nack", "release", "reclaim", "cancel"),
        *("prioritise", "revive", "shed", "trim", "dead", "maintain", "job", "stats", "control"),
        *("submit", "group", "groups", "running", "forget", "again", "speak", "hush"),
        *("share", "pace"),
    )
}
