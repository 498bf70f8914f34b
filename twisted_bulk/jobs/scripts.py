"""The steps of the queue's state machine: a Lua script for each, the same for every broker.

Redis and Valkey run the scripts themselves. :mod:`twisted_bulk.brokers.sqlite` runs the same text
on a database file or in memory. So there is only one state machine.
"""

from importlib.resources import files

from twisted_bulk.brokers.store import Script

_FOLDER = files("twisted_bulk.jobs") / "lua"
_SHARED = (
    "keys",
    "clock",
    "lines",
    "indexes",
    "ending",
    "leases",
    "actions",
    "bulk",
)  # stand before every script, in this order


def _load(name: str) -> Script:
    promises = name in (
        "enqueue",
        "cron_due",
        "submit",
        "revive",
        "again",
        "bulk_state",
        "bulk_step",
    )
    produces = f"local PRODUCES = {str(name in ('enqueue', 'cron_due', 'submit')).lower()}\n"
    shared = "".join((_FOLDER / "shared" / f"{each}.lua").read_text() for each in _SHARED)
    return Script(produces + shared + (_FOLDER / f"{name}.lua").read_text(), promises)


SCRIPTS = {
    name: _load(name)
    for name in (
        *("enqueue", "reserve", "beat", "ack", "nack", "release", "reclaim", "cancel"),
        *("prioritise", "revive", "trim", "dead", "maintain", "job", "stats", "control"),
        *("submit", "group", "groups", "running", "forget", "again", "drop_members"),
        *("claim_names", "changes", "count_groups", "cron", "cron_due"),
        *("bulk_fill", "bulk_drop", "bulk_state", "bulk_step", "bulks"),
        *("claim_report", "release_report", "share", "report_hosts"),
    )
}
