"""docs/callbacks.md: its receivers, as they stand, and callbacks signed by us."""

import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

from twisted.trial.unittest import SynchronousTestCase

from tests.support.daemon import ROOT
from tests.support.redis_servers import free_port, need
from twisted_bulk.notify.signer import Signer, load_signer

LAST = '{"task_id":"ü.2","schedule":"100","status":"done","download":"http://l/2-1/2.zip","seq":9}'


class SenderTests(SynchronousTestCase):
    """What users copy."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bw"))
        self.signer = load_signer("", self.folder)
        self.port = free_port()

    def receive(self, language: str, name: str, *command: str) -> None:
        """Run the document's program."""
        text = (ROOT / "docs" / "callbacks.md").read_text(encoding="utf-8")
        (code,) = re.findall(rf"```{language}\n(.+?)```", text, re.DOTALL)
        secret = (self.folder / "secret").read_text().strip()
        (self.folder / name).write_text(code.replace("whsec_...", secret), encoding="utf-8")
        program = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.addCleanup(program.wait)
        self.addCleanup(program.kill)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        self.fail("it does not listen")

    def post(self, signer: Signer, data: str = LAST, age: float = 0, changed: str = "") -> int:
        """The status that a callback gets; ``changed`` after it was signed."""
        then = datetime.now(UTC) - timedelta(seconds=age)
        form = "x-www-form-urlencoded"
        headers = {
            "Content-Type": f"application/{'json' if data[0] == '{' else form}",
            "webhook-id": "msg_1",
            "webhook-timestamp": f"{int(then.timestamp())}",
            "webhook-signature": signer.sign("msg_1", then, data),
        }
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/notify.php", (data + changed).encode(), headers
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def check(self) -> None:
        """It takes what is signed, with one of several secrets, too, and nothing else."""
        self.assertEqual(self.post(self.signer), 204)
        self.assertEqual(self.post(self.signer, changed=" "), 403)
        self.assertEqual(self.post(self.signer, age=3600), 403)
        other = Path(tempfile.mkdtemp(prefix="bw"))
        stranger = load_signer("", other)
        self.assertEqual(self.post(stranger), 403)
        both = (other / "secret").read_text() + (self.folder / "secret").read_text()
        (other / "secret").write_text(both)
        self.assertEqual(self.post(load_signer("", other)), 204)

    def test_php(self) -> None:
        """PHP, also for forms."""
        where = f"127.0.0.1:{self.port}"
        self.receive("php", "notify.php", need("php"), "-S", where, "notify.php")
        self.check()
        form = {"task_id": "2", "schedule": "100", "status": "done", "download": ""}
        self.assertEqual(self.post(self.signer, urlencode(form)), 204)

    def test_python(self) -> None:
        """Python without a library."""
        self.receive("python", "notify.py", sys.executable, "notify.py", f"{self.port}")
        self.check()

    def test_node(self) -> None:
        """Node."""
        self.receive("js", "notify.js", need("node"), "notify.js", f"{self.port}")
        self.check()
