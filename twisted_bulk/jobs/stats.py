"""What an operator sees of a queue: counts, rates, how long it will take. Pure.

The usual words: *waiting* is todo, *delayed* is later, *doing*, *done* is finish, *failed* is dead.
"""

from typing import Any

from twisted_bulk.jobs.model import Stats

WORDS = {"todo": "waiting", "later": "delayed", "doing": "doing", "done": "done", "dead": "failed"}
EVENTS = ("enqueued", "duplicate", "started", "done", "retried", "lost", "failed", "expired")


def per_second(stats: Stats, event: str) -> float:
    """How often ``event`` happened, over the minutes in which the queue was at work."""
    busy = [n for n, minute in enumerate(stats.minutes) if minute.get("started")]
    if not busy:
        return 0.0
    span = stats.now % 60 + 60 * busy[-1]
    return sum(minute.get(event, 0) for minute in stats.minutes) / max(span, 1.0)


def eta(stats: Stats) -> float | None:
    """Seconds until all that is not finished will be, at the present pace; None: no telling."""
    if not stats.backlog:
        return 0.0
    pace = per_second(stats, "units")
    return stats.backlog / pace if pace else None


def job_eta(stats: Stats, place: int) -> float | None:
    """Seconds until the job at ``place`` in line is done, if all go on like the last ones."""
    pace = per_second(stats, "done")
    return (place + 1 + stats.counts["doing"]) / pace if pace else None


def mean(stats: Stats) -> float | None:
    """Seconds that a job takes, of those done in the last minutes."""
    done = sum(minute.get("done", 0) for minute in stats.minutes)
    return sum(minute.get("busy", 0) for minute in stats.minutes) / done / 1000 if done else None


HEARD = 5.0  # seconds of silence after which a worker does not count as one that could begin


def waits_for(stats: Stats) -> str:
    """What keeps a job from being begun: ``stopped``, ``paused``, ``a worker``, what all workers
    wait for (``hours until 06:00``, ``room on the disk``), or ``slots``."""
    if stats.settings.get("stop") == "1":
        return "stopped"
    if stats.settings.get("paused") == "1":
        return "paused"
    reasons = [worker.waits_for for worker in stats.workers if worker.silent < HEARD]
    if not reasons:
        return "a worker"
    return reasons[0] if all(reasons) else "slots"


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def summary(stats: Stats) -> dict[str, Any]:
    """As ``GET /v1/stats`` shows one queue."""
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
        "counts": {WORDS[state]: count for state, count in stats.counts.items()},
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
