"""A small HTTP server of threads, whose clients may be killed."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """One connection; subclasses have ``do_GET`` and ``do_POST``."""

    def body(self) -> bytes:
        """The request's."""
        return self.rfile.read(int(self.headers["Content-Length"]))

    def reply(self, data: bytes, length: int | None = None, code: int = 200) -> None:
        """Answer with ``data``, which may be less than the ``length`` that is said."""
        with contextlib.suppress(OSError):
            self.send_response(code)
            self.send_header("Content-Length", str(len(data) if length is None else length))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Serves at a free port of loopback until it is closed."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, handler: type[Handler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client was killed."""

    def close(self) -> None:
        """Serve no more."""
        self.shutdown()
        self.server_close()
