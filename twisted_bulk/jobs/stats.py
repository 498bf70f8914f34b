"""A queue for its operator: counts, rates, the time that it will take."""

from typing import Any

from twisted_bulk.jobs.model import RATE_MINUTES, Stats

#: The names that users see for the states of a job, by their names in the queue.
STATE_NAMES = {
    "todo": "waiting",
    "later": "delayed",
    "doing": "doing",
    "done": "done",
    "dead": "failed",
}
EVENTS = ("enqueued", "duplicate", "started", "done", "retried", "lost", "failed", "expired")


def per_second(stats: Stats, event: str) -> float:
    """How often ``event`` happened in a second, over the minutes in which jobs were started."""
    minutes = stats.minutes[:RATE_MINUTES]
    busy = [n for n, minute in enumerate(minutes) if minute.get("started")]
    if not busy:
        return 0.0
    span = stats.now % 60 + 60 * busy[-1]
    return sum(minute.get(event, 0) for minute in minutes) / max(span, 1.0)


def eta(stats: Stats) -> float | None:
    """Seconds until all jobs have ended, at the present rate; None: the rate is not known."""
    if not stats.backlog:
        return 0.0
    rate = per_second(stats, "units")
    return stats.backlog / rate if rate else None


def job_eta(stats: Stats, place: int) -> float | None:
    """Seconds until a job is done, at the present rate; None: the rate is not known.

    :param place: how many jobs are before it
    """
    rate = per_second(stats, "done")
    return (place + 1 + stats.counts["doing"]) / rate if rate else None


def mean(stats: Stats) -> float | None:
    """The mean time of the jobs that were done in the last minutes, in seconds."""
    minutes = stats.minutes[:RATE_MINUTES]
    done = sum(minute.get("done", 0) for minute in minutes)
    return sum(minute.get("busy", 0) for minute in minutes) / done / 1000 if done else None


SILENT_SECONDS = 5.0  # without a heartbeat; then a worker is taken for one that cannot begin a job


def waits_for(stats: Stats) -> str:
    """Why a job that waits is not begun.

    ``stopped``, ``paused``, ``a worker`` (none is there), the reason of all workers (``hours until
    06:00``, ``room on the disk``), or ``slots`` (a worker could take it, and is busy).
    """
    if stats.settings.get("stop") == "1":
        return "stopped"
    if stats.settings.get("paused") == "1":
        return "paused"
    # Paused or stopped they were a moment ago: their last heartbeat came before it was taken back.
    reasons = [
        "" if worker.waits_for in ("paused", "stopped") else worker.waits_for
        for worker in stats.workers
        if worker.silent < SILENT_SECONDS
    ]
    if not reasons:
        return "a worker"
    return reasons[0] if all(reasons) else "slots"


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def summary(stats: Stats) -> dict[str, Any]:
    """The object of one queue in the answer of ``GET /v1/stats``."""
    minutes = [
        {name: minute.get(name, 0) for name in EVENTS}
        | {
            "mean": _round(
                minute.get("busy", 0) / minute["done"] / 1000 if "done" in minute else None
            )
        }
        for minute in stats.minutes
    ]
    return {
        "counts": {STATE_NAMES[state]: count for state, count in stats.counts.items()},
        "suspects": stats.suspects,
        "waits_for": waits_for(stats),
        "backlog": stats.backlog,
        "eta": _round(eta(stats)),
        "mean": _round(mean(stats)),
        "empty_for": _round(stats.empty),
        "minutes": minutes,
        "settings": {
            name: float(value) if name in ("qps", "max_doing", "cap") else value == "1"
            for name, value in stats.settings.items()
        },
        "workers": [
            {
                "id": w.id,
                "silent": _round(w.silent),
                "holds": w.holds,
                "jobs": w.jobs,
                "waits_for": w.waits_for,
            }
            for w in stats.workers
        ],
    }
