"""A proxy between workers and Redis that cuts its connections in mid-reply."""

import contextlib
import socket
import threading
from pathlib import Path


class Proxy:
    """Listens on ``path`` and forwards to the unix socket ``target``."""

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self.cuts = 0
        self._target = target
        self._generation = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Let every connection pass half of the next reply, and end it."""
        self._generation += 1
        self.cuts += 1

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(str(self._target))
                except OSError:
                    client.close()
                    continue
                generation = self._generation
                pairs = ((client, server, None), (server, client, generation))
                for source, sink, born in pairs:
                    words = (source, sink, born)
                    threading.Thread(target=self._forward, args=words, daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, born: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if born is not None and born != self._generation:
                    sink.sendall(data[: len(data) // 2])
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
