"""The replies of the queue's scripts as values, and what all their callers share. Pure."""

from collections.abc import Sequence
from typing import Any

from twisted_bulk.jobs.group_model import AfterRecord, GroupRecord, PartRecord
from twisted_bulk.jobs.model import (
    JOB_STATES,
    Job,
    JobRecord,
    Reserved,
    Stats,
    Supply,
    WorkerRecord,
)

PREFIX = "bw:{bulkwav}:"  # of all our keys; the braces keep them in one slot of a Redis Cluster


def ms(seconds: float) -> int:
    """Milliseconds, as the scripts count."""
    return round(seconds * 1000)


def when(milliseconds: bytes | None, skew: bytes = b"0") -> float | None:
    """A time of a script's reply in seconds since 1970, by the server's clock; None stays None.

    :param skew: milliseconds by which that clock was put forward, see lua/shared/clock.lua
    """
    return (int(milliseconds) + int(skew)) / 1000 if milliseconds else None


def fields(flat: Sequence[bytes]) -> dict[str, bytes]:
    """A hash out of the flat list that HGETALL replies."""
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def reserved(reply: Sequence[Any]) -> Reserved:
    """The reply of ``reserve``."""
    supply, wait, jobs, suspects, waiting = reply
    return Reserved(
        Supply(supply.decode()),
        None if wait < 0 else wait / 1000,
        [
            Job(
                id=job_id.decode(),
                attempt=attempt,
                attachment=attachment.decode(),
                payload=payload,
                size=size,
                small=bool(small),
            )
            for job_id, attempt, attachment, payload, size, small in jobs
        ],
        suspects,
        waiting,
    )


def job_record(job_id: str, reply: Sequence[Any]) -> JobRecord:
    """The reply of ``job``."""
    _now, skew, place, flat = reply
    f = fields(flat)
    return JobRecord(
        id=job_id,
        state=f["state"].decode(),
        place=None if place < 0 else place,
        tries=int(f.get("tries", 0)),
        lost=int(f.get("lost", 0)),
        worker=f.get("wid", b"").decode(),
        enqueued=when(f["enq"], skew) or 0.0,
        started=when(f.get("at"), skew),
        ended=when(f.get("end"), skew),
        progress=f.get("progress", b""),
        result=f.get("res", b""),
        why=f.get("why", b"").decode(),
        error=f.get("err", b"").decode("utf-8", "replace"),
    )


def stats(reply: Sequence[Any]) -> Stats:
    """The reply of ``stats``."""
    now, counts, suspects, backlog, empty, settings, minutes, workers = reply
    return Stats(
        now=int(now) / 1000,
        counts=dict(zip(JOB_STATES, counts, strict=True)),
        suspects=suspects,
        backlog=int(backlog),
        empty=None if int(empty) < 0 else max(0, int(now) - int(empty)) / 1000,
        settings={name: value.decode() for name, value in fields(settings).items()},
        minutes=[
            {name: int(value) for name, value in fields(flat).items()} for flat in minutes[1::2]
        ],
        workers=[
            WorkerRecord(
                id=worker.decode(),
                silent=max(0, int(now) - float(beat)) / 1000,
                holds=holds,
                jobs=sorted(map(bytes.decode, jobs)),
                waits_for=why.decode("utf-8", "replace"),
            )
            for worker, beat, holds, jobs, why in zip(
                *(workers[n::5] for n in range(5)), strict=True
            )
        ],
    )


def group_record(group_id: str, reply: Sequence[Any]) -> GroupRecord:
    """The reply of ``group``."""
    now, skew, place, flat, parts, after, change = reply
    f = fields(flat)
    return GroupRecord(
        id=group_id,
        state=f["state"].decode(),
        digest=f["digest"].decode(),
        run=f["nonce"].decode() + ("+" + f["runs"].decode() if "runs" in f else ""),
        spec=f["spec"],
        total=int(f["total"]),
        units=int(f["units"]),
        seq=int(f["seq"]),
        created=when(f["created"], skew) or 0.0,
        started=when(f.get("started"), skew),
        ended=when(f.get("ended"), skew),
        now=when(now, skew) or 0.0,
        place=None if place < 0 else place,
        parts=[_part(*words) for words in parts],
        runs=int(f.get("runs", 0)),
        before=f.get("before", b"").decode(),
        serial=int(f["serial"]),
        after=_after(skew, *after) if after else None,
        change=int(change),
        need=int(f["need"]),
    )


def _part(*words: bytes | None) -> PartRecord:
    state, size, ok, progress, result, why, error, before = ((word or b"") for word in words)
    return PartRecord(
        state=state.decode(),
        size=int(size or 1),
        ok=int(ok or 0),
        progress=progress,
        result=result,
        why=why.decode(),
        error=error.decode("utf-8", "replace"),
        previous=before,
    )


def _after(skew: bytes, *words: bytes | None) -> AfterRecord:
    state, failures, result, ended, due = words
    lines = (line.partition(b" ") for line in (failures or b"").splitlines())
    return AfterRecord(
        state=(state or b"").decode(),
        failures=[
            (when(at, skew) or 0.0, error.decode("utf-8", "replace")) for at, _, error in lines
        ],
        result=result or b"",
        ended=when(ended, skew),
        due=when(due, skew),
    )
