"""How much memory the processes of a daemon take, at most."""

import threading

from tests.support.daemon import Daemon, status_of


class Peaks:
    """The highest resident memory of a daemon's processes, in MB; looked at ten times a second."""

    def __init__(self, daemon: Daemon) -> None:
        self._pids = {"bulkwav": daemon.process.pid, "its Redis": daemon.redis_pid()}
        self._over = threading.Event()
        self.seen = dict.fromkeys(self._pids, 0.0)
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            for name, pid in self._pids.items():
                self.seen[name] = max(self.seen[name], status_of(pid)["VmRSS"] / 1e6)

    def stop(self) -> str:
        """Look no more; what was seen."""
        self._over.set()
        self._thread.join()
        return ", ".join(f"{name} {size:.0f} MB" for name, size in self.seen.items())
