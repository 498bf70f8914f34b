"""nginx as a peer, or as the server that files are fetched from."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.support.redis_servers import free_port

CONFIG = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 1;
events {{ worker_connections 15000; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000; {more}
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {root}; }}
}}
"""


class Nginx:
    """nginx with one worker on a free port of loopback, while this context lasts.

    :param folder: for what it writes; others must be able to read it
    :param more: further lines of its ``http`` block
    """

    def __init__(self, folder: Path, root: Path, more: str) -> None:
        folder.chmod(0o755)
        self.port = free_port()
        self._config = folder / "nginx.conf"
        self._config.write_text(CONFIG.format(folder=folder, root=root, port=self.port, more=more))

    @property
    def pids(self) -> list[int]:
        """The master and its worker."""
        master = self._process.pid
        children = Path(f"/proc/{master}/task/{master}/children").read_text()
        return [master, *map(int, children.split())]

    def __enter__(self) -> "Nginx":
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        self._process = subprocess.Popen(
            [program, "-c", str(self._config)], stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 5
        while time.monotonic() < end:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
