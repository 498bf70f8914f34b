"""What the queue should do, as plainly as it can be said: one list of jobs, no indexes."""

from dataclasses import dataclass, field

LIVE = ("todo", "later", "doing")


@dataclass
class ModelJob:
    """A job; ``ripe`` says that the time it waits for has come."""

    id: str
    place: tuple[int, int]  # priority reversed, serial number
    tries: int
    losses: int
    digest: str
    state: str = "todo"
    attempt: int = 0
    free: int = 0
    lost: int = 0
    solo: int = 0
    units: int = 0
    sunits: int = 0
    skept: int = 0
    alone: int = 0
    worker: str = ""
    why: str = ""
    expires: bool = False
    late: bool = False
    ripe: bool = False


@dataclass
class Model:
    """A queue. Time does not pass by itself: :meth:`age` makes what waits ripe."""

    cap: int
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    paused: bool = False
    max_doing: int | None = None
    serial: int = 0
    first: int = 0

    def state(self, state: str) -> list[ModelJob]:
        """Jobs in one state."""
        return [job for job in self.jobs.values() if job.state == state]

    @property
    def backlog(self) -> int:
        """Jobs that have not ended."""
        return sum(job.state in LIVE for job in self.jobs.values())

    def _twin(self, digest: str) -> ModelJob | None:
        twins = [j for j in self.jobs.values() if digest and j.digest == digest and j.state in LIVE]
        return twins[0] if twins else None

    def enqueue(
        self,
        id: str,
        prio: int,
        first: bool,
        later: bool,
        expires: bool,
        tries: int,
        losses: int,
        digest: str,
    ) -> str | None:
        """The id under which it is known, or None: full."""
        if id in self.jobs:
            return id
        twin = self._twin(digest)
        if twin:
            return twin.id
        if self.backlog >= self.cap:
            return None
        if first:
            self.first += 1
        else:
            self.serial += 1
        place = (-prio, -self.first if first else self.serial)
        job = ModelJob(id, place, tries, losses, digest, expires=expires)
        job.state = "later" if later else "todo"
        self.jobs[id] = job
        return id

    def _end(self, job: ModelJob, why: str) -> None:
        job.state, job.why = "dead", why

    def age(self, state: str) -> None:
        """The time of everything that waits in ``state`` has come."""
        for job in self.jobs.values():
            if job.state == state:
                job.ripe = True
            if state == "exp" and job.expires:
                job.late = True

    def pass_time(self) -> None:
        """What happens to what is ripe."""
        for job in self.state("later"):
            if job.ripe:
                job.state, job.ripe = "todo", False
        for job in self.state("doing"):
            if job.ripe:
                self._lose(job, 0, False)
        for job in [*self.state("todo"), *self.state("later")]:
            if job.late:
                self._end(job, "expired")

    def _lose(self, job: ModelJob, kept: int, blamed: bool) -> None:
        job.ripe, job.state = False, "todo"
        if not job.losses:
            job.attempt -= 1
            return
        job.free += 1
        if job.units > job.sunits or kept > job.skept:
            job.sunits, job.skept = job.units, max(kept, job.skept)
            job.lost = job.solo = 0
            return
        job.lost += 1
        if job.alone == 1 or (job.alone == 2 and blamed):
            job.solo += 1
            if job.solo >= job.losses:
                self._end(job, "poison")

    def reserve(self, worker: str, count: int, alone: int = 0) -> list[tuple[str, int]]:
        """Ids and attempts."""
        if self.paused:
            return []
        self.pass_time()
        if self.max_doing is not None:
            count = min(count, self.max_doing - len(self.state("doing")))
        if alone:
            count = min(count, 1)
        line = [job for job in self.state("todo") if (job.lost >= 2) == bool(alone)]
        taken = []
        for job in sorted(line, key=lambda job: job.place)[: max(0, count)]:
            job.state, job.worker, job.ripe, job.alone = "doing", worker, False, alone
            job.expires = job.late = False
            job.attempt += 1
            taken.append((job.id, job.attempt))
        return taken

    def _held(self, worker: str, id: str, attempt: int) -> ModelJob | None:
        job = self.jobs.get(id)
        return job if job and (job.worker, job.attempt) == (worker, attempt) else None

    def ack(self, worker: str, id: str, attempt: int) -> int:
        """As :class:`~twisted_bulk.jobs.model.Acked`."""
        job = self._held(worker, id, attempt)
        if job is None or job.state == "dead":
            return 0
        if job.state == "done":
            return 2
        job.state = "done"
        return 1

    def nack(self, worker: str, id: str, attempt: int, later: bool, fatal: bool) -> bool:
        """Whether it was held."""
        job = self._held(worker, id, attempt)
        if job is None or job.state != "doing":
            return False
        job.ripe = not later
        if fatal or job.attempt - job.free >= job.tries:
            self._end(job, "fatal" if fatal else "retries")
        else:
            job.state = "later"
            job.lost = job.solo = 0
        return True

    def release(self, worker: str, id: str, attempt: int, later: bool) -> int:
        """How many."""
        job = self._held(worker, id, attempt)
        if job is None or job.state != "doing":
            return 0
        job.state, job.worker, job.ripe = "later" if later else "todo", "", False
        job.attempt -= 1
        if job.alone:
            job.lost = job.solo = 0
        return 1

    def reclaim(self, worker: str, kept: int = 0, blamed: bool = False) -> int:
        """How many."""
        held = [job for job in self.state("doing") if job.worker == worker]
        for job in held:
            self._lose(job, kept, blamed)
        return len(held)

    def beat(self, worker: str, id: str, attempt: int, units: int = 0) -> bool:
        """Whether it is still held."""
        job = self._held(worker, id, attempt)
        if job is None or job.state not in ("doing", "todo"):
            return False
        if job.state == "todo":
            job.free -= 1
            job.lost, job.solo = max(0, job.lost - 1), 0
        job.state, job.ripe = "doing", False
        job.units = max(job.units, units)
        return True

    def cancel(self, id: str) -> bool:
        """Whether it had not ended."""
        job = self.jobs.get(id)
        if job is None or job.state not in LIVE:
            return False
        self._end(job, "cancelled")
        return True

    def prioritise(self, id: str, prio: int) -> bool:
        """Whether it had not ended."""
        job = self.jobs.get(id)
        if job is None or job.state not in LIVE:
            return False
        job.place = (-prio, job.place[1])
        return True

    def revive(self, id: str) -> int:
        """As the script says it."""
        job = self.jobs.get(id)
        if job is None or job.state != "dead" or self._twin(job.digest):
            return 0
        if self.backlog >= self.cap:
            return -2
        job.state, job.attempt, job.lost, job.worker, job.why = "todo", 0, 0, "", ""
        job.free = job.solo = job.units = job.sunits = job.skept = job.alone = 0
        job.ripe = job.expires = job.late = False
        return 1
