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

LOG_SECONDS = 60.0  # after an error was logged, in which further ones of its work are not


def pause_after(pauses: Sequence[float], failures: int) -> float:
    """The pause (seconds) after so many failures in a row; the last one is for all further ones."""
    return pauses[min(failures, len(pauses) - 1)]


class Periodic(Service):
    """Calls ``work`` every ``seconds``, for as long as the service runs.

    After an error of ``work`` the next call comes in its time; a LoopingCall would end. Errors are
    logged, at most one in :data:`LOG_SECONDS`. :class:`~twisted_bulk.errors.Unavailable` is not
    logged: the connection to the queue logs it. There are never two calls at once.

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
        self._message = f"{name} failed"
        self._quiet_until = float("-inf")  # when the next error is logged, on the clock
        self._at_once = at_once
        self._loop = LoopingCall(self._call)
        self._loop.clock = self._clock = clock

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
        now = self._clock.seconds()
        if not failure.check(Unavailable) and now >= self._quiet_until:
            self._quiet_until = now + LOG_SECONDS
            self._log.failure(self._message, failure)
