"""The queue's transitions: Lua, one script each, run by every broker that we have.

Redis and Valkey run them themselves. :mod:`twisted_bulk.brokers.sqlite` runs the same
text on a database file or in memory, so there is one state machine only.
"""

from importlib.resources import files

from twisted_bulk.brokers.store import Script

_FOLDER = files("twisted_bulk.jobs") / "lua"


def _load(name: str) -> Script:
    promises = name in ("enqueue", "submit", "revive", "again")
    produces = f"local PRODUCES = {str(name in ('enqueue', 'submit')).lower()}\n"
    source = produces + (_FOLDER / "common.lua").read_text() + (_FOLDER / f"{name}.lua").read_text()
    return Script(source, promises)


SCRIPTS = {
    name: _load(name)
    for name in (
        *("enqueue", "reserve", "beat", "ack", "nack", "release", "reclaim", "cancel"),
        *("prioritise", "revive", "trim", "dead", "maintain", "job", "stats", "control"),
        *("submit", "group", "groups", "running", "forget", "again", "drop_members"),
        *("claim_report", "release_report", "share", "report_hosts"),
    )
}
