"""Asks the queue for jobs, once for as many as there is room for."""

from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime

from twisted_bulk.consumer.acks import AckBuffer
from twisted_bulk.consumer.opening import Opening
from twisted_bulk.consumer.reserve_policy import ReservePolicy
from twisted_bulk.consumer.slots import NO_ROOM
from twisted_bulk.consumer.task import Task
from twisted_bulk.jobs.model import Alone, Reserved, Supply
from twisted_bulk.jobs.protocol import JobQueue


class Reserver:
    """The calls of one worker that take jobs, or give back those that it does not know.

    ``halted``: the last answer was that the queue is stopped. A *doubt* is a call whose outcome is
    unknown: by its record the queue may have given this worker a job that the worker does not know
    of. Before the next reserve such jobs are given back.

    :param worker: id of this process
    :param occupied: slots that are taken by calls that could not be ended
    """

    def __init__(
        self,
        queue: JobQueue,
        worker: str,
        clock: IReactorTime,
        acks: AckBuffer,
        policy: ReservePolicy,
        opening: Opening,
        occupied: Callable[[], int],
    ) -> None:
        self._queue = queue
        self._worker = worker
        self._clock = clock
        self._acks = acks
        self._policy = policy
        self._opening = opening
        self._occupied = occupied
        self.halted = False
        self.doubts = 0

    def doubt(self) -> None:
        """The outcome of a call is unknown."""
        self.doubts += 1

    async def take(self, tasks: Mapping[str, Task]) -> tuple[Reserved, bool]:
        """Take as many jobs as there is room for, after kept acknowledgements were delivered.

        :param tasks: the jobs that run, by id
        :returns: the answer, and whether its job is a suspect, to be run alone
        :raises Unavailable: the queue is away
        """
        await self._acks.deliver()
        if self.halted and tasks:
            return Reserved(Supply.STOP, None, []), False
        now, is_open = self._clock.seconds(), not self._opening.reason
        alone, room = self._policy.room(tasks.values(), self._occupied(), now, is_open)
        if room == NO_ROOM and not self._policy.is_draining(now):
            return Reserved(Supply.BUSY, None, []), False
        wait = self._opening.look()
        if self._opening.reason:
            return Reserved(Supply.CLOSED, wait, []), False
        if self.doubts:
            await self.reconcile(tasks)
        self.doubts = own = self.doubts + 1
        reserved = await self._queue.reserve(
            self._worker, room.count, alone=alone, late=room.late, express=room.express
        )
        if self.doubts == own:  # no other doubt came up meanwhile
            self.doubts = 0
        self.halted = reserved.supply is Supply.STOP
        self._policy.heard(reserved, self._clock.seconds())
        return reserved, alone is not Alone.NO

    async def reconcile(self, tasks: Mapping[str, Task]) -> int:
        """Give back the jobs that the queue has for this worker, but for those that run."""
        return await self._queue.reconcile(self._worker, [task.job for task in tasks.values()])
