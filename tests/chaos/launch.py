"""``twistd bulkwav`` for the chaos test: with shorter leases, a power cut, or a defence taken out.

Nothing of this is in the program: what is changed is changed from outside, as
``CHAOS_LEASE``, ``CHAOS_SCHEDULE``, ``CHAOS_SYNCED``, ``CHAOS_DNS``, ``CHAOS_POISON`` and
``CHAOS_SABOTAGE`` in the environment say.
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

from twisted.scripts.twistd import run

from twisted_bulk.brokers.store import Script
from twisted_bulk.consumer import runner
from twisted_bulk.dialing.lookup import look_up
from twisted_bulk.http_client import agent
from twisted_bulk.jobs import scripted
from twisted_bulk.jobs.scripts import SCRIPTS
from twisted_bulk.node import worker_processes
from twisted_bulk.notify import last_callbacks as notify
from twisted_bulk.parts import maker as part


def shorten(lease: float) -> None:
    """Leases of so many seconds, with heartbeats and pauses to match."""
    vars(scripted)["LEASE_SECONDS"] = lease
    vars(runner)["BEAT_SECONDS"] = lease / 8
    rewrite("local SILENCE = 5000", f"local SILENCE = {round(lease * 300)}")
    rewrite("local GRACE = 8000", f"local GRACE = {round(lease * 500)}")


def rewrite(old: str, new: str, *names: str) -> None:
    """Replace a line in the scripts."""
    for name in names or SCRIPTS:
        source = SCRIPTS[name].source.decode()
        assert old in source, (name, old)
        SCRIPTS[name] = Script(source.replace(old, new), SCRIPTS[name].promises)


def note_syncs(path: Path) -> None:
    """Write down what has been synced: inode and size, a line for each fsync."""
    sync = os.fsync
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def fsync(file: Any) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        sync(descriptor)
        about = os.fstat(descriptor)
        os.write(log, f"{about.st_ino} {about.st_size}\n".encode())

    vars(os)["fsync"] = fsync


def sabotage(what: str) -> None:
    """Take one defence out."""
    if what == "fence":
        # Whoever says that a job is done is believed, whatever became of it meanwhile; and
        # nobody is told that a job is not his any more.
        rewrite("lost[#lost + 1] = id", "", "beat")
        rewrite("or state == 'dead' then reply = 0", "then reply = 0", "ack")
        rewrite("elseif state == 'done' then reply = 2", "", "ack")
        rewrite("if not old or old == 'done' or", "if not old or", "ack")
        rewrite("return job_tries == attempt and job_wid == wid end", "return true end", "ack")
    elif what == "renewal":
        rewrite("call('ZADD', P .. 'doing', whole(now + lease), id)", "", "beat")
    elif what == "reporter":
        # Every node reports the batches that it has a part of, whoever else does.
        rewrite("if holder and holder ~= ARGV[2]", "if false", "claim_report")
        rewrite("if call('GET', key) ~= '!' .. ARGV[2]", "if false", "release_report")
    elif what == "fsync":
        vars(os)["fsync"] = lambda file: None


def hang_dns() -> None:
    """Names that end in ``.hang`` are not answered for 20 s."""

    def slow(host: str) -> list[str]:
        if host.endswith(".hang"):
            time.sleep(20)
            raise OSError(host)
        return look_up(host)

    # The default was bound when the class was made.
    given = agent.GuardedAgent.__init__.__kwdefaults__
    assert given is not None
    given["find"] = slow


def poison() -> None:
    """A part whose batch's name begins with ``poison`` ends its process."""
    make = part.PartMaker.__call__

    async def die(self: Any, task: Any) -> Any:
        if task.job.id.startswith("poison"):
            os.kill(os.getpid(), signal.SIGKILL)
        return await make(self, task)

    vars_of: Any = part.PartMaker
    vars_of.__call__ = die


def main() -> None:
    """What the environment says, then the program."""
    if os.environ.get("CHAOS_SYNCED"):
        note_syncs(Path(os.environ["CHAOS_SYNCED"]))
    if os.environ.get("CHAOS_LEASE"):
        shorten(float(os.environ["CHAOS_LEASE"]))
    if os.environ.get("CHAOS_SCHEDULE"):
        pauses = tuple(float(pause) for pause in os.environ["CHAOS_SCHEDULE"].split(","))
        vars(notify)["SCHEDULE"] = pauses
    if os.environ.get("CHAOS_DNS"):
        hang_dns()
    if os.environ.get("CHAOS_POISON"):
        poison()
    sabotage(os.environ.get("CHAOS_SABOTAGE", ""))
    # Also in the processes that it starts.
    vars(worker_processes)["RUN"] = "from tests.chaos.launch import main; main()"
    run()


if __name__ == "__main__":
    main()
