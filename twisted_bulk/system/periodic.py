"""Work that is repeated in a fixed time, also after an error."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_bulk.errors import Unavailable


def pause_after(pauses: Sequence[float], failures: int) -> float:
    """The pause (seconds) after so many failures in a row; the last one is for all further ones."""
    return pauses[min(failures, len(pauses) - 1)]


class Periodic(Service):
    """Calls ``work`` every ``seconds``, for as long as the service runs.

    An error of ``work`` is logged, and the next call comes in its time; a LoopingCall would end.
    :class:`~twisted_bulk.errors.Unavailable` is not logged: the connection to the queue logs it.
    A call that takes longer than ``seconds`` is followed by the next one in time; there are
    never two at once.

    :param log: the logger of the module that does the work
    :param name: how errors name it: ``{name} failed``
    :param work: a function, or a coroutine function
    :param at_once: whether the first call comes at the start, or ``seconds`` after it
    """

    def __init__(
        self,
        log: Logger,
        clock: IReactorTime,
        seconds: float,
        work: Callable[[], Any],
        *,
        name: str,
        at_once: bool = True,
    ) -> None:
        self._log = log
        self._seconds = seconds
        self._work = work
        self._name = name
        self._at_once = at_once
        self._loop = LoopingCall(self._call)
        self._loop.clock = clock

    def startService(self) -> None:
        super().startService()
        self._loop.start(self._seconds, now=self._at_once)

    def stopService(self) -> None:
        """No further call; one that is under way goes on. May be called again."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()

    def _call(self) -> Deferred[Any]:
        return maybeDeferred(self._work).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(Unavailable):
            self._log.failure("{work} failed", failure, work=self._name)
