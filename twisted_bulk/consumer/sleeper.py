"""A sleep that somebody can end."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime


class Sleeper:
    """One coroutine sleeps, and others may wake it."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._pause: Deferred[None] | None = None
        self._waking = False

    async def sleep(self, seconds: float) -> None:
        """Wait for so long, or until :meth:`wake` is called."""
        self._pause = Deferred()
        timer = self._clock.callLater(seconds, self._end)
        try:
            await self._pause
        finally:
            if timer.active():
                timer.cancel()

    def wake(self) -> None:
        """End the sleep in the next turn of the reactor; many calls in one turn are one."""
        if not self._waking:
            self._waking = True
            self._clock.callLater(0, self._end)

    def _end(self) -> None:
        self._waking = False
        if self._pause is not None and not self._pause.called:
            self._pause.callback(None)
