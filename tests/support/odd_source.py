"""A web server whose files have headers of their own."""

import threading

from tests.support import thread_server


class OddSource:
    """Answers by path: ``files`` has the body and the headers of each.

    ``asked``: the paths, in order. ``held``: those that are answered when ``gate`` is set.
    ``callbacks``: the bodies that were posted.
    """

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.asked: list[str] = []
        self.callbacks: list[bytes] = []
        self.held: set[str] = set()
        self.gate = threading.Event()
        source = self

        class Handler(thread_server.Handler):
            def do_GET(self) -> None:
                source.asked.append(self.path)
                if self.path in source.held:
                    source.gate.wait(30)
                status = 200 if self.path in source.files else 404
                body, headers = source.files.get(self.path, (b"none", {}))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value.encode().decode("latin-1"))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                source.callbacks.append(self.body())
                self.send_response(204)
                self.end_headers()

        self.server = thread_server.Server(Handler)
        self.url = self.server.url

    def close(self) -> None:
        """End it."""
        self.gate.set()
        self.server.close()
